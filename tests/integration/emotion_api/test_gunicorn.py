"""The API under the gunicorn that an operator starts, with the repository's configuration."""

import re
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from shared.database import writer_engine
from tests.databases import disposing, make_tables
from tests.postgresql import PostgreSQL
from tests.processes import ROOT, without_settings
from tests.waiting import free_port, wait_until
from tests.web import SUMMARY, Api, gunicorn


def test_gunicorn_serves_health_summary_and_documentation(database_url: str, tmp_path: Path) -> None:
    make_tables(database_url)

    with Api(database_url, tmp_path / "log") as api:
        assert api.ask("/")[:2] == (200, b'{"status":"ok"}')
        summary = api.summary()
        paths = ("/docs", "/redoc", "/openapi.json", "/docs/assets/swagger_bundle.js")
        pages = [api.ask(path).status for path in paths]

    assert summary["device_id"] == "jetson_1"
    assert pages == [200, 200, 200, 200]


@pytest.mark.parametrize(
    "request_line", ["GET / HTTP/1.0", "HEAD /healthz HTTP/1.0", "OPTIONS / HTTP/1.0", "GET /readyz HTTP/1.0"]
)
def test_a_health_check_in_http_1_0_without_a_host_is_answered(
    request_line: str, sqlite_url: str, tmp_path: Path
) -> None:
    make_tables(sqlite_url)

    with (
        Api(sqlite_url, tmp_path / "log") as api,
        socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection,
    ):
        connection.sendall(f"{request_line}\r\n\r\n".encode())
        answer = connection.makefile("rb").read()  # up to the end of the connection

    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")


def test_gunicorn_starts_before_the_database_is_there(sqlite_url: str, tmp_path: Path) -> None:
    with Api(sqlite_url, tmp_path / "log") as api:
        assert api.ask("/").status == 200
        assert api.ask(SUMMARY).status == 503
        make_tables(sqlite_url)
        assert api.ask(SUMMARY).status == 200


def test_an_outage_is_one_line_a_worker_and_so_is_its_end(database_url: str, tmp_path: Path) -> None:
    with Api(database_url, tmp_path / "log") as api:
        unavailable = {api.ask(SUMMARY).status for _ in range(30)}
        make_tables(database_url)
        available = {api.ask(SUMMARY).status for _ in range(30)}

    starts = re.findall(r"\[(\d+)\].* cannot read the database, answering 503 until it can be read: ", api.log())
    ends = re.findall(r"\[(\d+)\].* the database can be read again after \d+\.\d s", api.log())
    assert (unavailable, available) == ({503}, {200})
    assert 1 <= len(starts) <= 2
    assert len(set(starts)) == len(starts)
    assert sorted(ends) == sorted(starts)


def test_gunicorn_goes_on_answering_after_sighup_and_ends_well_after_sigterm(sqlite_url: str, tmp_path: Path) -> None:
    make_tables(sqlite_url)

    with Api(sqlite_url, tmp_path / "log") as api:
        api.ask("/")
        api.signal(signal.SIGHUP)
        wait_until(lambda: api.log().count("Booting worker") == 4, what="new workers")
        assert api.ask(SUMMARY).status == 200
        assert api.stop() == 0

    assert "Traceback" not in api.log()


def test_a_request_that_waits_for_postgresql_does_not_hold_up_the_others(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    database_url = postgresql.new_database()
    make_tables(database_url)

    with (
        disposing(writer_engine(database_url)) as engine,
        Api(database_url, tmp_path / "log") as api,
        ThreadPoolExecutor() as pool,
    ):
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLE person_emotion IN ACCESS EXCLUSIVE MODE"))
            waiting = [pool.submit(api.ask, SUMMARY, timeout=30) for _ in range(4)]  # more than there are workers
            healthy = [api.ask("/", timeout=10).status for _ in range(20)]
            answered = [future for future in waiting if future.done()]
        late = [future.result().status for future in waiting]

    assert healthy == [200] * 20
    assert answered == []
    assert late == [200] * 4


def test_a_wrong_setting_ends_gunicorn_with_one_sentence() -> None:
    result = subprocess.run(
        gunicorn(free_port()),
        cwd=ROOT,
        env=without_settings() | {"EMOTION_MQTT_PORT": "many"},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert result.returncode == 1
    assert "emotion_api cannot start: EMOTION_MQTT_PORT is 'many', but a port is a number" in result.stderr
    assert "Traceback" not in result.stderr
