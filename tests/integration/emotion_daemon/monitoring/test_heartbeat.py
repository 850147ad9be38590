"""/healthz, /readyz and systemd learn the daemon's state. The socket is real, only the time is the test's own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_daemon.monitoring import heartbeat
from emotion_daemon.monitoring.heartbeat import HANGING_SECONDS, STALE_SECONDS, Heartbeat
from tests.fakes import Clock
from tests.systemd import NotifySocket

LOCKED = "cannot commit: database is locked"
GONE = "lost the broker at localhost:1883: timed out"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def beating(clock: Clock) -> Iterator[Heartbeat]:
    with Heartbeat(monotonic=clock) as beating:
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

    def test_an_outage_that_is_over_is_forgotten(self, healthy: Heartbeat) -> None:
        healthy.database(LOCKED)
        healthy.broker(GONE)
        healthy.database(None)
        healthy.broker(None)

        assert healthy.line == "ok"

    def test_it_stays_one_line(self, healthy: Heartbeat) -> None:
        healthy.database("cannot commit:\nWATCHDOG=1\r\n\tREADY=1")

        assert healthy.line == "cannot commit: WATCHDOG=1 READY=1"


class TestAlive:
    def test_it_is_while_the_loop_turns(self, healthy: Heartbeat, clock: Clock) -> None:
        clock.seconds = STALE_SECONDS - 0.1
        before = healthy.alive
        healthy.beat(now=clock.seconds)
        clock.seconds += STALE_SECONDS - 0.1

        assert (before, healthy.alive) == ("ok", "ok")

    def test_a_loop_that_stands_still_is_told(self, healthy: Heartbeat, clock: Clock) -> None:
        clock.seconds = STALE_SECONDS

        assert healthy.alive == "the daemon's loop has not turned for 15 s: it hangs"

    def test_it_is_during_an_outage_too(self, healthy: Heartbeat) -> None:
        healthy.database(LOCKED)
        healthy.broker(GONE)

        assert healthy.alive == "ok"

    def test_it_counts_from_the_start(self, beating: Heartbeat, clock: Clock) -> None:
        before = beating.alive
        clock.seconds = 40

        assert (before, beating.alive) == ("ok", "the daemon's loop has not turned for 40 s: it hangs")

    def test_it_is_ready_with_its_line_while_it_turns(self, healthy: Heartbeat, clock: Clock) -> None:
        ready = healthy.ready_line
        healthy.database(LOCKED)
        outage = healthy.ready_line
        clock.seconds = 100

        assert (ready, outage, healthy.ready_line) == ("ok", LOCKED, healthy.alive)


class TestWaiting:
    def test_a_long_wait_for_the_database_is_not_ready(self, healthy: Heartbeat, clock: Clock) -> None:
        clock.seconds = 3
        with healthy.waiting_for("the database"):
            clock.seconds += HANGING_SECONDS - 0.1
            before = healthy.ready_line
            clock.seconds += 1
            during = healthy.ready_line
            waited = healthy.waited

        assert (before, healthy.ready_line) == ("ok", "ok")
        assert during == "waiting for the database for 6 s: a commit or a query hangs"
        assert waited == pytest.approx(HANGING_SECONDS + 0.9)
        assert healthy.waited == 0

    def test_a_long_group_that_gives_signs_of_life_does_not_hang(self, healthy: Heartbeat, clock: Clock) -> None:
        with healthy.waiting_for("the database"):
            clock.seconds += 2 * HANGING_SECONDS
            healthy.beat(now=clock.seconds)

            assert (healthy.ready_line, healthy.waited) == ("ok", 0)


class TestSubscription:
    def test_it_is_unknown_before_the_broker_was_asked(self, beating: Heartbeat) -> None:
        assert (beating.subscribed, beating.reconnects) == (None, 0)

    def test_a_broker_that_is_lost_and_found_is_a_reconnect(self, healthy: Heartbeat) -> None:
        seen = [(healthy.subscribed, healthy.reconnects)]
        for outage in (GONE, "cannot reach the broker", None):
            healthy.broker(outage)
            seen.append((healthy.subscribed, healthy.reconnects))

        assert seen == [(True, 0), (False, 0), (False, 0), (True, 1)]


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
    def test_its_watchdog_hears_every_beat_during_an_outage_too(
        self, systemd: NotifySocket, own_id: dict[str, str]
    ) -> None:
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
    def test_without_a_listener_it_goes_on(self, address: str) -> None:
        with Heartbeat({"NOTIFY_SOCKET": address}) as beating:
            beating.ready()

            assert beating.line == "not subscribed to the broker yet"

    def test_one_that_does_not_read_does_not_stop_us(
        self, systemd: NotifySocket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(heartbeat, "SEND_SECONDS", 0.001)
        with Heartbeat(environ={"NOTIFY_SOCKET": systemd.address}) as beating:
            for number in range(1_000):  # the kernel keeps 10, or with systemd 512
                beating.database(f"outage {number}")

        assert len(systemd.heard()) < 1_000
