"""The daemon as a process, with a real broker: what the broker acknowledged is stored, whatever happens in between."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from shared.batch import encode
from shared.database import sqlite_path
from shared.schema import device, device_total, rejected_message
from tests.brokers import Broker
from tests.clients import Client
from tests.databases import reading
from tests.examples import README_PAYLOAD
from tests.faults.history import START, TOPICS, Fleet, stored_rows
from tests.faults.rig import SUBSCRIBED, Rig, locked, running
from tests.postgresql import PostgreSQL
from tests.processes import DAEMON, ROOT, Daemon, environment
from tests.waiting import wait_until


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


@pytest.fixture
def daemon(broker: Broker, sqlite_url: str, log: Path) -> Iterator[Daemon]:
    """Running and subscribed."""
    with Daemon(broker, sqlite_url, log) as started:
        started.wait_for_log(SUBSCRIBED)
        yield started


def mosquitto_pub(broker: Broker, *arguments: str) -> None:
    program = shutil.which("mosquitto_pub")
    assert program, "the tests need mosquitto_pub: apt-get install mosquitto-clients"
    subprocess.run([program, "-h", broker.host, "-p", str(broker.port), "-q", "1", *arguments], check=True, timeout=30)


def test_the_documented_payload_is_stored_exactly(daemon: Daemon, broker: Broker, sqlite_url: str) -> None:
    mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
    stored = wait_until(lambda: stored_rows(sqlite_url), what="the row is there")

    stamp = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)
    assert stored == {("jetson_1", "1"): (123.5, 20.0, 10.0, 0.0, stamp)}
    with reading(sqlite_url) as connection:
        devices = connection.execute(select(device)).all()
    assert devices == [("jetson_1", None, stamp)]


def test_a_log_that_nobody_reads_stops_nothing(broker: Broker, sqlite_url: str) -> None:
    """64 KiB fill its pipe: the first batches of 560 devices."""
    process = subprocess.Popen(DAEMON, cwd=ROOT, env=environment(broker, sqlite_url), stderr=subprocess.PIPE)
    try:
        with Client(broker, "fleet") as client:
            wait_until(lambda: "SUBSCRIBE from emotion-daemon" in broker.log(), what="it is subscribed")
            for number in range(1_000):
                client.send(TOPICS.batch(f"camera_{number}"), encode(f"camera_{number}", START, {"1": {"happy": 1.0}}))
            client.wait_for_pubacks()

        wait_until(lambda: len(stored_rows(sqlite_url)) == 1_000, what="all is stored")
    finally:
        process.kill()
        process.communicate()


def test_who_asks_is_answered_after_the_commit(daemon: Daemon, broker: Broker, sqlite_url: str) -> None:
    with Client(broker, "jetson_1") as client:
        client.listen("emotions/jetson_1/reply")
        client.publish(
            "emotions/jetson_1/batch",
            README_PAYLOAD.encode(),
            response_topic="emotions/jetson_1/reply",
            correlation_data=b"42",
        )
        (reply,) = wait_until(lambda: client.seen, what="the reply arrives")
        stored = stored_rows(sqlite_url)

    assert (reply.payload, reply.correlation_data) == (b'{"status":"ok","updated_count":1}', b"42")
    assert len(stored) == 1


def test_everyone_who_asked_while_it_was_away_is_answered(daemon: Daemon, broker: Broker, sqlite_url: str) -> None:
    daemon.stop()
    reply_topic = TOPICS.reply("jetson_1")
    with Client(broker) as device:
        device.listen(reply_topic)
        for number in range(1_500):  # more than the broker sends ahead of a SUBACK, and more than paho has in flight
            payload = encode("jetson_1", START + timedelta(seconds=number), {"anna": {"happy": float(number)}})
            device.send(TOPICS.batch("jetson_1"), payload, response_topic=reply_topic)
        device.wait_for_pubacks()
        daemon.start()
        wait_until(lambda: len(device.seen) >= 1_500, what="1,500 answers")

    assert {seen.payload for seen in device.seen} == {b'{"status":"ok","updated_count":1}'}


def test_what_is_no_batch_is_recorded_and_does_not_stop_what_is(
    daemon: Daemon, broker: Broker, sqlite_url: str
) -> None:
    mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", "{")
    mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-n")
    mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
    wait_until(lambda: stored_rows(sqlite_url), what="the valid batch is there")

    with reading(sqlite_url) as connection:
        payloads = list(connection.scalars(select(rejected_message.c.payload).order_by(rejected_message.c.id)))
    assert payloads == [b"{", b""]


def test_where_only_totals_are_stored_people_from_before_become_totals_and_nobody_is_stored(
    broker: Broker, sqlite_url: str, log: Path
) -> None:
    with Daemon(broker, sqlite_url, log) as daemon:
        daemon.wait_for_log(SUBSCRIBED)
        mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
        wait_until(lambda: stored_rows(sqlite_url), what="the row is there")
        daemon.stop()
    retention = {"EMOTION_PEOPLE_RETENTION_DAYS": "30", "EMOTION_HISTORY_RETENTION_DAYS": "400"}
    with Daemon(broker, sqlite_url, log, EMOTION_TOTALS_ONLY="true", **retention) as daemon:
        daemon.wait_for_log("the daemon has added the seconds of 1 people to the totals of their devices")
        for index in (1, 2):
            payload = encode("jetson_2", START + timedelta(seconds=index), {"1": {"happy": 7.0 + index}})
            mosquitto_pub(broker, "-t", "emotions/jetson_2/batch", "-m", payload.decode())
        wait_until(lambda: "jetson_2" in _totals(sqlite_url), what="what was shown is counted")
        daemon.stop()

    assert stored_rows(sqlite_url) == {}
    assert _totals(sqlite_url) == {"jetson_1": (123.5, 20, 10, 0), "jetson_2": (1, 0, 0, 0)}


def _totals(url: str) -> dict[str, tuple[float, ...]]:
    with reading(url) as connection:
        rows = connection.execute(select(device_total)).all()
    return {device_id: tuple(seconds) for device_id, *seconds in rows if any(seconds)}


def test_sigint_ends_it_like_sigterm(daemon: Daemon) -> None:
    daemon.signal(signal.SIGINT)

    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log()


def test_what_was_stored_before_a_stop_does_not_come_again(daemon: Daemon, broker: Broker, sqlite_url: str) -> None:
    mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
    wait_until(lambda: stored_rows(sqlite_url), what="the row is there")
    daemon.stop()
    daemon.start()
    daemon.wait_for_log("session resumed")
    mosquitto_pub(broker, "-t", "emotions/jetson_2/batch", "-m", README_PAYLOAD.replace("jetson_1", "jetson_2"))
    wait_until(lambda: len(stored_rows(sqlite_url)) == 2, what="the next batch is there")

    assert daemon.log().count("first batch from jetson_1") == 1


def test_a_second_signal_leaves_at_once(daemon: Daemon, broker: Broker, sqlite_url: str) -> None:
    with locked(sqlite_url):
        mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
        daemon.wait_for_log("cannot commit")
        daemon.signal(signal.SIGTERM)
        daemon.signal(signal.SIGINT)  # of two alike, the kernel may deliver one
        code = daemon.wait()

    assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_a_stop_while_the_database_is_locked_leaves_the_group_with_the_broker(
    broker: Broker, database_url: str, log: Path
) -> None:
    with Daemon(broker, database_url, log) as daemon:
        daemon.wait_for_log(SUBSCRIBED)
        with locked(database_url):
            mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
            daemon.wait_for_log("cannot commit")
            daemon.signal(signal.SIGTERM)
            code = daemon.wait(seconds=10)  # after which an orchestrator kills
        before = stored_rows(database_url)
        daemon.start()
        wait_until(lambda: stored_rows(database_url), what="the row is there")

    assert (code, before) == (0, {})
    assert "cannot commit the last 1 messages; the broker sends them again at the next start" in log.read_text()


def test_a_locked_database_loses_nothing(broker: Broker, sqlite_url: str, log: Path) -> None:
    with running(broker, sqlite_url, log) as rig:
        with locked(sqlite_url):
            rig.daemon.wait_for_log("cannot commit")
            rig.fleet.wait_for_more(1_500)  # more than the broker may send ahead
        rig.check()

        assert "committing again after" in rig.daemon.log()


def test_a_broker_that_is_down_at_the_start_is_waited_for(broker: Broker, sqlite_url: str, log: Path) -> None:
    broker.stop()
    with Daemon(broker, sqlite_url, log) as daemon:
        daemon.wait_for_log("cannot reach the broker")
        broker.start()
        daemon.wait_for_log(SUBSCRIBED)
        mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
        wait_until(lambda: stored_rows(sqlite_url), what="the row is there")

        assert daemon.stop() == 0


def test_a_daemon_that_waits_for_its_broker_stops_when_asked(broker: Broker, sqlite_url: str, log: Path) -> None:
    broker.stop()
    with Daemon(broker, sqlite_url, log) as daemon:
        daemon.wait_for_log("cannot reach the broker")

        assert daemon.stop() == 0


def test_its_import_loads_neither_alembic_nor_the_operators_commands() -> None:
    """alembic takes as long as all the rest, and the daemon needs it only for the upgrade."""
    program = "import sys, emotion_daemon.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert {"alembic", "mako", "psycopg", "emotion_admin", "emotion_api"}.isdisjoint(run.stdout.split())


class TestWrongSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("EMOTION_MQTT_PORT", "99999"),
            ("EMOTION_MQTT_TOPIC_PREFIX", "#"),
            ("EMOTION_DATABASE_URL", "mysql://root@localhost/emotion"),
            ("EMOTION_DATABASE_URL", "sqlite:////no/such/folder/emotion.db"),
            ("EMOTION_LOG_LEVEL", "LOUD"),
            ("EMOTION_MQTT_TLS_CA", "pyproject.toml"),
        ],
    )
    def test_one_ends_it_with_a_sentence(self, broker: Broker, sqlite_url: str, name: str, value: str) -> None:
        run = subprocess.run(
            [sys.executable, "-m", "emotion_daemon"],
            cwd=ROOT,
            env=environment(broker, sqlite_url) | {name: value},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert run.returncode == 2
        assert run.stderr.startswith(f"emotion_daemon: {name} ")
        assert run.stderr.count("\n") == 1

    def test_an_unknown_variable_is_a_warning(self, broker: Broker, sqlite_url: str, log: Path) -> None:
        with Daemon(broker, sqlite_url, log, EMOTION_MQTT_PROT="1884") as daemon:
            daemon.wait_for_log(SUBSCRIBED)

            assert (
                "EMOTION_MQTT_PROT is not a setting and does nothing; did you mean EMOTION_MQTT_PORT?" in daemon.log()
            )

    def test_a_password_is_not_logged(self, broker: Broker, sqlite_url: str, log: Path) -> None:
        secret = {"EMOTION_MQTT_USERNAME": "emotion-daemon", "EMOTION_MQTT_PASSWORD": "correct horse"}
        with Daemon(broker, sqlite_url, log, EMOTION_LOG_LEVEL="DEBUG", **secret) as daemon:
            daemon.wait_for_log(SUBSCRIBED)

            assert "correct horse" not in daemon.log()


def test_a_database_of_a_newer_version_is_left_alone(broker: Broker, sqlite_url: str, log: Path) -> None:
    with Daemon(broker, sqlite_url, log) as daemon:
        daemon.wait_for_log(SUBSCRIBED)
        daemon.stop()
        path = sqlite_path(sqlite_url)
        assert path is not None
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        daemon.start()

        assert daemon.wait() == 1
        assert "the database is from a newer version of this program" in daemon.log()
        assert "Traceback" not in daemon.log()


def test_a_file_that_is_no_database_ends_it_and_is_left_as_it_is(
    broker: Broker, sqlite_url: str, log: Path, tmp_path: Path
) -> None:
    (tmp_path / "emotion.db").write_text("not a database " * 100)
    with Daemon(broker, sqlite_url, log) as daemon:
        code = daemon.wait()

    assert code == 1
    assert "file is not a database" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (tmp_path / "emotion.db").read_text() == "not a database " * 100


def test_of_two_daemons_that_start_together_on_one_sqlite_file_one_ends_with_a_sentence(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    first = Daemon(broker, sqlite_url, tmp_path / "1.log", EMOTION_MQTT_CLIENT_ID="one")
    second = Daemon(broker, sqlite_url, tmp_path / "2.log", EMOTION_MQTT_CLIENT_ID="two")
    with first, second:
        wait_until(lambda: SUBSCRIBED in first.log() + second.log(), what="one of them is subscribed")
        alive, ended = (first, second) if SUBSCRIBED in first.log() else (second, first)
        codes = ended.wait(), alive.stop()

    assert codes == (1, 0)
    assert "another daemon is running on" in ended.log()
    assert "Traceback" not in ended.log()


def test_two_daemons_that_start_together_on_an_empty_postgresql_both_work(
    broker: Broker, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    first = Daemon(broker, url, tmp_path / "1.log", EMOTION_MQTT_CLIENT_ID="one")
    second = Daemon(broker, url, tmp_path / "2.log", EMOTION_MQTT_CLIENT_ID="two")
    with first, second:
        first.wait_for_log(SUBSCRIBED)
        second.wait_for_log(SUBSCRIBED)
        with Fleet(broker) as fleet:
            fleet.wait_for_more(200)
            Rig(broker, first, url, fleet).check()
        codes = first.stop(), second.stop()

    assert codes == (0, 0)


def test_a_batch_that_comes_when_the_database_file_was_deleted_is_in_the_next_one(
    broker: Broker, sqlite_url: str, daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "emotion.db").unlink()
    mosquitto_pub(broker, "-t", "emotions/jetson_1/batch", "-m", README_PAYLOAD)
    code = daemon.wait()
    (tmp_path / "emotion.db-wal").unlink(missing_ok=True)
    (tmp_path / "emotion.db-shm").unlink(missing_ok=True)
    daemon.start()
    daemon.wait_for_log(SUBSCRIBED, times=2)

    assert code == 1
    assert "was deleted or replaced" in daemon.log()
    wait_until(lambda: stored_rows(sqlite_url), what="the batch is stored")
