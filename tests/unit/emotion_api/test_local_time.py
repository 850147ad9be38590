"""Days and steps of time zones, against a model that asks the calendar about each minute."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import gcd
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_api.history import Bucket, HistoryRequest, Read, add, reads, span_of
from emotion_api.local_time import local_steps
from tests.zones import CHANGES, DAY, ZONES, step_on_the_wall, steps_on_the_wall

HOUR = 3_600
STEPS = (60, 300, 420, 900, 1_800, HOUR, 5_400, 2 * HOUR, 6 * HOUR, 7 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY)


@st.composite
def wanted(draw: st.DrawFn) -> tuple[ZoneInfo, int, int, int]:
    """A zone, start and end in seconds since 1970, and a step: mostly around a change of the clock."""
    name, step = draw(st.sampled_from(ZONES)), draw(st.sampled_from(STEPS))
    origin, farthest = draw(st.sampled_from([*((change, 3) for change in CHANGES[name]), ("1985-01-01T00:00Z", 5_000)]))
    start = datetime.fromisoformat(origin) + draw(st.timedeltas(timedelta(days=-farthest), timedelta(days=farthest)))
    longest = timedelta(hours=12) if step < HOUR else timedelta(days=3 if step < DAY else 22)
    end = start + draw(st.timedeltas(timedelta(seconds=1), longest))
    return ZoneInfo(name), int(start.timestamp()), int(end.timestamp()) + 1, step


@given(wanted())
@settings(max_examples=150, deadline=None)
def test_the_steps_are_those_on_the_wall(wanted: tuple[ZoneInfo, int, int, int]) -> None:
    zone, first, last, step = wanted

    starts, end = local_steps(zone, first, last, step)

    every = gcd(900, step)
    assert [*starts, end] == list(steps_on_the_wall(zone, starts[0], end + every, step, every=every))
    key = step_on_the_wall(zone, step)
    assert key(starts[0] - 60) != key(starts[0])
    assert starts[0] <= first < [*starts, end][1]
    assert starts[-1] < last <= end
    assert step >= DAY or all(later - earlier <= step for earlier, later in pairwise(starts))


@given(wanted(), st.data())
@settings(max_examples=100, deadline=None)
def test_the_sums_of_a_step_are_those_of_its_minutes(
    wanted: tuple[ZoneInfo, int, int, int], data: st.DataObject
) -> None:
    """The database adds up hours and minutes. A plain model puts each minute into its step on the wall."""
    zone, first, last, step = wanted
    begin, end = (datetime.fromtimestamp(time, UTC) for time in (first, last))
    span = span_of(HistoryRequest("jetson_1", begin, end, step, zone), end)
    minutes = data.draw(st.sets(st.integers(span.start // 60, span.end // 60 - 1), max_size=200))
    weights = {minute * 60: float(minute % 97 + 1) for minute in minutes}

    found: dict[int, Bucket] = {}
    for read in reads(span):
        add(found, span, sums(weights, read))

    key = step_on_the_wall(zone, step)
    model: dict[object, float] = {}
    for minute, weight in weights.items():
        model[key(minute)] = model.get(key(minute), 0.0) + weight
    assert {key(start): bucket.seconds[0] for start, bucket in found.items()} == model


def sums(weights: dict[int, float], read: Read) -> list[Bucket]:
    """The sums of `read` as the database has them, from stored hours or minutes."""
    rows: dict[int, float] = {}
    for minute, weight in weights.items():
        row = minute // read.row_seconds * read.row_seconds
        rows[row] = rows.get(row, 0.0) + weight
    return [
        Bucket(row - (row - read.start) % read.sum_seconds, (weight, 0.0, 0.0, 0.0), 1)
        for row, weight in rows.items()
        if read.start <= row < read.end
    ]


def on_the_wall(zone: ZoneInfo, time: int) -> str:
    return f"{datetime.fromtimestamp(time, zone):%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2025-03-09", 23),
        ("America/New_York", "2025-11-02", 25),
        ("Australia/Lord_Howe", "2025-04-06", 24.5),
        ("Australia/Lord_Howe", "2025-10-05", 23.5),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("America/Havana", "2025-11-02", 25),
        ("Asia/Kathmandu", "2025-11-02", 24),
    ],
)
def test_a_day_is_as_long_as_its_clock_says(zone: str, day: str, hours: float) -> None:
    noon = int(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone)).timestamp())

    starts, end = local_steps(ZoneInfo(zone), noon, noon + 1, DAY)

    assert (len(starts), (end - starts[0]) / HOUR) == (1, hours)


def test_a_day_that_was_skipped_has_no_point() -> None:
    zone = ZoneInfo("Pacific/Apia")
    first, last = (int(datetime(2011, 12, day, 12, tzinfo=zone).timestamp()) for day in (29, 31))

    starts, end = local_steps(zone, first, last, DAY)

    assert [on_the_wall(zone, time) for time in (*starts, end)] == ["12-29 00:00", "12-31 00:00", "01-01 00:00"]


def test_hours_of_a_clock_that_is_set_back_are_told_apart() -> None:
    zone = ZoneInfo("America/New_York")
    first = int(datetime(2025, 11, 2, tzinfo=zone).timestamp())

    starts, end = local_steps(zone, first, first + 4 * HOUR, HOUR)

    assert [on_the_wall(zone, time)[6:] for time in (*starts, end)] == ["00:00", "01:00", "01:00", "02:00", "03:00"]


def test_longer_steps_are_on_the_wall_as_every_day_also_after_a_change() -> None:
    zone = ZoneInfo("America/New_York")
    first = int(datetime(2025, 3, 9, tzinfo=zone).timestamp())

    starts, _ = local_steps(zone, first, first + 20 * HOUR, 6 * HOUR)

    assert [on_the_wall(zone, time)[6:] for time in starts] == ["00:00", "03:00", "06:00", "12:00", "18:00"]


def test_a_day_begins_once_although_the_clock_is_set_back_to_the_day_before() -> None:
    """St. John's changed its clock at 00:01 until 2011."""
    zone = ZoneInfo("America/St_Johns")
    noon = int(datetime(2010, 11, 6, 12, tzinfo=zone).timestamp())

    days, end = local_steps(zone, noon, noon + DAY, DAY)
    hours, _ = local_steps(zone, end - 30 * 60, end, 7 * HOUR)
    again, _ = local_steps(zone, days[1] + 1_800, days[1] + 1_801, DAY)

    assert [on_the_wall(zone, time) for time in (*days, end)] == ["11-06 00:00", "11-07 00:00", "11-08 00:00"]
    assert on_the_wall(zone, hours[0]) == "11-07 21:00"
    assert (on_the_wall(zone, days[1] + 1_800), again) == ("11-06 23:30", [days[1]])
    assert [(later - earlier) / HOUR for earlier, later in zip(days, [*days[1:], end], strict=True)] == [24, 25]
