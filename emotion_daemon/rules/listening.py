"""Follow each device in memory: its silences, and the seconds that its people showed lately. Pure."""

from datetime import UTC, datetime
from math import inf
from typing import NamedTuple, TypeAlias

from emotion_daemon.rules.clock_fallback import LONGEST_WAIT

LONGEST_COVERED = 60.0
"""Seconds. The device was heard all the time between two batches that are no further apart."""

NOW_SECONDS = 10.0
"""Seconds up to a device's newest batch in which the emotions count as those of now."""

MOST_SILENCES = 64
"""The newest silences of a device that are remembered, for late batches."""

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Of a new device it is known from here on: it was not heard before its first batch."""

_SHORTEST_PART = 0.1
"""Seconds. Batches that follow one another faster share a part, so that a device has 200 parts at most."""

Seconds: TypeAlias = tuple[float, float, float, float]
"""Seconds of happy, sad, angry and neutral."""

Part: TypeAlias = tuple[float, float, float, float, float]
"""The length of a time in seconds, and the seconds of each emotion that all people showed in it."""

Interval: TypeAlias = tuple[datetime, datetime]

_NO_SECONDS: Seconds = (0.0, 0.0, 0.0, 0.0)


class Listened(NamedTuple):
    """The memory of one device. It is not stored: a new process begins without it.

    `until` is the newest timestamp when the daemon handled the device last. From `since` on it is known for which time
    the device was heard. `now` are the seconds of the last NOW_SECONDS, which `parts` has in the order of time. Between
    the two timestamps of each of the `silences` no batch came.
    """

    until: datetime
    since: datetime | None = None
    now: Seconds = _NO_SECONDS
    parts: tuple[Part, ...] = ()
    silences: tuple[Interval, ...] = ()


class Listening:
    """One device during the fold of a group: `heard` takes each newer batch, `late` each other one."""

    __slots__ = ("_parts", "_silences", "_since")

    def __init__(self, before: Listened | None, newest: datetime | None, *, elsewhere: bool) -> None:
        """`newest` is the newest timestamp before the group. Another daemon received that batch if `elsewhere`."""
        self._since: datetime | None = None
        self._parts: list[Part] = []
        self._silences: list[Interval] = []
        if before is None:
            if newest is not None and elsewhere:
                self._silences.append((newest - LONGEST_WAIT, newest))
            return
        self._since = before.since
        self._silences.extend(before.silences)
        if before.until == newest:
            self._parts.extend(before.parts)
        elif newest is not None and _between(before.until, newest) > LONGEST_COVERED:
            self._silences.append((before.until, newest))

    def heard(self, previous: datetime | None, timestamp: datetime, passed: float, seconds: Seconds) -> None:
        """Add the device's newest batch, `passed` seconds after the `previous` one. Its people showed `seconds`."""
        if self._since is None:
            self._since = NEVER if previous is None else timestamp
        parts = self._parts
        if previous is None or passed > LONGEST_COVERED:
            if previous is not None:
                self._silences.append((previous, timestamp))
            parts.append((inf, *_NO_SECONDS))
        elif passed <= _SHORTEST_PART and parts and parts[-1][0] + passed <= _SHORTEST_PART:
            length, *before = parts[-1]
            happy, sad, angry, neutral = map(sum, zip(before, seconds, strict=True))
            parts[-1] = (length + passed, happy, sad, angry, neutral)
        else:
            parts.append((passed, *seconds))

    def late(self, timestamp: datetime) -> list[Interval]:
        """Return the times that a late batch covers. It divides the silence that it falls into."""
        for index, (begin, end) in enumerate(self._silences):
            if begin < timestamp < end:
                pieces = [(begin, timestamp), (timestamp, end)]
                covered = [piece for piece in pieces if _between(*piece) <= LONGEST_COVERED]
                self._silences[index : index + 1] = [piece for piece in pieces if piece not in covered]
                if self._since is None:
                    self._since = timestamp
                return covered
        return []

    def result(self, newest: datetime) -> Listened:
        """Return what to remember. `newest` is the newest timestamp after the group."""
        now, parts = _last(self._parts)
        return Listened(newest, self._since, now, parts, tuple(self._silences[-MOST_SILENCES:]))


def _last(parts: list[Part]) -> tuple[Seconds, tuple[Part, ...]]:
    """The seconds in the last NOW_SECONDS of `parts`, and the parts that reach into them."""
    left, first = NOW_SECONDS, len(parts)
    happy = sad = angry = neutral = 0.0
    for length, more_happy, more_sad, more_angry, more_neutral in reversed(parts):
        first -= 1
        share = 1.0 if length < left else left / length  # the first of them may have begun earlier
        happy += more_happy * share
        sad += more_sad * share
        angry += more_angry * share
        neutral += more_neutral * share
        if length >= left:
            break
        left -= length
    return (happy, sad, angry, neutral), tuple(parts[first:])


def _between(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
