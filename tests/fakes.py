"""Fakes of the world: a broker and the subscription to it, as `emotion_daemon.ingest` needs it, and time."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple

from emotion_daemon.mqtt.publish_packet import Message


class Reply(NamedTuple):
    topic: str
    payload: bytes
    correlation_data: bytes | None


@dataclass(frozen=True)
class _Queued:
    """One message on the broker's side; `packet_id` is 0 until it was sent."""

    topic: str
    payload: bytes
    qos: int
    response_topic: str | None
    correlation_data: bytes | None
    retain: bool = False
    packet_id: int = 0


class FakeSource:
    """Behaves like Subscriber and Mosquitto together; test_subscriber.py runs the same tests on both.

    The broker sends each message once a connection and keeps it until its packet id is acknowledged; what was not is
    sent again, first and in order, after a reconnect. As with the real one, a PUBACK is a bare number: whatever the
    broker has in flight under it is gone.
    """

    def __init__(self, *, group_limit: int = 500) -> None:
        self._group_limit = group_limit
        self._receive_maximum = 2 * group_limit
        self._queue: deque[_Queued] = deque()
        self._in_flight: dict[int, _Queued] = {}
        self._packet_ids = count(1)
        self._inbox: list[Message] = []
        self._connection = 1
        self._connected = True
        self.acked: list[Message] = []
        """The messages whose PUBACK was sent, in order."""
        self.replies: list[Reply] = []
        self.cleared: list[str] = []
        """The topics whose retained message was deleted, in order."""
        self.on_wait: Callable[[float], None] = lambda seconds: None
        """Called while the daemon waits, in place of time."""

    # The broker's side.

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        retain: bool = False,
    ) -> None:
        self._queue.append(_Queued(topic, payload, qos, response_topic, correlation_data, retain))

    def cut(self) -> None:
        """The connection breaks; the next `receive` or `wait` connects again."""
        self._connected = False
        self._connection += 1
        self._inbox.clear()
        self._queue.extendleft(reversed([message for message in self._in_flight.values() if message.qos]))
        self._in_flight.clear()

    def lose_state(self) -> None:
        """The broker starts again from nothing: no message, and packet ids from 1."""
        self.cut()
        self._queue.clear()
        self._packet_ids = count(1)

    @property
    def held(self) -> list[bytes]:
        """The payloads that the broker has not seen acknowledged."""
        return [message.payload for message in (*self._in_flight.values(), *self._queue)]

    # The subscriber's side.

    @property
    def waiting(self) -> int:
        return len(self._inbox)

    def receive(self, *, timeout: float) -> list[Message]:
        self._read()
        messages, self._inbox = self._inbox, []
        return messages

    def wait(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        self.on_wait(seconds)
        self._read()

    def ack(self, messages: Iterable[Message]) -> int:
        sent = [message for message in messages if message.connection == self._connection]
        for message in sent:
            if message.qos == 1:
                self._in_flight.pop(message.packet_id, None)
                self.acked.append(message)
        return len(sent)

    def clear_retained(self, topics: Iterable[str]) -> None:
        if self._connected:
            self.cleared += topics

    def reply(self, message: Message, payload: bytes) -> None:
        if message.response_topic is not None and self._connected:
            self.replies.append(Reply(message.response_topic, payload, message.correlation_data))

    def _read(self) -> None:
        if not self._connected:
            self._connected = True
            self._connection += 1
        while self._queue and len(self._inbox) < self._group_limit and len(self._in_flight) < self._receive_maximum:
            message = self._queue.popleft()
            dup = bool(message.packet_id)
            if message.qos and not dup:
                message = replace(message, packet_id=next(self._packet_ids))
            if message.qos:
                self._in_flight[message.packet_id] = message
            self._inbox.append(
                Message(
                    message.topic,
                    message.payload,
                    message.qos,
                    message.packet_id,
                    self._connection,
                    len(message.topic) + len(message.payload),
                    message.response_topic,
                    message.correlation_data,
                    dup,
                    message.retain,
                )
            )


class Clock:
    """Monotonic seconds that pass when the test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds
