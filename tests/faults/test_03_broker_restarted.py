"""The broker is restarted, in order and by kill -9; the daemon meanwhile keeps up with it, or leaves it a backlog."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from time import monotonic

from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.rig import LAST_MOMENT_SECONDS, Rig, locked, running
from tests.faults.together import deal, together

PACE_SECONDS = 0.01

Start = Callable[[str], Broker]
Restart = Callable[[Rig, list[random.Random], bool], None]


def test_orderly_restart(start_broker: Start, tmp_path: Path, rounds: Rounds) -> None:
    together(side_by_side(restart_in_turn, start_broker, tmp_path, rounds(2, full=50)))


def test_kill_9(start_broker: Start, tmp_path: Path, rounds: Rounds) -> None:
    together(side_by_side(kill_in_turn, start_broker, tmp_path, rounds(2, full=50)))


def side_by_side(
    act: Restart, start_broker: Start, folder: Path, rounds: Iterator[random.Random]
) -> Iterator[Callable[[], None]]:
    """Several systems; every other one has a backlog whenever its broker goes down."""
    for number, chances in enumerate(deal(rounds)):
        yield partial(run, act, start_broker(""), folder, number, chances)


def run(act: Restart, broker: Broker, folder: Path, number: int, chances: list[random.Random]) -> None:
    url = f"sqlite:///{folder}/{number}.db"
    with running(broker, url, folder / f"{number}.log", pace=PACE_SECONDS) as rig:
        act(rig, chances, number % 2 == 1)
        rig.check()


def restart_in_turn(rig: Rig, chances: list[random.Random], backlog: bool) -> None:
    for chance in chances:
        with behind(rig, backlog):
            rig.fleet.wait_for_more(chance.randint(20, 200))
            rig.broker.restart()
        rig.check_receiving()


def kill_in_turn(rig: Rig, chances: list[random.Random], backlog: bool) -> None:
    """A backlog is older than the last moment, in part; what was lost is in the device's next cumulative batch."""
    rig.broker.wait_for_save()  # a session as young as the last moment would be lost with all that it would have got
    most_of_it = round(1.5 * LAST_MOMENT_SECONDS / PACE_SECONDS)
    for chance in chances:
        with behind(rig, backlog):
            rig.fleet.wait_for_more(chance.randint(20, 200) + (most_of_it if backlog else 0))
            since = monotonic() - LAST_MOMENT_SECONDS
            rig.broker.kill()
            rig.broker.start()
            until = monotonic()  # a PUBACK may have waited in the device's socket while the broker died
        rig.check_receiving()
        rig.fleet.report_again(since=since, until=until)
    rig.fleet.wait_for_more(60)  # every person that the devices have in common


def behind(rig: Rig, backlog: bool) -> AbstractContextManager[None]:
    """Let the broker's queue grow, for the block, if there is to be a backlog."""
    return locked(rig.url) if backlog else nullcontext()
