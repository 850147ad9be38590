"""The broker loses its state while the daemon holds a group that it cannot commit.

Packet ids then start again at 1, so a late PUBACK for the old group names new messages. Whether one was sent shows only
if the new ones are nowhere else: the daemon dies as soon as it has them, before they are committed.
"""

import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.brokers import Broker
from tests.faults import failpoints
from tests.faults.conftest import Rounds
from tests.faults.rig import SUBSCRIBED, Rig, locked, running
from tests.faults.together import deal, together

AT_ONCE = 2
"""Systems side by side: a round starts two daemons, which is work rather than waiting."""


def test_late_acknowledgements_delete_nothing_new(
    start_broker: Callable[[str], Broker], new_database_url: Callable[[], str], tmp_path: Path, rounds: Rounds
) -> None:
    together(
        partial(lose_state_in_turn, start_broker(""), new_database_url(), tmp_path / f"{number}.log", chances)
        for number, chances in enumerate(deal(rounds(1, full=30), AT_ONCE))
    )


def lose_state_in_turn(broker: Broker, url: str, log: Path, chances: list[random.Random]) -> None:
    with running(broker, url, log, pace=None) as rig:
        for chance in chances:
            rig.daemon.kill()
            lose_state(rig, new=chance.randint(1, 50))
            rig.daemon.start()
            rig.check_receiving()
        rig.check()


def lose_state(rig: Rig, *, new: int) -> None:
    """A daemon that holds a group across the loss, acknowledges it too late, and dies with the next one in hand.

    The group is one message: of more, some might come too late for it, and be lost with the broker's state.
    """
    forget_everything(rig.broker)  # all of it is stored; the message that is held has packet id 1 as well
    connections = rig.daemon.log().count(SUBSCRIBED)
    troubles = rig.daemon.log().count("cannot commit")
    rig.daemon.start(failpoints.COMMAND, FAILPOINT="after_receive:2")
    rig.daemon.wait_for_log(SUBSCRIBED, times=connections + 1)
    with locked(rig.url):
        rig.fleet.publish(1)
        rig.daemon.wait_for_log("cannot commit", times=troubles + 1)
        forget_everything(rig.broker)
        rig.daemon.wait_for_log(SUBSCRIBED, times=connections + 2)
        rig.fleet.publish(new)
    assert rig.daemon.wait() == -signal.SIGKILL


def forget_everything(broker: Broker) -> None:
    broker.kill()
    broker.wipe()
    broker.start()
