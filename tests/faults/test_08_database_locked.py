"""Another writer locks the database for half a minute."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.deliveries import RECEIVE_MAXIMUM, deliveries
from tests.faults.rig import SUBSCRIBED, Rig, locked, running
from tests.faults.together import deal, together
from tests.waiting import wait_until

BATCHES = 2_500
"""Batches that are published meanwhile: more than the broker may send ahead."""


def test_a_locked_database_holds_everything_up_and_loses_nothing(
    start_broker: Callable[[str], Broker],
    new_database_url: Callable[[], str],
    tmp_path: Path,
    rounds: Rounds,
    request: pytest.FixtureRequest,
) -> None:
    seconds = 30.0 if request.config.getoption("--full") else 5.0
    hands = deal(rounds(1, full=20))

    def lock_again_and_again(hand: int, broker: Broker, url: str) -> None:
        with running(broker, url, tmp_path / f"log {hand}", pace=seconds / BATCHES) as rig:
            for turn in range(1, len(hands[hand]) + 1):
                rig.fleet.wait_for_more(20)
                lock_for(rig, seconds)
                rig.daemon.wait_for_log("committing again after", times=turn)
                rig.check_receiving()
            rig.check()
            rig.check_history()
            log = rig.daemon.log()
        assert log.count(SUBSCRIBED) == 1, "the connection was kept"
        assert log.count("cannot commit") == log.count("committing again after") == len(hands[hand])

    together([partial(lock_again_and_again, hand, start_broker(""), new_database_url()) for hand in range(len(hands))])


def lock_for(rig: Rig, seconds: float) -> None:
    """Nothing is acknowledged meanwhile, and no more is taken from the broker than was agreed."""
    cannot_commit = rig.daemon.log().count("cannot commit")
    with locked(rig.url):
        began = monotonic()
        rig.daemon.wait_for_log("cannot commit", times=cannot_commit + 1)
        before = deliveries(rig.broker)
        wait_until(
            lambda: monotonic() - began > seconds and deliveries(rig.broker).in_flight >= RECEIVE_MAXIMUM,
            seconds=seconds + 60,
            pause=0.5,
            what="the broker has sent as much ahead as it may",
        )
        after = deliveries(rig.broker)
    assert after.acknowledged == before.acknowledged
    # Mosquitto 2.0.11 sends one more once its window has been full before.
    assert RECEIVE_MAXIMUM <= after.in_flight <= RECEIVE_MAXIMUM + 1
