"""The facts about one committed group of messages that the loop reports. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from emotion_daemon.rules.fold import Folded
from emotion_daemon.rules.outcome import Rejected
from shared.batch import Batch


class Group(NamedTuple):
    """A group as it was committed, in `seconds` from the start of its transaction to the end of its commit."""

    batches: Sequence[Batch]
    folded: Folded
    statuses: int
    """Number of valid messages on status and info topics."""
    rejected: Sequence[Rejected]
    omitted: int
    """Number of `rejected` that were not stored, because their topic has too many dead letters."""
    seconds: float
    traffic: Sequence[tuple[str | None, int]]
    """The device of each message, None if its topic belongs to no device, and the bytes of its packet."""

    @property
    def people(self) -> int:
        """Return the number of people in the batches."""
        return sum(len(batch.people) for batch in self.batches)
