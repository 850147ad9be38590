"""More than its share: one device far above its rate or as fast as it can, and hundreds of idle connections."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic

import pytest

from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.idle import idle_connections
from tests.faults.rig import running
from tests.faults.together import together
from tests.web import SUMMARY, Api

IDLE = 500
LOUD = 50
"""How many batches a second the loud device publishes; the rate is 1."""

USUAL_SECONDS = 0.5
"""Half of the others' batches are stored within this, whatever the loud one does; all of them are within 10 s."""

ANSWER_SECONDS = 1.0


def test_a_loud_device_and_500_idle_connections_hold_up_nobody(
    start_broker: Callable[[str], Broker], tmp_path: Path, rounds: Rounds, pytestconfig: pytest.Config
) -> None:
    seconds = 60 if pytestconfig.getoption("--full") else 3

    together(
        partial(be_loud, start_broker(""), tmp_path, f"system {number}", seconds)
        for number, _ in enumerate(rounds(1, full=5), start=1)
    )


def be_loud(broker: Broker, folder: Path, name: str, seconds: int) -> None:
    """One system under load, with another device's batch and a look at the API every second."""
    url = f"sqlite:///{folder}/{name}.db"
    with ExitStack() as stack:
        rig = stack.enter_context(running(broker, url, folder / name, pace=1 / LOUD, devices=["loud"]))
        api = stack.enter_context(Api(url, folder / f"{name} api"))
        stack.enter_context(idle_connections(broker.port, IDLE, mqtt=True))
        stack.enter_context(idle_connections(api.port, IDLE))
        stored: list[float] = []
        answered: list[float] = []
        for _ in range(seconds):
            rig.fleet.wait_for_more(LOUD)
            stored.append(rig.check_receiving())
            answered += [seconds_to_answer(api, path) for path in ("/", f"{SUMMARY}?device_id=loud")]

        print(f"{name}: stored after {median(stored):.2f} s, {max(stored):.2f} at most; answered {max(answered):.2f}")
        assert median(stored) < USUAL_SECONDS
        assert max(answered) < ANSWER_SECONDS
        rig.check()


def seconds_to_answer(api: Api, path: str) -> float:
    began = monotonic()
    assert api.ask(path).status == 200
    return monotonic() - began


def test_a_device_that_sends_as_fast_as_it_can_loses_nothing(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with running(broker, sqlite_url, tmp_path / "log", pace=0, devices=["loud"]) as rig:
        for _ in rounds(1, full=20):
            rig.fleet.wait_for_more(3_000)
            rig.check_receiving()

        rig.check()
