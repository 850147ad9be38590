"""What the loop tells its report about one committed group of messages. Pure."""

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
    rejected: Sequence[Rejected]
    seconds: float

    @property
    def people(self) -> int:
        """How many people the batches report."""
        return sum(len(batch.people) for batch in self.batches)
