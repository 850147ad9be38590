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
from tests.faults.history import expected_rows, stored_rows
from tests.faults.rig import SUBSCRIBED, Rig, locked, running
from tests.faults.together import deal, together
from tests.waiting import wait_until

MOST_HELD = 50
SENT = "Sending PUBLISH to emotion-daemon"
ACKNOWLEDGED = "Sending PUBACK to emotion-daemon"
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
            lose_state(rig, held=chance.randint(1, MOST_HELD))
            rig.daemon.start()
            rig.check_receiving()
        rig.check()


def lose_state(rig: Rig, *, held: int) -> None:
    """A daemon that holds one group across the loss, acknowledges it too late, and dies with the next one in hand."""
    connections = rig.daemon.log().count(SUBSCRIBED)
    troubles = rig.daemon.log().count("cannot commit")
    pubacks, history = rig.broker.log().count(ACKNOWLEDGED), rig.fleet.acknowledged
    rig.daemon.start(failpoints.COMMAND, FAILPOINT="after_receive:2")
    rig.daemon.wait_for_log(SUBSCRIBED, times=connections + 1)
    # Its "online" is answered: a PUBACK between the batches would end the group there.
    wait_until(lambda: rig.broker.log().count(ACKNOWLEDGED) > pubacks, what="the daemon is online")
    with locked(rig.url):
        rig.daemon.signal(signal.SIGSTOP)  # so that it finds all of them at once: one group
        publish_until_sent(rig, held)
        rig.daemon.signal(signal.SIGCONT)
        rig.daemon.wait_for_log("cannot commit", times=troubles + 1)
        rig.broker.kill()
        rig.broker.wipe()
        rig.broker.start()
        rig.daemon.wait_for_log(SUBSCRIBED, times=connections + 2)
        publish_until_sent(rig, MOST_HELD)
    assert rig.daemon.wait() == -signal.SIGKILL
    in_hand = expected_rows(rig.fleet.history[history : history + held])
    assert in_hand.keys() <= stored_rows(rig.url).keys(), "the group that it held was not committed"


def publish_until_sent(rig: Rig, number: int) -> None:
    """Publish so many batches, until the broker has sent them on to the daemon."""
    goal = rig.broker.log().count(SENT) + number
    rig.fleet.publish(number)
    wait_until(lambda: rig.broker.log().count(SENT) >= goal, what="the daemon is sent what was published")
