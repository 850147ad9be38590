"""Time zones with odd clocks, and the steps of a zone as a plain model has them: minute by minute."""

from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",  # 5:45 ahead
    "Australia/Lord_Howe",  # changes by half an hour
    "Pacific/Apia",  # skipped a day in 2011
    "America/Sao_Paulo",  # has no midnight on some days until 2018
    "America/Havana",  # has two midnights on some days
    "Asia/Beirut",  # has no midnight on some days
    "Africa/Casablanca",  # changes four times a year
)

CHANGES = {
    "UTC": ["2025-03-30T01:00Z"],
    "Europe/Berlin": ["2025-03-30T01:00Z", "2025-10-26T01:00Z"],
    "America/New_York": ["2025-03-09T07:00Z", "2025-11-02T06:00Z"],
    "Asia/Kathmandu": ["1985-12-31T18:30Z"],
    "Australia/Lord_Howe": ["2025-04-05T15:00Z", "2025-10-04T15:30Z"],
    "Pacific/Apia": ["2011-12-30T10:00Z", "2012-03-31T14:00Z"],
    "America/Sao_Paulo": ["2018-02-18T02:00Z", "2018-11-04T03:00Z"],
    "America/Havana": ["2025-03-09T05:00Z", "2025-11-02T05:00Z"],
    "Asia/Beirut": ["2024-03-30T22:00Z", "2024-10-26T21:00Z"],
    "Africa/Casablanca": ["2025-02-23T02:00Z", "2025-04-06T02:00Z"],
}
"""Moments at which the clock of each zone changed."""

DAY = 86_400


def step_on_the_wall(zone: ZoneInfo, step: int) -> Callable[[int], Hashable]:
    """Return a function of a minute since 1970, in seconds. Two minutes are of one step if it returns the same.

    A day is a date. A step of several days is counted from a Monday. A shorter one is the hour and minute, rounded down
    to a step, and which clock showed it: summer time is another clock.
    """

    def of(minute: int) -> Hashable:
        time = datetime.fromtimestamp(minute, UTC).astimezone(zone)
        if step >= DAY:
            return (time.date() - date(1970, 1, 5)) // timedelta(seconds=step)
        return time.date(), (time.hour * 60 + time.minute) * 60 // step, time.utcoffset()

    return of


def steps_on_the_wall(zone: ZoneInfo, start: int, end: int, step: int, *, every: int) -> Iterator[int]:
    """Yield the minutes at which a step begins, of `start` and those after it, looking at one in `every` seconds."""
    key, before = step_on_the_wall(zone, step), None
    for minute in range(start, end, every):
        if (now := key(minute)) != before:
            yield minute
        before = now
