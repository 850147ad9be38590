"""The days and steps of a time zone. Times are seconds since 1970, whole minutes. No I/O, no clock."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count, pairwise
from zoneinfo import ZoneInfo

HOUR, DAY = 3_600, 86_400

_MONDAY = 4
"""The number of a Monday among the days since 1970: days are counted from there, so seven of them are a week."""

_FARTHEST = 16 * HOUR
"""No clock is as far from UTC as that. Clocks change at most once a week, so at most once within twice this time."""

_MINUTE = timedelta(minutes=1)


def local_steps(zone: ZoneInfo, first: int, last: int, step: int) -> tuple[list[int], int]:
    """The beginnings of the steps from the one that has `first` on, and the end of the one that reaches `last`.

    Days may have 23 to 25 hours. Steps shorter than a day begin when a clock on the wall shows a multiple of the step,
    and when the clock changes, so that no step is longer than `step`.
    """
    times = _days(zone, first, step // DAY) if step >= DAY else _parts_of_days(zone, first, step)
    starts, end = [], first
    for start, end in pairwise(times):
        if end > first:
            starts.append(start)
        if end >= last:
            break
    return starts, end


def _days(zone: ZoneInfo, first: int, length: int) -> Iterator[int]:
    """The beginnings of `length` days at a time, from at or before `first` on."""
    number = ((first + _offset(zone, first)) // DAY - _MONDAY) // length
    before = None
    for day in count(_MONDAY + number * length, length):
        start = _start_of_day(zone, day)
        if start != before:  # islands that crossed the date line have skipped a day
            yield start
        before = start


def _parts_of_days(zone: ZoneInfo, first: int, step: int) -> Iterator[int]:
    """The beginnings of the steps of each day, from the day of `first` on."""
    for start, end in pairwise(_days(zone, first, 1)):
        midnight = (end - 60 + _offset(zone, end - 60)) // DAY * DAY
        change = _change(zone, start, end)
        for begin, finish in ((start, change), (change, end)):
            if begin < finish:
                yield begin
                on_the_wall = begin + _offset(zone, begin) - midnight
                yield from range(begin - on_the_wall % step + step, finish, step)


def _start_of_day(zone: ZoneInfo, day: int) -> int:
    """The first moment of a day. It is later than midnight if the clock skips midnight.

    The clock may be set back from 00:01 to 23:01: a day begins when its date begins first.
    """
    midnight = day * DAY
    earliest, latest = midnight - _FARTHEST, midnight + _FARTHEST
    before, after = _offset(zone, earliest), _offset(zone, latest)
    if before == after:
        return midnight - before
    change = _change(zone, earliest, latest)
    return midnight - before if midnight - before < change else max(change, midnight - after)


def _change(zone: ZoneInfo, earliest: int, latest: int) -> int:
    """The first moment after a change of the clock between the two; `latest` if there is none."""
    before = _offset(zone, earliest)
    if _offset(zone, latest) == before:
        return latest
    while latest - earliest > 60:
        middle = (earliest + latest) // 120 * 60
        if _offset(zone, middle) == before:
            earliest = middle
        else:
            latest = middle
    return latest


def _offset(zone: ZoneInfo, time: int) -> int:
    """Seconds that clocks are ahead of UTC, in whole minutes: Liberia's had half a minute more until 1972."""
    ahead = datetime.fromtimestamp(time, zone).utcoffset()
    assert ahead is not None
    return ahead // _MINUTE * 60
