"""The changes of one transaction that other processes must notice."""

from collections import Counter
from dataclasses import dataclass, field

from emotion_daemon.rules.fold import Folded, PersonKey
from emotion_daemon.rules.outcome import Presence


@dataclass(slots=True)
class Changes:
    """The commit raises the revision of `devices`; afterwards the state cache learns the rest."""

    devices: set[str] = field(default_factory=set)
    """Devices about which an answer of the API has changed."""
    raised: Counter[str] = field(default_factory=Counter)
    """The number of times that each device's revision was raised."""
    folded: list[Folded] = field(default_factory=list)
    """Groups that were folded over the state that this transaction has read, and written."""
    waiting: dict[str, Presence | None] = field(default_factory=dict)
    """The presence of devices at other daemons, as it was said here. None if it was stored."""
    deleted_people: set[PersonKey] = field(default_factory=set)
    """People who were deleted: they are new if they come back."""
    tombstones: bool = False
    """True if tombstones were deleted."""
