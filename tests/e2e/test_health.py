"""The real process tells /readyz, /healthz and systemd the truth, also when it hangs or is gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from itertools import count, pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from emotion_daemon.monitoring.heartbeat import HANGING_SECONDS, STALE_SECONDS
from shared.batch import encode
from shared.schema import person_emotion
from tests.brokers import Broker
from tests.clients import Client
from tests.databases import reading
from tests.faults.history import START, TOPICS
from tests.faults.rig import locked
from tests.integration.emotion_admin.doctor.examining import examined
from tests.postgresql import PostgreSQL
from tests.processes import ROOT, Daemon, environment
from tests.systemd import NotifySocket
from tests.waiting import DEADLINE_SECONDS, free_port, slowness, wait_until

NOTICED_SECONDS = 15.0
"""Seconds for which the begin or end of an outage may stay unseen, on a machine that has the time to look."""

START_SECONDS = 30.0
"""The same for a daemon that is only starting."""

TOO_LONG_SECONDS = STALE_SECONDS + 2
"""A loop that has not turned for so long is seen to hang."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def daemon(broker: Broker, sqlite_url: str, port: int, tmp_path: Path) -> Iterator[Daemon]:
    """Running and healthy."""
    with Daemon(broker, sqlite_url, tmp_path / "daemon.log", **answering_at(port)) as started:
        wait_for_line(port, "ok", seconds=START_SECONDS)
        yield started


def answering_at(port: int) -> dict[str, str]:
    return {"EMOTION_DAEMON_HTTP_ADDRESS": f"127.0.0.1:{port}"}


def ask(port: int, path: str = "/readyz", *, timeout: float = DEADLINE_SECONDS) -> tuple[int, str]:
    """Status and line of the answer; 0 and the reason if there is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().rstrip("\n")
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()


def wait_for_line(port: int, *starts: str, seconds: float = NOTICED_SECONDS) -> str:
    """Until /readyz says a line that starts so; returns that line."""
    said: list[tuple[int, str]] = []

    def is_said() -> bool:
        said.append(ask(port))
        return said[-1][1].startswith(starts)

    wait_until(is_said, seconds=seconds, pause=0.1, what=f"a line that starts with {starts}, of {said}")
    status, line = said[-1]
    assert status in (200 if line == "ok" else 503, 0)
    return line


_seconds = count()


def publish(broker: Broker) -> None:
    with Client(broker, "jetson_1") as device:
        stamp = START + timedelta(seconds=next(_seconds))
        device.publish(TOPICS.batch("jetson_1"), encode("jetson_1", stamp, {"anna": {"happy": 1.0}}))


def test_it_is_ok_once_the_daemon_is_subscribed(broker: Broker, sqlite_url: str, port: int, tmp_path: Path) -> None:
    broker.stop()
    with Daemon(broker, sqlite_url, tmp_path / "daemon.log", **answering_at(port)):
        wait_for_line(port, "cannot reach the broker at ", seconds=START_SECONDS)
        broker.start()
        wait_for_line(port, "ok")


def test_a_broker_that_goes_away_and_comes_back_is_seen(daemon: Daemon, broker: Broker, port: int) -> None:
    broker.stop()
    wait_for_line(port, "lost the broker at ", "cannot reach the broker at ")
    broker.start()
    wait_for_line(port, "ok")


def test_a_broker_that_stops_without_a_word_is_seen(daemon: Daemon, broker: Broker, port: int) -> None:
    with paused(broker.pid):
        wait_for_line(port, "the broker at ")
    wait_for_line(port, "ok")


def test_a_commit_that_fails_is_seen_until_one_succeeds(
    daemon: Daemon, broker: Broker, port: int, sqlite_url: str
) -> None:
    with locked(sqlite_url):
        publish(broker)
        line = wait_for_line(port, "cannot commit: ")
    wait_for_line(port, "ok")

    assert line == "cannot commit: database is locked"


def test_an_outage_that_lasts_does_not_look_like_a_daemon_that_hangs(
    daemon: Daemon, broker: Broker, port: int, sqlite_url: str
) -> None:
    with locked(sqlite_url):
        publish(broker)
        wait_for_line(port, "cannot commit: ")
        broker.stop()
        both = wait_for_line(port, "cannot commit: database is locked; ")
        lines = lines_for(TOO_LONG_SECONDS, port)

    assert "the broker at " in both
    assert [line for line in lines if "cannot commit: database is locked; " not in line] == []


def test_a_daemon_that_is_paused_does_not_answer_and_is_ok_when_it_goes_on(daemon: Daemon, port: int) -> None:
    with paused(daemon.pid):
        said = ask(port, timeout=4)
    wait_for_line(port, "ok")

    assert said == (0, "timed out")


def test_nobody_answers_for_a_daemon_that_has_ended(daemon: Daemon, port: int) -> None:
    assert daemon.stop() == 0
    assert ask(port) == (0, "[Errno 111] Connection refused")


def test_a_second_daemon_that_is_refused_leaves_the_first_alone(
    daemon: Daemon, broker: Broker, port: int, sqlite_url: str, tmp_path: Path
) -> None:
    with Daemon(broker, sqlite_url, tmp_path / "2.log", **answering_at(port)) as second:
        assert second.wait() == 1
    assert ask(port) == (200, "ok")


def test_an_outage_is_no_reason_for_a_restart(daemon: Daemon, broker: Broker, port: int) -> None:
    broker.stop()
    wait_for_line(port, "lost the broker at ", "cannot reach the broker at ")

    assert ask(port, "/healthz") == (200, "ok")


def test_a_database_that_does_not_answer_at_the_start_is_seen(
    broker: Broker, postgresql: PostgreSQL, port: int, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    with silent_port() as silent, NotifySocket(str(tmp_path / "notify")) as systemd:
        nowhere = f"postgresql+psycopg://reader@127.0.0.1:{silent}/emotion"
        log = tmp_path / "daemon.log"
        with Daemon(broker, nowhere, log, **answering_at(port), NOTIFY_SOCKET=systemd.address) as daemon:
            wait_for_line(port, "the database does not answer: ", seconds=START_SECONDS)
            lines = lines_for(TOO_LONG_SECONDS, port)
            before = systemd.heard()
            daemon.stop()
            daemon.start(EMOTION_DATABASE_URL=url)
            wait_for_line(port, "ok", seconds=START_SECONDS)

            assert "READY=1" not in before
            assert systemd.heard().count("READY=1") == 1
    assert [line for line in lines if not line.startswith("the database does not answer: ")] == []


def test_a_commit_that_waits_for_its_standby_is_seen_and_returns(
    broker: Broker, own_postgresql: PostgreSQL, port: int, tmp_path: Path
) -> None:
    """The standby does not exist. Once none is wanted any more, the commit that waited is stored."""
    url = own_postgresql.new_database()
    with Daemon(broker, url, tmp_path / "daemon.log", **answering_at(port)):
        wait_for_line(port, "ok", seconds=START_SECONDS)
        own_postgresql.configure("synchronous_standby_names", "nowhere")
        publish(broker)
        wait_for_line(port, "waiting for the database for ")
        metric = next(
            line for line in ask(port, "/metrics")[1].splitlines() if line.startswith("emotion_database_wait_seconds ")
        )
        found = examined(broker, url, answering_at(port))
        own_postgresql.configure("synchronous_standby_names", "")
        wait_for_line(port, "ok")

    assert float(metric.split()[1]) >= HANGING_SECONDS
    assert "has waited" in found["database writes"].found
    assert found["database commits"].found == "a synchronous standby does not confirm commits; waiting for it now: 1"
    with reading(url) as connection:
        assert connection.scalar(select(person_emotion.c.time_happy)) == 1.0


class TestSystemd:
    def test_it_hears_start_beats_outages_and_end(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
        with (
            NotifySocket(str(tmp_path / "notify")) as systemd,
            Daemon(
                broker,
                sqlite_url,
                tmp_path / "daemon.log",
                NOTIFY_SOCKET=systemd.address,
                WATCHDOG_USEC="4000000",
            ) as daemon,
        ):
            wait_until(lambda: "STATUS=ok" in systemd.heard(), what="it is ok")
            broker.stop()
            wait_until(lambda: "STATUS=lost the broker at " in str(systemd.heard()), what="the outage is told")
            beats = systemd.heard().count("WATCHDOG=1")
            wait_until(lambda: systemd.heard().count("WATCHDOG=1") >= beats + 4, what="it beats during an outage, too")
            daemon.stop()
            heard = systemd.heard()

        assert heard.count("READY=1") == 1
        assert heard.index("READY=1") < heard.index("STATUS=ok")
        assert heard[-2:] == ["STOPPING=1", "STATUS=stopped"]

    def test_it_is_ready_without_a_broker(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
        broker.stop()
        with (
            NotifySocket(str(tmp_path / "notify")) as systemd,
            Daemon(broker, sqlite_url, tmp_path / "daemon.log", NOTIFY_SOCKET=systemd.address),
        ):
            wait_until(lambda: "READY=1" in systemd.heard(), what="it is ready")
            wait_until(lambda: "STATUS=cannot reach the broker at " in str(systemd.heard()), what="it says why")

    def test_its_watchdog_hears_no_pause_during_an_outage_of_broker_and_database(
        self, broker: Broker, sqlite_url: str, tmp_path: Path
    ) -> None:
        log = tmp_path / "daemon.log"
        with (
            NotifySocket(str(tmp_path / "notify")) as systemd,
            Daemon(broker, sqlite_url, log, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="8000000"),
        ):
            wait_until(lambda: "STATUS=ok" in systemd.heard(), what="it is ok")
            with locked(sqlite_url):
                publish(broker)
                wait_until(lambda: "STATUS=cannot commit: database is locked" in systemd.heard(), what="it is told")
                with paused(broker.pid):
                    assert longest_pause(systemd, seconds=12) < 8 * slowness()

    def test_it_hears_why_the_daemon_ended(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
        with (
            NotifySocket(str(tmp_path / "notify")) as systemd,
            Daemon(broker, sqlite_url, tmp_path / "daemon.log", NOTIFY_SOCKET=systemd.address) as daemon,
        ):
            wait_until(lambda: "STATUS=ok" in systemd.heard(), what="it is ok")
            (tmp_path / "emotion.db").unlink()
            publish(broker)
            daemon.wait()

            assert systemd.heard()[-2] == "STOPPING=1"
            assert "was deleted or replaced while the daemon wrote it" in systemd.heard()[-1]


def last_batch(port: int) -> float | None:
    """Return the time of jetson_1's last batch from /metrics."""
    name = 'emotion_device_last_batch_timestamp_seconds{device_id="jetson_1"} '
    found = [line for line in ask(port, "/metrics")[1].splitlines() if line.startswith(name)]
    return float(found[0].removeprefix(name)) if found else None


def test_a_restart_forgets_no_silence(daemon: Daemon, broker: Broker, port: int) -> None:
    began = time.time()
    publish(broker)
    wait_until(lambda: last_batch(port) is not None, what="the batch is told")
    before = last_batch(port)
    daemon.stop()
    daemon.start()
    wait_for_line(port, "ok", seconds=START_SECONDS)

    assert before is not None
    assert began <= before <= time.time()
    assert last_batch(port) == pytest.approx(before, abs=1e-3)


def test_an_address_that_is_taken_ends_it_with_a_sentence(broker: Broker, sqlite_url: str) -> None:
    with silent_port() as taken:
        run = subprocess.run(
            [sys.executable, "-m", "emotion_daemon"],
            cwd=ROOT,
            env=environment(broker, sqlite_url) | answering_at(taken),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert run.returncode == 2
    assert run.stderr.endswith(
        f"emotion_daemon: EMOTION_DAEMON_HTTP_ADDRESS is 127.0.0.1:{taken}, but the daemon cannot listen there: "
        "Address already in use\n"
    )


def lines_for(seconds: float, port: int) -> list[str]:
    """Return the lines of /readyz during so many seconds."""
    lines: list[str] = []
    end = time.monotonic() + seconds

    def over() -> bool:
        lines.append(ask(port)[1])
        return time.monotonic() > end

    wait_until(over, seconds=seconds + DEADLINE_SECONDS, pause=0.5)
    return lines


def longest_pause(systemd: NotifySocket, *, seconds: float) -> float:
    """The longest time between two beats, of so many seconds."""
    end = time.monotonic() + seconds
    seen = [(time.monotonic(), systemd.heard().count("WATCHDOG=1"))]

    def over() -> bool:
        now, beats = time.monotonic(), systemd.heard().count("WATCHDOG=1")
        if beats > seen[-1][1]:
            seen.append((now, beats))
        return now > end

    wait_until(over, seconds=seconds + DEADLINE_SECONDS, pause=0.1)
    moments = [at for at, _ in seen] + [time.monotonic()]
    return max(after - before for before, after in pairwise(moments))


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process stands still for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
