"""More than its share: one device far above its rate or as fast as it can, and hundreds of idle connections."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic
from typing import NamedTuple

import pytest

from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.history import Fleet
from tests.faults.idle import idle_connections
from tests.faults.rig import SUBSCRIBED, Rig, running
from tests.faults.together import together
from tests.processes import Daemon
from tests.web import SUMMARY, Api

IDLE = 500
LOUD = 50
"""Batches a second of the loud device; the usual rate is 1."""

USUAL_SECONDS = 0.5
"""Half of the others' batches are stored within this, whatever the loud one does; all of them are within 10 s."""

ANSWER_SECONDS = 1.0

TIMES = 10
"""The factor by which it may take longer under load, on a machine that needs more than these seconds anyway."""


def test_a_loud_device_and_500_idle_connections_hold_up_nobody(
    start_broker: Callable[[str], Broker], tmp_path: Path, rounds: Rounds, pytestconfig: pytest.Config
) -> None:
    seconds = 60 if pytestconfig.getoption("--full") else 3

    together(
        partial(be_loud, start_broker(""), tmp_path, f"system {number}", seconds)
        for number, _ in enumerate(rounds(1, full=5), start=1)
    )


def be_loud(broker: Broker, folder: Path, name: str, seconds: int) -> None:
    """One system before the load and under it, with another device's batch and a request to the API every second."""
    url = f"sqlite:///{folder}/{name}.db"
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(broker, url, folder / name))
        daemon.wait_for_log(SUBSCRIBED)
        api = stack.enter_context(Api(url, folder / f"{name} api"))
        rig = Rig(broker, daemon, url, Fleet(broker, pace=1 / LOUD, devices=["loud"]))
        usual = [measured(rig, api) for _ in range(3)]
        stack.enter_context(rig.fleet)
        stack.enter_context(idle_connections(broker.port, IDLE, mqtt=True))
        stack.enter_context(idle_connections(api.port, IDLE))
        under_load = []
        for _ in range(seconds):
            rig.fleet.wait_for_more(LOUD)
            under_load.append(measured(rig, api))

        print(f"{name}: before the load {usual}, under it {under_load}")
        assert middle(under_load).stored < max(USUAL_SECONDS, TIMES * middle(usual).stored)
        assert worst(under_load).answered < max(ANSWER_SECONDS, TIMES * worst(usual).answered)
        rig.check()


class Seconds(NamedTuple):
    """Seconds until another device's batch was stored, and until the API answered two requests."""

    stored: float
    answered: float


def measured(rig: Rig, api: Api) -> Seconds:
    stored = rig.check_receiving()
    began = monotonic()
    for path in ("/", f"{SUMMARY}?device_id=loud"):
        assert api.ask(path).status == 200
    return Seconds(stored, monotonic() - began)


def middle(measurements: list[Seconds]) -> Seconds:
    return Seconds(*(median(values) for values in zip(*measurements, strict=True)))


def worst(measurements: list[Seconds]) -> Seconds:
    return Seconds(*(max(values) for values in zip(*measurements, strict=True)))


def test_a_device_that_sends_as_fast_as_it_can_loses_nothing(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with running(broker, sqlite_url, tmp_path / "log", pace=0, devices=["loud"]) as rig:
        for _ in rounds(1, full=20):
            rig.fleet.wait_for_more(3_000)
            rig.check_receiving()

        rig.check()
