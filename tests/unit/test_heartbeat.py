"""What a health check and systemd are told: real files and a real socket, only the time is the test's own."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_daemon import heartbeat
from emotion_daemon.heartbeat import BEAT_SECONDS, Heartbeat
from tests.systemd import NotifySocket

LOCKED = "cannot commit: database is locked"
GONE = "lost the broker at localhost:1883: timed out"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "health"


@pytest.fixture
def beating(path: Path) -> Iterator[Heartbeat]:
    with Heartbeat(path) as beating:
        yield beating


@pytest.fixture
def healthy(beating: Heartbeat) -> Heartbeat:
    beating.ready()
    beating.broker(None)
    beating.beat(now=0)
    return beating


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@emotion/{os.getpid()}"
    with NotifySocket(address) as listening:
        yield listening


def make_old(path: Path) -> None:
    os.utime(path, (0, 0))


def is_fresh(path: Path) -> bool:
    return time.time() - path.stat().st_mtime < 60


class TestLine:
    def test_it_begins_with_what_is_still_to_be_done(self) -> None:
        assert Heartbeat().line == "the database is not open yet; not subscribed to the broker yet"

    def test_a_database_that_can_be_used_is_half_of_it(self) -> None:
        beating = Heartbeat()
        beating.ready()

        assert beating.line == "not subscribed to the broker yet"

    def test_a_subscription_is_half_of_it(self) -> None:
        beating = Heartbeat()
        beating.broker(None)

        assert beating.line == "the database is not open yet"

    def test_it_is_ok_when_both_are_there(self, healthy: Heartbeat) -> None:
        assert healthy.line == "ok"

    def test_it_names_what_is_wrong(self, healthy: Heartbeat) -> None:
        healthy.database(LOCKED)
        healthy.broker(GONE)

        assert healthy.line == f"{LOCKED}; {GONE}"

    def test_trouble_that_is_over_is_forgotten(self, healthy: Heartbeat) -> None:
        healthy.database(LOCKED)
        healthy.broker(GONE)
        healthy.database(None)
        healthy.broker(None)

        assert healthy.line == "ok"

    def test_it_stays_one_line(self, healthy: Heartbeat) -> None:
        healthy.database("cannot commit:\nWATCHDOG=1\r\n\tREADY=1")

        assert healthy.line == "cannot commit: WATCHDOG=1 READY=1"


class TestFile:
    def test_it_is_there_from_the_start(self, beating: Heartbeat, path: Path) -> None:
        assert path.read_text() == f"{beating.line}\n"

    def test_a_change_is_written_at_once(self, healthy: Heartbeat, path: Path) -> None:
        seen = [path.read_text()]
        healthy.database(LOCKED)
        seen.append(path.read_text())
        healthy.database(None)
        seen.append(path.read_text())

        assert seen == ["ok\n", f"{LOCKED}\n", "ok\n"]

    def test_a_beat_makes_it_new_when_it_is_time(self, healthy: Heartbeat, path: Path) -> None:
        make_old(path)
        healthy.beat(now=BEAT_SECONDS - 0.1)
        before = is_fresh(path)
        healthy.beat(now=BEAT_SECONDS)

        assert (before, is_fresh(path)) == (False, True)

    def test_a_beat_makes_it_new_in_trouble_too(self, healthy: Heartbeat, path: Path) -> None:
        healthy.database(LOCKED)
        healthy.broker(GONE)
        make_old(path)
        healthy.beat(now=BEAT_SECONDS)

        assert is_fresh(path)

    def test_an_early_beat_makes_it_new_and_the_next_one_comes_later(self, healthy: Heartbeat, path: Path) -> None:
        make_old(path)
        healthy.beat(now=1, early=True)
        early = is_fresh(path)
        make_old(path)
        healthy.beat(now=BEAT_SECONDS)

        assert (early, is_fresh(path)) == (True, False)

    def test_one_that_somebody_deleted_comes_back(self, healthy: Heartbeat, path: Path) -> None:
        path.unlink()
        healthy.beat(now=BEAT_SECONDS)

        assert path.read_text() == "ok\n"

    def test_who_has_it_open_reads_the_whole_old_line(self, healthy: Heartbeat, path: Path) -> None:
        with path.open() as reader:
            healthy.database(LOCKED)

            assert reader.read() == "ok\n"

    def test_it_is_gone_at_the_end_and_so_is_what_was_not_finished(self, path: Path) -> None:
        with Heartbeat(path):
            (path.parent / "health.new").touch()

        assert list(path.parent.iterdir()) == []

    def test_it_is_gone_after_an_error_too(self, path: Path) -> None:
        with pytest.raises(RuntimeError), Heartbeat(path):
            raise RuntimeError

        assert not path.exists()

    def test_none_is_written_where_none_is_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with Heartbeat() as silent:
            silent.ready()
            silent.beat(now=0)

        assert list(tmp_path.iterdir()) == []


class TestFileThatCannotBeWritten:
    @pytest.fixture(autouse=True)
    def _gone(self, healthy: Heartbeat, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The folder is gone, as with a tmpfs that was unmounted."""
        caplog.set_level(logging.INFO)
        path.unlink()
        path.parent.rmdir()

    def test_it_is_logged_once_and_stops_nothing(
        self, healthy: Heartbeat, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for second in range(100):
            healthy.beat(now=second)
        healthy.database(LOCKED)

        assert caplog.messages == [
            f"cannot write {path}: No such file or directory; a health check will take us for dead"
        ]

    def test_it_is_written_again_as_soon_as_it_can_be(self, healthy: Heartbeat, path: Path) -> None:
        healthy.database(LOCKED)
        path.parent.mkdir()
        healthy.beat(now=BEAT_SECONDS)

        assert path.read_text() == f"{LOCKED}\n"

    def test_the_next_time_is_logged_again(
        self, healthy: Heartbeat, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        healthy.database(LOCKED)
        path.parent.mkdir()
        healthy.database(None)
        path.unlink()
        path.parent.rmdir()
        healthy.database(LOCKED)

        assert len(caplog.messages) == 2


class TestSystemd:
    def test_it_hears_of_the_start_once(self, systemd: NotifySocket) -> None:
        with Heartbeat(environ={"NOTIFY_SOCKET": systemd.address}) as beating:
            before = systemd.heard()
            beating.ready()
            beating.broker(None)
            beating.database(LOCKED)
            beating.database(None)
            beating.beat(now=0)

            assert "READY=1" not in before
            assert systemd.heard().count("READY=1") == 1

    def test_it_hears_each_line_once(self, systemd: NotifySocket) -> None:
        with Heartbeat(environ={"NOTIFY_SOCKET": systemd.address}) as beating:
            beating.ready()
            for second in range(100):
                beating.broker(None)
                beating.beat(now=second)
            beating.database(LOCKED)

            assert [heard for heard in systemd.heard() if heard.startswith("STATUS=")] == [
                "STATUS=the database is not open yet; not subscribed to the broker yet",
                "STATUS=not subscribed to the broker yet",
                "STATUS=ok",
                f"STATUS={LOCKED}",
            ]

    def test_it_hears_of_the_end(self, systemd: NotifySocket) -> None:
        with Heartbeat(environ={"NOTIFY_SOCKET": systemd.address}) as beating:
            beating.ready()

        assert systemd.heard()[-2:] == ["STOPPING=1", "STATUS=stopped"]

    def test_it_hears_why_it_ended(self, systemd: NotifySocket) -> None:
        with pytest.raises(RuntimeError), Heartbeat(environ={"NOTIFY_SOCKET": systemd.address}):
            raise RuntimeError("emotion.db was\ndeleted")

        assert systemd.heard()[-2:] == ["STOPPING=1", "STATUS=emotion.db was deleted"]

    @pytest.mark.parametrize("own_id", [{}, {"WATCHDOG_PID": str(os.getpid())}])
    def test_its_watchdog_hears_every_beat_in_trouble_too(self, systemd: NotifySocket, own_id: dict[str, str]) -> None:
        environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "30000000", **own_id}
        with Heartbeat(environ=environ) as beating:
            beating.broker(GONE)
            for tenth in range(301):
                beating.beat(now=tenth / 10)

            assert systemd.heard().count("WATCHDOG=1") == 7  # at 0, 5 … 30 s

    def test_a_short_watchdog_hears_four_beats_in_its_time(self, systemd: NotifySocket) -> None:
        with Heartbeat(environ={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "8000000"}) as beating:
            for tenth in range(80):
                beating.beat(now=tenth / 10)

            assert systemd.heard().count("WATCHDOG=1") == 4

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "-1"},
            {"WATCHDOG_USEC": "soon"},
        ],
    )
    def test_without_a_watchdog_of_ours_it_hears_no_beats(self, systemd: NotifySocket, environ: dict[str, str]) -> None:
        with Heartbeat(environ=environ | {"NOTIFY_SOCKET": systemd.address}) as beating:
            for second in range(100):
                beating.beat(now=second)

            assert "WATCHDOG=1" not in systemd.heard()

    @pytest.mark.parametrize("address", ["/no/such/socket", "@nobody listens here", "/" + "x" * 200, "\udcff"])
    def test_nobody_who_listens_is_no_trouble(self, path: Path, address: str) -> None:
        with Heartbeat(path, {"NOTIFY_SOCKET": address}) as beating:
            beating.ready()

            assert path.read_text() == f"{beating.line}\n"

    def test_one_that_does_not_read_does_not_stop_us(
        self, systemd: NotifySocket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(heartbeat, "SEND_SECONDS", 0.001)
        with Heartbeat(environ={"NOTIFY_SOCKET": systemd.address}) as beating:
            for number in range(1_000):  # the kernel keeps 10, or with systemd 512
                beating.database(f"trouble {number}")

        assert len(systemd.heard()) < 1_000
