"""The errors of a program that publishes. Outages of the network are no errors: they are logged and retried."""

from __future__ import annotations


class PublisherError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidBatch(PublisherError, ValueError):
    """Raised when a batch breaks the rules of the payload. Its text names the value and its fault.

    It may end up in a log and names no person: people are numbered from 1, in the order of the batch.
    """


class BatchTooLarge(PublisherError, ValueError):
    """Raised when one person's entry alone is larger than what the broker takes (its Maximum Packet Size).

    `person_id` is the person, who is not in the text, or None if not even a batch without people fits; `size` is the
    payload in bytes, `limit` the most bytes that a payload may have on this topic.
    """

    def __init__(self, *, person_id: str | None, size: int, limit: int) -> None:
        what = "a batch without people" if person_id is None else "the entry of one person alone"
        super().__init__(
            f"{what} is a payload of {size} bytes, but the broker takes {limit} here: raise its max_packet_size"
        )
        self.person_id = person_id
        self.size = size
        self.limit = limit


class PublisherClosed(PublisherError):
    """Raised when something is published after close(), or in a fork of the process that made the publisher."""
