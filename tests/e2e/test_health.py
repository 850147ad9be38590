"""What Docker's health check and systemd are told by the real process: the truth, also when it hangs or is gone."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path

import pytest

from emotion_daemon.health import STALE_SECONDS
from shared.batch import encode
from tests.brokers import Broker
from tests.clients import Client
from tests.faults.history import START, TOPICS
from tests.faults.rig import locked
from tests.postgresql import PostgreSQL
from tests.processes import ROOT, Daemon, environment, without_settings
from tests.systemd import NotifySocket
from tests.waiting import wait_until

NOTICED_SECONDS = 15.0
"""How long after it began or ended a trouble may stay unseen."""

TOO_LONG_SECONDS = STALE_SECONDS + 2
"""A file that was not written for so long cannot look fresh."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health"


@pytest.fixture
def daemon(broker: Broker, sqlite_url: str, file: Path, tmp_path: Path) -> Iterator[Daemon]:
    """Running and healthy."""
    with Daemon(broker, sqlite_url, tmp_path / "daemon.log", EMOTION_HEALTH_FILE=str(file)) as started:
        wait_for_line(file, "ok", seconds=30)
        yield started


def health(file: Path) -> tuple[int, str]:
    """What the command says, run as Docker runs it."""
    run = subprocess.run(
        [sys.executable, "-m", "emotion_daemon.health"],
        cwd=ROOT,
        env=without_settings() | {"EMOTION_HEALTH_FILE": str(file)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stderr == ""
    return run.returncode, run.stdout.rstrip("\n")


def wait_for_line(file: Path, *starts: str, seconds: float = NOTICED_SECONDS) -> str:
    """Until the command says a line that starts so; returns that line."""
    said: list[tuple[int, str]] = []

    def is_said() -> bool:
        said.append(health(file))
        return said[-1][1].startswith(starts)

    wait_until(is_said, seconds=seconds, pause=0.5, what=f"a line that starts with {starts}, of {said}")
    code, line = said[-1]
    assert code == (0 if line == "ok" else 1)
    return line


_seconds = count()


def publish(broker: Broker) -> None:
    with Client(broker, "jetson_1") as device:
        stamp = START + timedelta(seconds=next(_seconds))
        device.publish(TOPICS.batch("jetson_1"), encode("jetson_1", stamp, {"anna": {"happy": 1.0}}))


def test_it_is_ok_once_the_daemon_is_subscribed(broker: Broker, sqlite_url: str, file: Path, tmp_path: Path) -> None:
    broker.stop()
    with Daemon(broker, sqlite_url, tmp_path / "daemon.log", EMOTION_HEALTH_FILE=str(file)):
        wait_for_line(file, "cannot reach the broker at ", seconds=30)
        broker.start()
        wait_for_line(file, "ok")


def test_a_broker_that_goes_away_and_comes_back_is_seen(daemon: Daemon, broker: Broker, file: Path) -> None:
    broker.stop()
    wait_for_line(file, "lost the broker at ", "cannot reach the broker at ")
    broker.start()
    wait_for_line(file, "ok")


def test_a_broker_that_stops_without_a_word_is_seen(daemon: Daemon, broker: Broker, file: Path) -> None:
    with paused(broker.pid):
        wait_for_line(file, "the broker at ")
    wait_for_line(file, "ok")


def test_a_commit_that_fails_is_seen_until_one_succeeds(
    daemon: Daemon, broker: Broker, file: Path, sqlite_url: str
) -> None:
    with locked(sqlite_url):
        publish(broker)
        line = wait_for_line(file, "cannot commit: ")
    wait_for_line(file, "ok")

    assert line == "cannot commit: database is locked"


def test_trouble_that_lasts_does_not_look_like_a_daemon_that_hangs(
    daemon: Daemon, broker: Broker, file: Path, sqlite_url: str
) -> None:
    with locked(sqlite_url):
        publish(broker)
        wait_for_line(file, "cannot commit: ")
        broker.stop()
        both = wait_for_line(file, "cannot commit: database is locked; ")
        lines = lines_for(TOO_LONG_SECONDS, file)

    assert "the broker at " in both
    assert [line for line in lines if "cannot commit: database is locked; " not in line] == []


def test_a_daemon_that_is_paused_is_seen_and_is_ok_when_it_goes_on(daemon: Daemon, file: Path) -> None:
    with paused(daemon.pid):
        wait_for_line(file, f"the daemon has not written {file} for ", seconds=STALE_SECONDS + 10)
    wait_for_line(file, "ok")


def test_a_daemon_that_was_killed_is_seen(daemon: Daemon, file: Path) -> None:
    daemon.kill()
    wait_for_line(file, f"the daemon has not written {file} for ", seconds=STALE_SECONDS + 10)


def test_after_an_orderly_stop_there_is_no_file(daemon: Daemon, file: Path) -> None:
    assert daemon.stop() == 0
    assert health(file)[1].startswith(f"there is no {file}: ")


def test_after_an_end_with_a_sentence_there_is_no_file(
    daemon: Daemon, broker: Broker, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "emotion.db").unlink()
    publish(broker)

    assert daemon.wait() == 1
    assert health(file)[1].startswith(f"there is no {file}: ")


def test_a_second_daemon_that_is_refused_leaves_the_file_of_the_first(
    daemon: Daemon, broker: Broker, file: Path, sqlite_url: str, tmp_path: Path
) -> None:
    with Daemon(broker, sqlite_url, tmp_path / "2.log", EMOTION_HEALTH_FILE=str(file)) as second:
        assert second.wait() == 1
    assert health(file) == (0, "ok")


def test_a_database_that_does_not_answer_at_the_start_is_seen(
    broker: Broker, postgresql: PostgreSQL, file: Path, tmp_path: Path
) -> None:
    url = postgresql.new_database()
    with silent_port() as port, NotifySocket(str(tmp_path / "notify")) as systemd:
        nowhere = f"postgresql+psycopg://nobody@127.0.0.1:{port}/emotion"
        log = tmp_path / "daemon.log"
        with Daemon(broker, nowhere, log, EMOTION_HEALTH_FILE=str(file), NOTIFY_SOCKET=systemd.address) as daemon:
            wait_for_line(file, "the database does not answer: ", seconds=30)
            lines = lines_for(TOO_LONG_SECONDS, file)
            before = systemd.heard()
            daemon.stop()
            daemon.start(EMOTION_DATABASE_URL=url)
            wait_for_line(file, "ok", seconds=30)

            assert "READY=1" not in before
            assert systemd.heard().count("READY=1") == 1
    assert [line for line in lines if not line.startswith("the database does not answer: ")] == []


class TestSystemd:
    def test_it_hears_start_beats_troubles_and_end(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
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
            wait_until(lambda: "STATUS=ok" in systemd.heard(), seconds=30, what="it is ok")
            broker.stop()
            wait_until(lambda: "STATUS=lost the broker at " in str(systemd.heard()), what="the trouble is told")
            beats = systemd.heard().count("WATCHDOG=1")
            wait_until(lambda: systemd.heard().count("WATCHDOG=1") >= beats + 4, what="it beats in trouble, too")
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
            wait_until(lambda: "READY=1" in systemd.heard(), seconds=30, what="it is ready")
            wait_until(lambda: "STATUS=cannot reach the broker at " in str(systemd.heard()), what="it says why")

    def test_its_watchdog_hears_no_pause_while_broker_and_database_are_in_trouble(
        self, broker: Broker, sqlite_url: str, tmp_path: Path
    ) -> None:
        log = tmp_path / "daemon.log"
        with (
            NotifySocket(str(tmp_path / "notify")) as systemd,
            Daemon(broker, sqlite_url, log, NOTIFY_SOCKET=systemd.address, WATCHDOG_USEC="8000000"),
        ):
            wait_until(lambda: "STATUS=ok" in systemd.heard(), seconds=30, what="it is ok")
            with locked(sqlite_url):
                publish(broker)
                wait_until(lambda: "STATUS=cannot commit: database is locked" in systemd.heard(), what="it is told")
                with paused(broker.pid):
                    assert longest_pause(systemd, seconds=12) < 8

    def test_it_hears_why_the_daemon_ended(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
        with (
            NotifySocket(str(tmp_path / "notify")) as systemd,
            Daemon(broker, sqlite_url, tmp_path / "daemon.log", NOTIFY_SOCKET=systemd.address) as daemon,
        ):
            wait_until(lambda: "STATUS=ok" in systemd.heard(), seconds=30, what="it is ok")
            (tmp_path / "emotion.db").unlink()
            publish(broker)
            daemon.wait()

            assert systemd.heard()[-2] == "STOPPING=1"
            assert "was deleted or replaced while it was written" in systemd.heard()[-1]


class TestWrongSettings:
    def start(self, broker: Broker, sqlite_url: str, file: Path | str, *command: str) -> tuple[int, str]:
        run = subprocess.run(
            [sys.executable, "-m", "emotion_daemon", *command],
            cwd=ROOT,
            env=environment(broker, sqlite_url) | {"EMOTION_HEALTH_FILE": str(file)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return run.returncode, run.stderr

    @pytest.mark.parametrize(
        ("file", "problem"),
        [
            ("/no/such/folder/health", "names a file in /no/such/folder, but there is no such folder: create it"),
            ("/proc/self/health", "names a file in /proc/self, but this user may not write there"),
        ],
    )
    def test_one_ends_it_with_a_sentence(self, broker: Broker, sqlite_url: str, file: str, problem: str) -> None:
        assert self.start(broker, sqlite_url, file) == (2, f"emotion_daemon: EMOTION_HEALTH_FILE {problem}\n")

    def test_so_does_a_folder(self, broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
        code, said = self.start(broker, sqlite_url, tmp_path)

        assert (code, said) == (
            2,
            f"emotion_daemon: EMOTION_HEALTH_FILE names '{tmp_path}', which is a folder: name a file in it\n",
        )

    def test_the_other_commands_do_not_mind(self, broker: Broker, sqlite_url: str, daemon: Daemon) -> None:
        assert self.start(broker, sqlite_url, "/no/such/folder/health", "rejected") == (0, "")


def lines_for(seconds: float, file: Path) -> list[str]:
    """What the command says during so many seconds."""
    lines: list[str] = []
    end = time.monotonic() + seconds

    def over() -> bool:
        lines.append(health(file)[1])
        return time.monotonic() > end

    wait_until(over, seconds=seconds + 60, pause=0.5)
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

    wait_until(over, seconds=seconds + 60, pause=0.1)
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
