"""The daemon is stopped by SIGSTOP for so long that the broker gives it up, and goes on as if nothing had been."""

import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from emotion_daemon.mqtt.subscriber import KEEPALIVE_SECONDS
from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.rig import SUBSCRIBED, running
from tests.faults.together import deal, together

PACE_SECONDS = 0.01

LONGER_THAN_THE_BROKER_WAITS = 2.0
"""Keepalives; the broker waits one and a half (MQTT 5, 3.1.2.10). The three of the full run take half a minute."""


def test_stopped_under_load_until_the_broker_has_given_it_up(
    start_broker: Callable[[str], Broker], tmp_path: Path, rounds: Rounds, pytestconfig: pytest.Config
) -> None:
    keepalives = 3 if pytestconfig.getoption("--full") else LONGER_THAN_THE_BROKER_WAITS

    together(
        partial(stop_in_turn, start_broker(""), tmp_path, f"system {number}", hand, keepalives)
        for number, hand in enumerate(deal(rounds(2, full=20)), start=1)
    )


def stop_in_turn(broker: Broker, folder: Path, name: str, chances: list[random.Random], keepalives: float) -> None:
    """One system whose daemon is stopped at one moment after the other."""
    url = f"sqlite:///{folder}/{name}.db"
    with running(broker, url, folder / f"{name}.log", pace=PACE_SECONDS) as rig:
        for chance in chances:
            rig.fleet.wait_for_more(chance.randint(20, 120))
            rig.daemon.signal(signal.SIGSTOP)
            rig.fleet.wait_for_more(round(keepalives * KEEPALIVE_SECONDS / PACE_SECONDS))
            rig.daemon.signal(signal.SIGCONT)
            rig.check_receiving()
        rig.check()
        rig.check_history()

        assert rig.daemon.log().count(SUBSCRIBED) == 1 + len(chances), "the broker had given it up each time"
