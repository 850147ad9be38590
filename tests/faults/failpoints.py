"""The daemon, killed by SIGKILL at a chosen step: `FAILPOINT=before_commit:3 python -m tests.faults.failpoints`.

The number says which group is the last one; the daemon's own code knows nothing of this.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

from emotion_daemon import __main__ as program
from emotion_daemon.mqtt.publish_packet import Message
from emotion_daemon.mqtt.subscriber import Subscriber
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.transaction import Transaction

COMMAND = (sys.executable, "-m", "tests.faults.failpoints")
STEPS = ("after_receive", "before_begin", "mid_write", "before_commit", "after_commit", "mid_ack")


class Failpoint:
    """Kills this process the `number`th time that `step` is reached with a group of messages in hand."""

    def __init__(self, step: str, number: int) -> None:
        self.step = step
        self._left = number
        self._holding = False

    def receive(self, messages: list[Message]) -> None:
        self._holding = bool(messages)
        self.reached("after_receive")

    def reached(self, step: str) -> None:
        if step == self.step and self._holding:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def install(failpoint: Failpoint) -> None:
    """Put the failpoint where the steps meet: round the subscriber, and into SQLAlchemy's events."""
    receive, ack, transaction = Subscriber.receive, Subscriber.ack, Store.transaction

    def receive_then(self: Subscriber, *, timeout: float) -> list[Message]:
        messages = receive(self, timeout=timeout)
        while failpoint.step == "mid_ack" and len(messages) == 1:  # one message alone has no middle
            messages += receive(self, timeout=timeout)
        failpoint.receive(messages)
        return messages

    def half_ack(self: Subscriber, messages: Iterable[Message]) -> int:
        listed = list(messages)
        acked = ack(self, listed[: len(listed) // 2])
        failpoint.reached("mid_ack")
        return acked + ack(self, listed[len(listed) // 2 :])

    @contextmanager
    def observed(store: Store) -> Iterator[Transaction]:
        failpoint.reached("before_begin")
        with transaction(store) as found:
            yield found
        failpoint.reached("after_commit")

    def executed(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO person_emotion"):  # the devices' rows follow
            failpoint.reached("mid_write")

    Subscriber.receive = receive_then  # type: ignore[method-assign]
    Subscriber.ack = half_ack  # type: ignore[method-assign]
    Store.transaction = observed  # type: ignore[method-assign,assignment]
    event.listen(Engine, "after_cursor_execute", executed)
    event.listen(Engine, "commit", lambda _: failpoint.reached("before_commit"))


if __name__ == "__main__":
    name, _, groups = os.environ["FAILPOINT"].partition(":")
    assert name in STEPS, f"{name!r} is none of {STEPS}"
    install(Failpoint(name, int(groups)))
    sys.exit(program.main())
