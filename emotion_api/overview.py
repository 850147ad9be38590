"""From sums of the history to the overview of all devices as JSON: which spans, added up of what. No I/O, no clock.

The structs are also the schema in the OpenAPI document.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Annotated, NamedTuple

import msgspec

from emotion_api.devices import (
    Circumstances,
    DeviceRow,
    DevicesRequest,
    Status,
    Time,
    is_online,
    rejected_by_device,
    status_of,
)
from emotion_api.summary import NO_TIME, EmotionTotals, Now, Seconds, finite

HOURS = 24
"""The hours of the sparkline."""

DEVICES_A_PIECE = 100

_NO_HOURS = [0] * HOURS
_NOT_ONLINE = Now(0, NO_TIME)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _MINUTE, _WEEK = timedelta(hours=1), timedelta(minutes=1), timedelta(days=7)

_encode = msgspec.json.Encoder().encode


class OverviewRequest(DevicesRequest):
    """A request for the overview of all devices, or of some."""


class Sums(NamedTuple):
    """Sums of the history of one device: the most people in one batch, and seconds of each of EMOTIONS.

    `covered` are the seconds for which the device was heard, None if no row tells it.
    """

    most_people: int
    covered: float | None
    happy: float
    sad: float
    angry: float
    neutral: float


NOTHING = Sums(0, None, 0.0, 0.0, 0.0, 0.0)


class Part(NamedTuple):
    """A part of a span, from `start` to before `end`, that stored hours cover, or else minutes."""

    of_hours: bool
    start: datetime
    end: datetime


class Spans(NamedTuple):
    """The spans of an overview in UTC.

    `today` is the last local midnight, `until` the end of the present minute. `before` and `before_until` are the same
    local times a week before. `first_hour` is the first of HOURS hours, of which the last has not ended.
    """

    today: datetime
    until: datetime
    before: datetime
    before_until: datetime
    first_hour: datetime

    @property
    def end(self) -> datetime:
        """The end of the present hour."""
        return self.first_hour + HOURS * _HOUR

    def parts_of_today(self) -> list[Part]:
        """The parts of the present day. The present hour is read whole, because the rest of it has no minutes yet."""
        return _parts(self.today, self.end)

    def parts_before(self) -> list[Part]:
        """The parts of the day to compare with."""
        return _parts(self.before, self.before_until)


class Day(msgspec.Struct, frozen=True):
    """Sums of a day until the present time of day."""

    seconds: EmotionTotals
    most_people: Annotated[int, msgspec.Meta(ge=0, description="the most people in one batch")]
    covered: Annotated[
        Seconds | None, msgspec.Meta(description="seconds for which the device was heard; null if it is not known")
    ]


class OverviewDevice(msgspec.Struct, frozen=True):
    """One device: its state, the people in view, and its day so far."""

    device_id: str
    device_name: str
    online: Annotated[bool, msgspec.Meta(description="whether a batch came lately, and no offline status since")]
    status: Annotated[Status | None, msgspec.Meta(description="the last message on its status topic")]
    status_at: Annotated[Time | None, msgspec.Meta(description="UTC, when that message was received")]
    last_batch: Annotated[Time | None, msgspec.Meta(description="UTC, timestamp of its newest batch")]
    received_at: Annotated[Time | None, msgspec.Meta(description="UTC, when that batch was received")]
    clock_skew: Annotated[float | None, msgspec.Meta(description="seconds that its clock was ahead")]
    rejected_last_hour: Annotated[int, msgspec.Meta(ge=0, description="its messages that were invalid")]
    now: Annotated[Now, msgspec.Meta(description="zeros if the device is not online")]
    today: Annotated[Day, msgspec.Meta(description="from today to until")]
    before: Annotated[Day, msgspec.Meta(description="the same weekday a week before, until the same local time")]
    hours: Annotated[
        list[int],
        msgspec.Meta(
            min_length=HOURS,
            max_length=HOURS,
            description="whole seconds of all emotions in each of the last 24 UTC hours, the oldest first",
        ),
    ]


class Overview(msgspec.Struct, frozen=True):
    """All devices, in order of their ids."""

    time_zone: Annotated[str, msgspec.Meta(description="the site's time zone, an IANA name")]
    silent_after: Annotated[
        float, msgspec.Meta(gt=0, description="seconds without a batch after which a device is not online")
    ]
    today: Annotated[Time, msgspec.Meta(description="UTC, the last local midnight")]
    until: Annotated[Time, msgspec.Meta(description="UTC, the end of the present minute")]
    before: Annotated[Time, msgspec.Meta(description="UTC, local midnight of the same weekday a week before")]
    cameras: list[OverviewDevice]


class Shown(NamedTuple):
    """The seconds of each emotion in the 10 s up to the newest batch, and when `covered` began to be stored."""

    seconds: EmotionTotals
    covered_since: datetime | None


class Found(NamedTuple):
    """The stored values by device id: sums of today and of the week before, and the seconds of each hour."""

    shown: Mapping[str, Shown]
    today: dict[str, Sums]
    before: dict[str, Sums]
    hours: dict[str, list[int]]


_NEVER = Shown(NO_TIME, None)


def spans_of(now: datetime, zone: tzinfo) -> Spans:
    """The spans of the overview at `now` in the site's `zone`."""
    day = now.astimezone(zone).date()
    until = _EPOCH - (_EPOCH - now) // _MINUTE * _MINUTE
    local_until = until.astimezone(zone).replace(tzinfo=None)
    return Spans(
        today=_instant(datetime.combine(day, time()), zone),
        until=until,
        before=_instant(datetime.combine(day, time()) - _WEEK, zone),
        before_until=_instant(local_until - _WEEK, zone),
        first_hour=now.replace(minute=0, second=0, microsecond=0) - (HOURS - 1) * _HOUR,
    )


def add(found: dict[str, Sums], device_id: str, sums: Sums) -> None:
    """Add the sums of another part of the span to those of the device."""
    other = found.get(device_id)
    if other is not None:
        known = [each.covered for each in (sums, other) if each.covered is not None]
        seconds = (one + more for one, more in zip(sums[2:], other[2:], strict=True))
        sums = Sums(max(sums.most_people, other.most_people), sum(known) if known else None, *seconds)
    found[device_id] = sums


def encode_overview(
    rows: Sequence[DeviceRow],
    spans: Spans,
    found: Found,
    circumstances: Circumstances,
    name_of: Callable[[str, str | None], str],
) -> Iterator[bytes]:
    """The Overview as JSON, in pieces; `rows` are in order of their ids.

    `name_of` takes an id and the name in the database, and returns the name to show.
    """
    rejected = rejected_by_device(circumstances)
    zone, silent_after = circumstances.time_zone, circumstances.silent_after
    yield _encode(Overview(zone, silent_after, spans.today, spans.until, spans.before, []))[:-2]
    comma = b""
    for at in range(0, len(rows), DEVICES_A_PIECE):
        piece = [
            _device(row, name_of(row.device_id, row.device_name), spans, found, circumstances, rejected)
            for row in rows[at : at + DEVICES_A_PIECE]
        ]
        yield comma + _encode(piece)[1:-1]
        comma = b","
    yield b"]}"


def _instant(local: datetime, zone: tzinfo) -> datetime:
    """The UTC time of a local one: of two the first. One that a clock change skips is as long after the change."""
    return local.replace(tzinfo=zone).astimezone(UTC)


def _parts(start: datetime, end: datetime) -> list[Part]:
    """Whole hours, and the minutes before and after them."""
    last = end.replace(minute=0)
    first = start.replace(minute=0)
    if first < start:
        first += _HOUR
    if first >= last:
        parts = [Part(False, start, end)]
    else:
        parts = [Part(False, start, first), Part(True, first, last), Part(False, last, end)]
    return [part for part in parts if part.start < part.end]


def _device(
    row: DeviceRow,
    name: str,
    spans: Spans,
    found: Found,
    circumstances: Circumstances,
    rejected: Mapping[str, int],
) -> OverviewDevice:
    device_id = row.device_id
    shown = found.shown.get(device_id, _NEVER)
    online = is_online(row, now=circumstances.now, silent_after=circumstances.silent_after)
    return OverviewDevice(
        device_id,
        name,
        online,
        status_of(row.status),
        row.status_at,
        row.updated_at,
        row.received_at,
        row.clock_skew,
        rejected.get(device_id, 0),
        Now(row.people or 0, shown.seconds) if online else _NOT_ONLINE,
        _day(found.today.get(device_id, NOTHING), spans.today, shown.covered_since),
        _day(found.before.get(device_id, NOTHING), spans.before, shown.covered_since),
        found.hours.get(device_id, _NO_HOURS),
    )


def _day(sums: Sums, start: datetime, covered_since: datetime | None) -> Day:
    most_people, covered, *seconds = sums
    if covered is None and covered_since is not None and start >= covered_since:
        covered = 0.0
    return Day(
        EmotionTotals(*map(_milliseconds, seconds)), most_people, None if covered is None else _milliseconds(covered)
    )


def _milliseconds(seconds: float) -> float:
    return round(finite(seconds), 3)
