"""From sums of minutes to the history of one device, as JSON or CSV: which span, in which steps. No I/O, no clock.

The structs are also the schema in the OpenAPI document.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, count, islice, pairwise
from math import gcd
from typing import Annotated, Any, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import astuple

from emotion_api.bad_request import BadRequest
from emotion_api.local_time import local_steps
from emotion_api.summary import DeviceInfo, Seconds, finite
from shared.batch import EMOTIONS

STEPS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)
"""Seconds that a point may stand for if the request names no step; a longer step is a number of whole days."""

MINUTE, HOUR, DAY = 60, 3_600, STEPS[-1]

LONGEST_LOCAL_STEP = 10_000 * DAY

FEW_HOURS = 3
"""To read the minutes of so many hours takes less time than two more selects."""

POINTS_CHOSEN = 500
"""The most points if the request names no step: as many as a chart has room for."""

MOST_POINTS = 10_080
"""The minutes of a week."""

POINTS_A_PIECE = 500

DEFAULT_SPAN = timedelta(days=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)  # a step that is chosen leads at most 16 years beyond
_SECOND = timedelta(seconds=1)
_END_OF_TIME = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
_NO_TIME = (0.0,) * len(EMOTIONS)

_COLUMNS = ("start", *EMOTIONS, "most_people", "covered")

_UNSAFE = re.compile(r"^[.-]|[^A-Za-z0-9._-]")
"""Characters that mean something in a file name."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """A request for a history: `start` and `end` in aware UTC, `step` in seconds; None for an omitted value.

    The steps are those of `zone`'s days. If it is None, they are counted from 1970 in UTC.
    """

    device_id: str
    start: datetime | None = None
    end: datetime | None = None
    step: int | None = None
    zone: ZoneInfo | None = None
    csv: bool = False

    @property
    def time_dependent(self) -> bool:
        """Return True if the history ends now."""
        return self.end is None


class Span(NamedTuple):
    """Steps without a gap: their beginnings, and the end of the last one, in seconds since 1970.

    In UTC each takes `step` seconds. In another zone the clock may change, and a day may have 23 to 25 hours.
    """

    starts: Sequence[int]
    end: int
    step: int
    zone: ZoneInfo | None = None

    @property
    def start(self) -> int:
        return self.starts[0]

    def start_of(self, time: int) -> int:
        """The beginning of the step that has `time`."""
        return self.starts[bisect_right(self.starts, time) - 1]


class Read(NamedTuple):
    """A part of a span to be read from rows of `row_seconds`: hours are stored, too.

    The database adds up those of each `sum_seconds` from `start` on: a step of the span, or a part of one.
    """

    start: int
    end: int
    row_seconds: int
    sum_seconds: int

    @property
    def most_rows(self) -> int:
        return (self.end - self.start) // self.row_seconds


class Bucket(NamedTuple):
    """The sum of the minutes from `start` on, of a step or a part of one: seconds of each of EMOTIONS.

    `covered` are the seconds for which the device was heard, None if no row tells it.
    """

    start: int
    seconds: tuple[float, ...]
    most_people: int
    covered: float | None = None


Buckets: TypeAlias = Mapping[int, Bucket]
"""Buckets by the beginning of their step; a step without any minute has none."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """Seconds of each emotion that all people before the camera have shown together in one step."""

    start: Annotated[datetime, msgspec.Meta(tz=True, description="UTC, the step's beginning")]
    happy: Seconds
    sad: Seconds
    angry: Seconds
    neutral: Seconds
    most_people: Annotated[int, msgspec.Meta(ge=0, description="the most people in one batch")]
    covered: Annotated[
        Seconds | None,
        msgspec.Meta(
            description="seconds of the step for which the device was heard, from batch to batch if they are at most "
            "60 s apart; null if it is not known"
        ),
    ]


class History(msgspec.Struct, frozen=True):
    """One device: how long people have shown each emotion in each step. A step without any people has zeros."""

    device_id: str
    device_name: str
    start: Annotated[datetime, msgspec.Meta(tz=True, description="UTC, the beginning of a step")]
    end: Annotated[datetime, msgspec.Meta(tz=True, description="UTC, the end of a step")]
    step: Annotated[
        int,
        msgspec.Meta(
            ge=60,
            description="seconds that each point stands for; in a time zone a point lasts until the next one starts",
        ),
    ]
    time_zone: Annotated[str, msgspec.Meta(description="the zone of the steps, an IANA name")]
    points: Annotated[list[Point], msgspec.Meta(max_length=MOST_POINTS, description="from start on, without gaps")]


def span_of(wanted: HistoryRequest, now: datetime) -> Span:
    """The span that is answered: `start` rounded down to a step, `end` up. Raises BadRequest."""
    end = now if wanted.end is None else wanted.end
    if not _EPOCH < end <= _LATEST:
        raise BadRequest("end has to lie between the years 1970 and 8999.")
    start = max(end - DEFAULT_SPAN, _EPOCH) if wanted.start is None else wanted.start
    if start < _EPOCH:
        raise BadRequest("start has to be 1970-01-01T00:00:00Z or later.")
    if start >= end:
        raise BadRequest("start has to be before end, which is now if it is left out.")
    first, last = (start - _EPOCH) // _SECOND, -((_EPOCH - end) // _SECOND)
    zone = wanted.zone
    if wanted.step is None:
        return _chosen(first, last, zone)
    if zone is not None and wanted.step > DAY and (wanted.step % DAY or wanted.step > LONGEST_LOCAL_STEP):
        raise BadRequest("step has to be shorter than a day or whole days, at most 10,000, if it is of a time zone.")
    span = None if (last - first) // wanted.step > MOST_POINTS else _rounded(first, last, wanted.step, zone)
    if span is None or len(span.starts) > MOST_POINTS:
        raise BadRequest(
            f"These are more than {MOST_POINTS:,} points: ask for a longer step or a shorter time, or leave step out "
            "to have one chosen."
        )
    if span.end > _END_OF_TIME:
        raise BadRequest("step is too long: rounded up to a multiple of it, end would lie beyond the year 9998.")
    return span


def reads(span: Span) -> list[Read]:
    """The rows to read: hours, but minutes of the hours in which a step begins."""
    bounds = [*span.starts, span.end]
    cut = {time // HOUR for time in bounds if time % HOUR}
    if span.step % HOUR:
        cut.update(range(span.start // HOUR, span.end // HOUR + 1))
    for hour, other in pairwise(sorted(cut)):
        cut.update(range(hour, other if other - hour <= FEW_HOURS else hour))
    irregular = (b for a, b, c in zip(bounds, bounds[1:], bounds[2:], strict=False) if b - a != c - b)
    edges = {span.start, span.end, *irregular, *(time * HOUR for hour in cut for time in (hour, hour + 1))}
    found: list[Read] = []
    for start, end in pairwise(sorted(time for time in edges if span.start <= time <= span.end)):
        row_seconds = MINUTE if start // HOUR in cut else HOUR
        if found and found[-1].row_seconds == row_seconds == MINUTE:
            start = found.pop().start
        inner = bounds[bisect_left(bounds, start) : bisect_right(bounds, end)]
        found.append(Read(start, end, row_seconds, gcd(end - start, *(time - start for time in inner))))
    return found


def add(found: dict[int, Bucket], span: Span, buckets: Iterable[Bucket]) -> None:
    """Put the buckets into `found`, by the beginning of their step. Two buckets of one step become their sum."""
    for bucket in buckets:
        start = span.start_of(bucket.start)
        other = found.get(start)
        found[start] = bucket if other is None else _sum(bucket, other)


def encode_history(info: DeviceInfo, span: Span, buckets: Buckets) -> Iterator[bytes]:
    """A History as JSON, in pieces."""
    zone = "UTC" if span.zone is None else span.zone.key
    start, end = _time(span.start), _time(span.end)
    yield _encode(History(info.device_id, info.device_name, start, end, span.step, zone, []))[:-2]
    points = _points(info, span, buckets)
    comma = b""
    while piece := list(islice(points, POINTS_A_PIECE)):
        yield comma + _encode(piece)[1:-1]
        comma = b","
    yield b"]}"


def encode_csv(info: DeviceInfo, span: Span, buckets: Buckets) -> Iterator[bytes]:
    """The points of a History as CSV (RFC 4180) with a header line, in pieces.

    If the steps are of a time zone, the first column is the local time as spreadsheets read it.
    """
    zone = span.zone
    yield ",".join([*(["local_time"] if zone else []), *_COLUMNS]).encode() + b"\r\n"
    lines = (_line(point, zone) for point in _points(info, span, buckets))
    while piece := "".join(islice(lines, POINTS_A_PIECE)):
        yield piece.encode("ascii")


def file_name(device_id: str, span: Span) -> str:
    """The name of a CSV file: the device, and the first and the last day."""
    zone = span.zone or UTC
    first, last = (datetime.fromtimestamp(time, zone) for time in (span.start, span.end - 1))
    return f"{_UNSAFE.sub('_', device_id)}_{first:%Y-%m-%d}_{last:%Y-%m-%d}.csv"


def _chosen(first: int, last: int, zone: ZoneInfo | None) -> Span:
    """The span with the shortest step that makes few enough points."""
    days = max(1, (last - first) // (POINTS_CHOSEN * DAY))
    for step in chain(STEPS[:-1], count(days * DAY, DAY)):
        if (last - first) // step <= POINTS_CHOSEN:
            span = _rounded(first, last, step, zone)
            if len(span.starts) <= POINTS_CHOSEN:
                break
    return span


def _rounded(first: int, last: int, step: int, zone: ZoneInfo | None) -> Span:
    """The whole steps from `first` to `last`, both in seconds since 1970."""
    if zone is not None:
        return Span(*local_steps(zone, first, last, step), step, zone)
    end = -(-last // step) * step
    return Span(range(first // step * step, end, step), end, step)


def _points(info: DeviceInfo, span: Span, buckets: Buckets) -> Iterator[Point]:
    known_from = info.covered_since
    for start in span.starts:
        time = _time(start)
        bucket = buckets.get(start)
        covered = None if bucket is None else bucket.covered
        if covered is not None:
            covered = _milliseconds(covered)
        elif known_from is not None and time >= known_from:
            covered = 0.0
        if bucket is None:
            yield _point(time, _NO_TIME, 0, covered)
        else:
            yield _point(time, map(_milliseconds, bucket.seconds), bucket.most_people, covered)


def _point(start: datetime, seconds: Iterable[float], most_people: int, covered: float | None) -> Point:
    values: Any = (start, *seconds, most_people, covered)
    return Point(*values)


def _line(point: Point, zone: ZoneInfo | None) -> str:
    start, *numbers = astuple(point)
    local = [f"{start.astimezone(zone):%Y-%m-%d %H:%M}"] if zone else []
    cells = ("" if number is None else str(number) for number in numbers)
    return ",".join([*local, f"{start:%Y-%m-%dT%H:%M:%SZ}", *cells]) + "\r\n"


def _sum(one: Bucket, other: Bucket) -> Bucket:
    seconds = tuple(map(sum, zip(one.seconds, other.seconds, strict=True)))
    known = [each.covered for each in (one, other) if each.covered is not None]
    return Bucket(one.start, seconds, max(one.most_people, other.most_people), sum(known) if known else None)


def _milliseconds(seconds: float) -> float:
    return round(finite(seconds), 3)


def _time(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
