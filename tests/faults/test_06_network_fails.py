"""The network between broker and daemon: cut, stalled, half open, a byte at a time, slow, and answering no longer.

The devices have a network of their own: they go on publishing, and the broker keeps it.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.rig import SUBSCRIBED, Rig, running
from tests.faults.together import deal, together
from tests.proxies import Proxy, Side
from tests.waiting import wait_until

PACE_SECONDS = 0.01

Fault = Callable[[Rig, Proxy, random.Random], None]


def cut(rig: Rig, proxy: Proxy, chance: random.Random) -> None:
    """Both sides are told, or only the daemon."""
    if chance.random() < 0.5:
        proxy.cut()
    else:
        proxy.half_open(closed="client")


def stall(rig: Rig, proxy: Proxy, chance: random.Random) -> None:
    """Both ways or one way; from too short to be noticed up to where both sides have given up."""
    senders: list[tuple[Side, ...]] = [("client", "broker"), ("client",), ("broker",)]
    with proxy.stalled(*chance.choice(senders)):
        publish_for(rig, chance.choice([0.2, 2, 10, 20]) * chance.uniform(0.5, 1))


def half_open(rig: Rig, proxy: Proxy, chance: random.Random) -> None:
    """Neither side is told, or only the broker."""
    proxy.half_open(closed=chance.choice([None, "broker"]))


def a_byte_at_a_time(rig: Rig, proxy: Proxy, chance: random.Random) -> None:
    with stays_connected(rig), proxy.dripping():
        publish_for(rig, chance.uniform(0.5, 4))


def slow(rig: Rig, proxy: Proxy, chance: random.Random) -> None:
    with stays_connected(rig), proxy.delayed(chance.uniform(0.2, 1)):
        publish_for(rig, chance.uniform(0.5, 4))


def silent(rig: Rig, proxy: Proxy, chance: random.Random) -> None:
    """A silent program accepts the next connection."""
    abandoned = proxy.abandoned
    with proxy.silent():
        proxy.cut()
        wait_until(lambda: proxy.abandoned > abandoned, what="the daemon has connected")


FAULTS: tuple[Fault, ...] = (cut, stall, half_open, a_byte_at_a_time, slow, silent)


def test_the_network_fails_under_load(start_broker: Callable[[str], Broker], tmp_path: Path, rounds: Rounds) -> None:
    turns = zip(cycle(FAULTS), rounds(len(FAULTS), full=25 * len(FAULTS)), strict=False)

    together(
        partial(fail_in_turn, start_broker(""), tmp_path, f"system {number}", hand)
        for number, hand in enumerate(deal(turns), start=1)
    )


def fail_in_turn(broker: Broker, folder: Path, name: str, turns: list[tuple[Fault, random.Random]]) -> None:
    """One system whose network fails in one way after the other."""
    with (
        Proxy(broker) as proxy,
        running(
            broker, f"sqlite:///{folder}/{name}.db", folder / f"{name}.log", pace=PACE_SECONDS, through=proxy
        ) as rig,
    ):
        for fault, chance in turns:
            publish_for(rig, chance.uniform(0.1, 1))
            fault(rig, proxy, chance)
            took = rig.check_receiving()
            print(f"{name}: {fault.__name__}, receiving again after {took:.1f} s")
        rig.check()
        rig.check_history()


@contextmanager
def stays_connected(rig: Rig) -> Iterator[None]:
    """The connection of the block's start is still the daemon's at its end, when it is receiving."""
    subscriptions = rig.daemon.log().count(SUBSCRIBED)
    yield
    rig.check_receiving()
    assert rig.daemon.log().count(SUBSCRIBED) == subscriptions, rig.daemon.log()


def publish_for(rig: Rig, seconds: float) -> None:
    """While so many seconds' worth of batches are published."""
    rig.fleet.wait_for_more(max(1, round(seconds / PACE_SECONDS)))
