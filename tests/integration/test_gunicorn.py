"""The API under the gunicorn that an operator starts, with the repository's configuration."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import msgspec
from sqlalchemy import text

from shared.database import writer_engine
from shared.schema import metadata
from tests.postgresql import PostgreSQL
from tests.processes import ROOT
from tests.waiting import accepts_connections, free_port, wait_until

SUMMARY = "/api/dashboard/summary"


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EMOTION_", "GUNICORN_"))}
    return kept | settings


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "emotion_api:create_app()"]


@contextmanager
def gunicorn(port: int, database_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command(port), cwd=ROOT, env=environment(EMOTION_DATABASE_URL=database_url), stderr=stream
        )
    try:
        wait_until(lambda: accepts_connections("127.0.0.1", port), what="gunicorn listens")
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def get(port: int, path: str, timeout: float = 30) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def make_tables(database_url: str) -> None:
    engine = writer_engine(database_url)
    metadata.create_all(engine)
    engine.dispose()


def test_gunicorn_serves_health_summary_and_documentation(database_url: str, tmp_path: Path) -> None:
    make_tables(database_url)
    port = free_port()

    with gunicorn(port, database_url, tmp_path / "log"):
        assert get(port, "/") == (200, b'{"status":"ok"}')
        status, body = get(port, SUMMARY)
        pages = [get(port, path)[0] for path in ("/docs", "/redoc", "/openapi.json", "/docs/assets/swagger_bundle.js")]

    assert status == 200
    assert msgspec.json.decode(body)["device_id"] == "jetson_1"
    assert pages == [200, 200, 200, 200]


def test_gunicorn_starts_before_the_database_is_there(sqlite_url: str, tmp_path: Path) -> None:
    port = free_port()

    with gunicorn(port, sqlite_url, tmp_path / "log"):
        assert get(port, "/")[0] == 200
        assert get(port, SUMMARY)[0] == 503
        make_tables(sqlite_url)
        assert get(port, SUMMARY)[0] == 200


def test_an_outage_is_one_line_a_worker_and_so_is_its_end(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"

    with gunicorn(port, database_url, log):
        wait_until(lambda: log.read_text().count("Booting worker") == 2, what="both workers run")
        unavailable = {get(port, SUMMARY)[0] for _ in range(30)}
        make_tables(database_url)
        available = {get(port, SUMMARY)[0] for _ in range(30)}

    starts = re.findall(r"\[(\d+)\].* cannot read the database, answering 503 until it can be read: ", log.read_text())
    ends = re.findall(r"\[(\d+)\].* the database can be read again after \d+\.\d s", log.read_text())
    assert (unavailable, available) == ({503}, {200})
    assert 1 <= len(starts) <= 2
    assert len(set(starts)) == len(starts)
    assert sorted(ends) == sorted(starts)


def test_gunicorn_goes_on_answering_after_sighup_and_ends_well_after_sigterm(sqlite_url: str, tmp_path: Path) -> None:
    make_tables(sqlite_url)
    port = free_port()
    log = tmp_path / "log"

    with gunicorn(port, sqlite_url, log) as process:
        get(port, "/")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: log.read_text().count("Booting worker") == 4, what="new workers")
        assert get(port, SUMMARY)[0] == 200
        process.terminate()
        assert process.wait(timeout=30) == 0

    assert "Traceback" not in log.read_text()


def test_a_request_that_waits_for_postgresql_does_not_hold_up_the_others(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    database_url = postgresql.new_database()
    make_tables(database_url)
    port = free_port()
    engine = writer_engine(database_url)

    with gunicorn(port, database_url, tmp_path / "log"), ThreadPoolExecutor() as pool:
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE person_emotion IN ACCESS EXCLUSIVE MODE"))
            waiting = [pool.submit(get, port, SUMMARY) for _ in range(4)]  # more than there are workers
            healthy = [get(port, "/", timeout=10)[0] for _ in range(20)]
            answered = [future for future in waiting if future.done()]
        late = [future.result()[0] for future in waiting]
    engine.dispose()

    assert healthy == [200] * 20
    assert answered == []
    assert late == [200] * 4


def test_a_wrong_setting_ends_gunicorn_with_one_sentence() -> None:
    port = free_port()

    result = subprocess.run(
        command(port), cwd=ROOT, env=environment(EMOTION_MQTT_PORT="many"), capture_output=True, text=True, timeout=30
    )

    assert result.returncode == 1
    assert "emotion_api cannot start: EMOTION_MQTT_PORT is 'many', but a port is a number" in result.stderr
    assert "Traceback" not in result.stderr
