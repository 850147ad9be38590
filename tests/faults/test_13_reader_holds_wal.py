"""A reader stays in one transaction for a minute, so that SQLite cannot checkpoint its write-ahead log meanwhile."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from shared.database import WAL_LIMIT_BYTES, sqlite_path
from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.rig import SUBSCRIBED, Rig, reader, running
from tests.faults.together import deal, together
from tests.waiting import wait_until


def test_a_long_reader_stops_nothing_and_the_log_shrinks_after_it(
    start_broker: Callable[[str], Broker],
    new_database_url: Callable[[], str],
    tmp_path: Path,
    rounds: Rounds,
    request: pytest.FixtureRequest,
) -> None:
    seconds = 60.0 if request.config.getoption("--full") else 2.0
    hands = deal(rounds(1, full=5))

    def read_again_and_again(hand: int, broker: Broker, url: str) -> None:
        with running(broker, url, tmp_path / f"log {hand}") as rig:
            for _ in hands[hand]:
                rig.fleet.wait_for_more(20)
                read_for(rig, seconds)
            rig.check()
            log = rig.daemon.log()
        assert log.count(SUBSCRIBED) == 1, "the connection was kept"
        assert "cannot commit" not in log

    together([partial(read_again_and_again, hand, start_broker(""), new_database_url()) for hand in range(len(hands))])


def read_for(rig: Rig, seconds: float) -> None:
    """Batches are stored meanwhile; what had to be kept for the reader is given back when it is gone."""
    long = 0 if sqlite_path(rig.url) is None else WAL_LIMIT_BYTES + 1
    with reader(rig.url):
        began = monotonic()
        wait_until(
            lambda: monotonic() - began > seconds and wal_bytes(rig.url) >= long,
            seconds=seconds + 60,
            pause=0.1,
            what="the reader has kept a long write-ahead log",
        )
        rig.check_receiving()
    wait_until(lambda: wal_bytes(rig.url) <= WAL_LIMIT_BYTES, what="the write-ahead log is short again")


def wal_bytes(url: str) -> int:
    """Return the size of SQLite's -wal file; PostgreSQL has none that a reader could hold."""
    path = sqlite_path(url)
    return 0 if path is None else path.with_name(f"{path.name}-wal").stat().st_size
