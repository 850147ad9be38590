"""The messages that are still to be sent: the newest batch, and the last entry of people who have left. Pure.

Cumulative seconds make an older batch worthless for everyone who is in a newer one, so a newer batch replaces it.
A person in the older one only has left the view. The outbox stores this entry with its own timestamp, so that neither
the final seconds are lost nor `last_seen` is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Mapping

from emotion_device.checks import Pending
from emotion_device.errors import BatchTooLarge
from emotion_device.wire import Cumulative, People, encode

MAX_DEPARTED = 1_000
"""Most people who left during an outage that are remembered. Beyond that, the earliest are dropped first."""

MAX_MQTT_PACKET = 268_435_460
"""The largest packet that MQTT knows, in bytes: what a broker takes that names no Maximum Packet Size."""

_CORRELATION_DATA_BYTES = 32


@dataclass(frozen=True)
class Message:
    """One payload as it goes out, and the entries in it; None for bytes that are no batch."""

    timestamp: datetime
    payload: bytes
    people: People | None


class Outbox:
    """Holds the messages that are not sent yet. Not thread-safe: the publisher guards it with its lock."""

    def __init__(self, *, max_departed: int = MAX_DEPARTED) -> None:
        self._newest: Pending | None = None
        self._departed: dict[str, tuple[datetime, Cumulative]] = {}
        self._max_departed = max_departed

    def __bool__(self) -> bool:
        return self._newest is not None or bool(self._departed)

    def put(self, batch: Pending) -> None:
        """Make `batch` the newest: it replaces the waiting batch, except for people that it does not contain."""
        if self._newest is not None:
            self._remember(self._newest, absent_from=batch.people)
        for person_id in batch.people:
            self._departed.pop(person_id, None)
        self._newest = batch

    def put_back(self, batch: Pending) -> None:
        """Return messages that were taken and not acknowledged. Several are returned in reverse, the newest first."""
        if self._newest is None:
            self._newest = batch
        elif self._newest.timestamp == batch.timestamp:
            self._newest = Pending(batch.timestamp, {**batch.people, **self._newest.people})
        else:
            self._remember(batch, absent_from={**self._newest.people, **dict.fromkeys(self._departed)})

    def take(self) -> list[Pending]:
        """Empty the outbox: people who departed, oldest timestamp first, then the newest batch."""
        by_stamp: dict[datetime, People] = {}
        for person_id, (timestamp, seconds) in self._departed.items():
            by_stamp.setdefault(timestamp, {})[person_id] = seconds
        taken = [Pending(timestamp, by_stamp[timestamp]) for timestamp in sorted(by_stamp)]
        if self._newest is not None:
            taken.append(self._newest)
        self._newest = None
        self._departed = {}
        return taken

    def _remember(self, batch: Pending, *, absent_from: Mapping[str, object]) -> None:
        for person_id, seconds in batch.people.items():
            if person_id not in absent_from:
                self._departed[person_id] = (batch.timestamp, seconds)
        while len(self._departed) > self._max_departed:
            del self._departed[next(iter(self._departed))]


def split(device_id: str, batch: Pending, *, limit: int) -> tuple[list[Message], list[BatchTooLarge]]:
    """Cut `batch` into payloads of at most `limit` bytes with the same timestamp; name people who fit into none.

    A batch without people is one message too: it says that no person is in view.
    """
    payload = encode(device_id, batch.timestamp, batch.people)
    if len(payload) <= limit:
        return [Message(batch.timestamp, payload, batch.people)], []

    empty = len(encode(device_id, batch.timestamp, {}))
    if not batch.people:
        return [], [BatchTooLarge(person_id=None, size=empty, limit=limit)]
    parts: list[People] = []
    refused: list[BatchTooLarge] = []
    room = 0
    for person_id, seconds in batch.people.items():
        alone = len(encode(device_id, batch.timestamp, {person_id: seconds}))
        needed = alone - empty + 1  # and a comma
        if alone > limit:
            refused.append(BatchTooLarge(person_id=person_id, size=alone, limit=limit))
        elif needed <= room:
            parts[-1][person_id] = seconds
            room -= needed
        else:
            parts.append({person_id: seconds})
            room = limit - alone
    messages = [Message(batch.timestamp, encode(device_id, batch.timestamp, part), part) for part in parts]
    return messages, refused


def payload_limit(maximum_packet_size: int, *, topic: str, response_topic: str | None) -> int:
    """The most bytes of payload in a PUBLISH packet on `topic` of at most `maximum_packet_size` bytes."""
    packet_type, remaining_length, packet_id, properties_length = 1, 4, 2, 4
    overhead = packet_type + remaining_length + 2 + len(topic.encode()) + packet_id + properties_length
    if response_topic is not None:
        overhead += 3 + len(response_topic.encode()) + 3 + _CORRELATION_DATA_BYTES
    return maximum_packet_size - overhead


def correlation_data(timestamp: datetime) -> bytes:
    """Return the correlation data of a batch, which its reply repeats: the timestamp."""
    return timestamp.isoformat().encode()
