"""Compute the seconds that cumulative counters add to each minute of the history. Pure.

A person cannot show emotions for longer than the time that has passed. The history caps what a device reports beyond
that, so an outage, a person who comes with hours on the counter, or a restarted counter leaves no spike.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from shared.batch import Cumulative

SLACK = 2.0
"""Seconds of a person's time that may be used later: timestamps are rounded, and batches do not come evenly."""

LONGEST_GAP = 24 * 3600.0
"""Seconds. After a longer silence of a device its next batch is spread over no more than the end of it."""

ROUNDING = 0.001
"""Seconds. A counter that is lower by no more was rounded; one that is lower by more has begun anew."""

Row: TypeAlias = tuple[str, datetime, float, float, float, float, int, float]
"""Device id, beginning of the minute or hour in aware UTC, seconds of happy, sad, angry and neutral, most people, and
the seconds for which the device was heard."""

Increment: TypeAlias = tuple[float, float, float, float, float, float, str]
"""Seconds that one person has shown happy, sad, angry and neutral since the previous report, as far as time allows;
the unused time, up to SLACK; the capped seconds; and the emotion that grew most, on a tie the first of EMOTIONS."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MINUTE, HOUR = 60.0, 3_600.0
"""Seconds: the most that a minute and an hour can be covered."""

_MINUTE, _HOUR = timedelta(seconds=MINUTE), timedelta(seconds=HOUR)
_EMPTY = (0.0, 0.0, 0.0, 0.0, 0, 0.0)


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
    if happy >= sad and happy >= angry and happy >= neutral:
        most = "happy"
    elif sad >= angry and sad >= neutral:
        most = "sad"
    else:
        most = "angry" if angry >= neutral else "neutral"
    if shown <= allowed:
        spare = allowed - shown
        return happy, sad, angry, neutral, spare if spare < SLACK else SLACK, 0.0, most
    share = allowed / shown
    return happy * share, sad * share, angry * share, neutral * share, 0.0, shown - allowed, most


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
        people: int = 0,
        covered: float = 0.0,
    ) -> None:
        """Add `seconds` of each emotion, spread evenly from `since` to `until`. `people` were in view at `until`.

        For `covered` of these seconds, all or none, the device was heard. If the time is longer than LONGEST_GAP, only
        its end counts.
        """
        minute = until.replace(second=0, microsecond=0)
        row = self._row(device_id, minute)
        if row[4] < people:
            row[4] = people
        if since >= minute:
            _add(row, seconds, 1.0)
            row[5] += covered
        elif until - since <= _MINUTE:
            for each, share in _spread(since, until, _MINUTE):
                row = self._row(device_id, each)
                _add(row, seconds, share)
                row[5] += covered * share
        elif any(seconds):
            self._long.append((device_id, max(since, until - timedelta(seconds=LONGEST_GAP)), until, seconds))

    def rows(self) -> Iterator[Row]:
        """Rows to be added to what is stored, where one minute may come more than once.

        One by one: 500 devices that all come back after a day have 720,000.
        """
        for (device_id, minute), (happy, sad, angry, neutral, people, covered) in self._gathered.items():
            yield device_id, minute, happy, sad, angry, neutral, int(people), min(covered, MINUTE)
        for device_id, since, until, seconds in self._long:
            for minute, share in _spread(since, until, _MINUTE):
                happy, sad, angry, neutral = (each * share for each in seconds)
                yield device_id, minute, happy, sad, angry, neutral, 0, 0.0

    def hours(self) -> list[Row]:
        """The sums of `rows` a UTC hour, by device and hour."""
        hours: dict[tuple[str, datetime], list[float]] = {}
        hour_of: dict[datetime, datetime] = {}
        for (device_id, minute), row in self._gathered.items():
            hour = hour_of.get(minute)
            if hour is None:
                hour = hour_of[minute] = minute.replace(minute=0)
            sums = hours.get((device_id, hour))
            if sums is None:
                hours[device_id, hour] = [*row]
            else:
                _add(sums, row[:4], 1.0)
                sums[4] = max(sums[4], row[4])
                sums[5] += row[5]
        for device_id, since, until, each in self._long:
            for start, share in _spread(since, until, _HOUR):
                _add(hours.setdefault((device_id, start), [*_EMPTY]), each, share)
        return [
            (device_id, hour, happy, sad, angry, neutral, int(people), min(covered, HOUR))
            for (device_id, hour), (happy, sad, angry, neutral, people, covered) in hours.items()
        ]

    def _row(self, device_id: str, minute: datetime) -> list[float]:
        row = self._gathered.get((device_id, minute))
        if row is None:
            row = self._gathered[device_id, minute] = [*_EMPTY]
        return row


def _add(row: list[float], seconds: Sequence[float], share: float) -> None:
    happy, sad, angry, neutral = seconds
    row[0] += happy * share
    row[1] += sad * share
    row[2] += angry * share
    row[3] += neutral * share


def _spread(since: datetime, until: datetime, step: timedelta) -> Iterator[tuple[datetime, float]]:
    """The minutes or hours from `since` to `until`, each with its share of that time."""
    length = until - since
    start = since - (since - _EPOCH) % step
    while start < until:
        end = start + step
        yield start, (min(end, until) - max(start, since)) / length
        start = end
