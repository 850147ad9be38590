"""The spans of an overview: local days, of which whole hours are read as hours, and the rest as minutes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from emotion_api.overview import Part, spans_of

NEW_YORK, KATHMANDU = ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "now", "today", "until", "before", "before_until"),
    [
        ("UTC", "2025-11-14 15:30:20", "2025-11-14 00:00", "2025-11-14 15:31", "2025-11-07 00:00", "2025-11-07 15:31"),
        ("UTC", "2025-11-14 15:30:00", "2025-11-14 00:00", "2025-11-14 15:30", "2025-11-07 00:00", "2025-11-07 15:30"),
        ("UTC", "2025-11-14 23:59:59", "2025-11-14 00:00", "2025-11-15 00:00", "2025-11-07 00:00", "2025-11-08 00:00"),
        (
            "Asia/Kathmandu",
            "2025-11-14 18:20",
            "2025-11-14 18:15",
            "2025-11-14 18:20",
            "2025-11-07 18:15",
            "2025-11-07 18:20",
        ),
        # Summer time ended on 2 November: that day has 25 hours, and those before are an hour apart.
        (
            "America/New_York",
            "2025-11-04 17:00",
            "2025-11-04 05:00",
            "2025-11-04 17:00",
            "2025-10-28 04:00",
            "2025-10-28 16:00",
        ),
        (
            "America/New_York",
            "2025-11-02 05:30",
            "2025-11-02 04:00",
            "2025-11-02 05:30",
            "2025-10-26 04:00",
            "2025-10-26 05:30",
        ),
        (
            "America/New_York",
            "2025-11-02 06:30",
            "2025-11-02 04:00",
            "2025-11-02 06:30",
            "2025-10-26 04:00",
            "2025-10-26 05:30",
        ),
        (
            "America/New_York",
            "2025-11-09 06:30",
            "2025-11-09 05:00",
            "2025-11-09 06:30",
            "2025-11-02 04:00",
            "2025-11-02 05:30",
        ),
        # It begins on 9 March: half past two does not exist.
        (
            "America/New_York",
            "2025-03-16 06:30",
            "2025-03-16 04:00",
            "2025-03-16 06:30",
            "2025-03-09 05:00",
            "2025-03-09 07:30",
        ),
        (
            "America/New_York",
            "2025-03-16 07:30",
            "2025-03-16 04:00",
            "2025-03-16 07:30",
            "2025-03-09 05:00",
            "2025-03-09 07:30",
        ),
        # Cairo's summer time begins at midnight.
        (
            "Africa/Cairo",
            "2025-05-02 12:00",
            "2025-05-01 21:00",
            "2025-05-02 12:00",
            "2025-04-24 22:00",
            "2025-04-25 12:00",
        ),
    ],
)
def test_days_begin_at_local_midnight(
    zone: str, now: str, today: str, until: str, before: str, before_until: str
) -> None:
    spans = spans_of(utc(now), ZoneInfo(zone))

    assert spans[:4] == (utc(today), utc(until), utc(before), utc(before_until))


def test_the_hours_are_those_of_utc_up_to_the_present_one() -> None:
    spans = spans_of(utc("2025-11-14 15:59:59"), KATHMANDU)

    assert (spans.first_hour, spans.end) == (utc("2025-11-13 16:00"), utc("2025-11-14 16:00"))


def test_a_part_of_an_hour_is_read_as_minutes() -> None:
    spans = spans_of(utc("2025-11-15 15:30"), KATHMANDU)

    assert spans.parts_of_today() == [
        Part(False, utc("2025-11-14 18:15"), utc("2025-11-14 19:00")),
        Part(True, utc("2025-11-14 19:00"), utc("2025-11-15 16:00")),
    ]
    assert spans.parts_before() == [
        Part(False, utc("2025-11-07 18:15"), utc("2025-11-07 19:00")),
        Part(True, utc("2025-11-07 19:00"), utc("2025-11-08 15:00")),
        Part(False, utc("2025-11-08 15:00"), utc("2025-11-08 15:30")),
    ]


def test_a_span_within_an_hour_is_read_as_minutes() -> None:
    spans = spans_of(utc("2025-11-14 18:20"), KATHMANDU)

    assert spans.parts_of_today() == [Part(False, utc("2025-11-14 18:15"), utc("2025-11-14 19:00"))]
    assert spans.parts_before() == [Part(False, utc("2025-11-07 18:15"), utc("2025-11-07 18:20"))]


def test_at_midnight_there_is_nothing_to_compare_with() -> None:
    spans = spans_of(utc("2025-11-14 00:00"), ZoneInfo("UTC"))

    assert spans.parts_before() == []
    assert spans.parts_of_today() == [Part(True, utc("2025-11-14 00:00"), utc("2025-11-14 01:00"))]


@pytest.mark.parametrize("zone", [NEW_YORK, KATHMANDU, ZoneInfo("Australia/Lord_Howe")])
def test_parts_follow_one_another_without_a_gap(zone: ZoneInfo) -> None:
    for minutes in range(0, 365 * 1_440, 1_237):
        spans = spans_of(utc("2025-01-01 00:00:30") + timedelta(minutes=minutes), zone)
        for (start, end), parts in (
            ((spans.today, spans.end), spans.parts_of_today()),
            ((spans.before, spans.before_until), spans.parts_before()),
        ):
            assert [part.start for part in parts] + [end] == [start] + [part.end for part in parts]
            assert all(part.start.minute == part.end.minute == 0 for part in parts if part.of_hours)
