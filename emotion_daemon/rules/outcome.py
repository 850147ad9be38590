"""The results of a message that is not a batch: a status, statistics or an invalid message. Pure."""

from datetime import datetime
from typing import NamedTuple

from shared.batch import InvalidPart


class Rejected(NamedTuple):
    """An invalid message, to be recorded as a dead letter.

    `device_id` is the device whose topic the message came on; None if the topic belongs to no device. `sent_again` says
    that the broker has sent the message before (MQTT's DUP): it may be recorded already.
    """

    topic: str
    reason: str
    payload: bytes
    received_at: datetime
    sent_again: bool = False
    kind: InvalidPart = "batch"
    device_id: str | None = None


class Status(NamedTuple):
    """A message on a device's status topic: `status` is online, offline, or None if it was cleared."""

    device_id: str
    status: str | None
    received_at: datetime


class Info(NamedTuple):
    """A message on a device's info topic: `info` is its statistics as JSON, or None if it was cleared."""

    device_id: str
    info: str | None


class Presence(NamedTuple):
    """The newest status and statistics of a device, None if it sent none."""

    status: Status | None = None
    info: Info | None = None

    def followed_by(self, message: Status | Info) -> "Presence":
        """Return the presence after one more message."""
        return self._replace(status=message) if isinstance(message, Status) else self._replace(info=message)
