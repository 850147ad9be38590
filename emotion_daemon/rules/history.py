"""Compute the seconds that cumulative counters add to each minute of the history. Pure.

A person cannot show emotions for longer than the time that has passed. The history caps what a device reports beyond
that, so an outage, a person who comes with hours on the counter, or a restarted counter leaves no spike.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TypeAlias

from shared.batch import Cumulative

SLACK = 2.0
"""Seconds of a person's time that may be used later: timestamps are rounded, and batches do not come evenly."""

LONGEST_GAP = 24 * 3600.0
"""Seconds. After a longer silence of a device its next batch is spread over no more than the end of it."""

ROUNDING = 0.001
"""Seconds. A counter that is lower by no more was rounded; one that is lower by more has begun anew."""

MinuteRow: TypeAlias = tuple[str, datetime, float, float, float, float, int]
"""Device id, the minute's beginning as aware UTC, seconds of happy, sad, angry and neutral, the most people."""

Increment: TypeAlias = tuple[float, float, float, float, float, float]
"""Seconds that one person has shown happy, sad, angry and neutral since the previous report, as far as time allows;
the unused time, up to SLACK; and the capped seconds."""

_MINUTE = 60.0


def increment(new: Cumulative, old: Cumulative, allowed: float) -> Increment:
    """Return the seconds of `new` beyond `old`, at most `allowed` in all.

    If any emotion of `new` is lower the device counts anew, and all of `new` was added.
    """
    happy, sad = new.happy - old.happy, new.sad - old.sad
    angry, neutral = new.angry - old.angry, new.neutral - old.neutral
    if happy < 0 or sad < 0 or angry < 0 or neutral < 0:
        if min(happy, sad, angry, neutral) < -ROUNDING:
            happy, sad, angry, neutral = new.happy, new.sad, new.angry, new.neutral
        else:
            happy, sad, angry, neutral = max(happy, 0.0), max(sad, 0.0), max(angry, 0.0), max(neutral, 0.0)
    shown = happy + sad + angry + neutral
    if shown <= allowed:
        spare = allowed - shown
        return happy, sad, angry, neutral, spare if spare < SLACK else SLACK, 0.0
    share = allowed / shown
    return happy * share, sad * share, angry * share, neutral * share, 0.0, shown - allowed


class Minutes:
    """The seconds that a group of batches adds to the history, by device and minute."""

    def __init__(self) -> None:
        self._gathered: dict[tuple[str, datetime], list[float]] = {}
        self._long: list[tuple[str, datetime, datetime, tuple[float, float, float, float]]] = []

    def add(
        self,
        device_id: str,
        since: datetime,
        until: datetime,
        seconds: tuple[float, float, float, float],
        people: int,
    ) -> None:
        """Add `seconds` of each emotion, spread evenly from `since` to `until`. `people` were in view at `until`.

        If the time is longer than LONGEST_GAP, only its end counts.
        """
        minute = until.replace(second=0, microsecond=0)
        row = self._row(device_id, minute)
        if row[4] < people:
            row[4] = people
        if since >= minute or not any(seconds):
            _add(row, seconds, 1.0)
        elif (until - since).total_seconds() <= _MINUTE:
            for each, share in _spread(since, until):
                _add(self._row(device_id, each), seconds, share)
        else:
            self._long.append((device_id, max(since, until - timedelta(seconds=LONGEST_GAP)), until, seconds))

    def rows(self) -> Iterator[MinuteRow]:
        """Rows to be added to what is stored, where one minute may come more than once.

        One by one: 500 devices that all come back after a day have 720,000.
        """
        for (device_id, minute), (happy, sad, angry, neutral, people) in self._gathered.items():
            yield device_id, minute, happy, sad, angry, neutral, int(people)
        for device_id, since, until, seconds in self._long:
            for minute, share in _spread(since, until):
                happy, sad, angry, neutral = (each * share for each in seconds)
                yield device_id, minute, happy, sad, angry, neutral, 0

    def sums(self) -> dict[str, list[float]]:
        """The seconds of happy, sad, angry and neutral that were added, a device."""
        sums: dict[str, list[float]] = {}
        for (device_id, _), row in self._gathered.items():
            _add(sums.setdefault(device_id, [0.0] * 4), (row[0], row[1], row[2], row[3]), 1.0)
        for device_id, _, _, seconds in self._long:
            _add(sums.setdefault(device_id, [0.0] * 4), seconds, 1.0)
        return sums

    def _row(self, device_id: str, minute: datetime) -> list[float]:
        row = self._gathered.get((device_id, minute))
        if row is None:
            row = self._gathered[device_id, minute] = [0.0, 0.0, 0.0, 0.0, 0]
        return row


def _add(row: list[float], seconds: tuple[float, float, float, float], share: float) -> None:
    happy, sad, angry, neutral = seconds
    row[0] += happy * share
    row[1] += sad * share
    row[2] += angry * share
    row[3] += neutral * share


def _spread(since: datetime, until: datetime) -> Iterator[tuple[datetime, float]]:
    """The minutes from `since` to `until`, each with its share of that time."""
    length = (until - since).total_seconds()
    minute = since.replace(second=0, microsecond=0)
    while minute < until:
        end = minute + timedelta(minutes=1)
        yield minute, (min(end, until) - max(minute, since)).total_seconds() / length
        minute = end
