"""What the loop tells its report about one committed group of messages. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from emotion_daemon.rules.fold import Folded
from shared.batch import Batch


class Rejection(NamedTuple):
    """An invalid message. `device_id` is the device whose topic it came on, None if the topic belongs to no device."""

    topic: str
    reason: str
    kind: str
    """The invalid part: see `shared.batch.DecodeError`."""
    device_id: str | None


class Group(NamedTuple):
    """A group as it was committed, in `seconds` from the start of its transaction to the end of its commit."""

    batches: Sequence[Batch]
    folded: Folded
    statuses: int
    rejections: Sequence[Rejection]
    seconds: float

    @property
    def people(self) -> int:
        """How many people the batches report."""
        return sum(len(batch.people) for batch in self.batches)
