"""From sums of minutes to the history of one device, as JSON or CSV: which span, in which steps. No I/O, no clock.

The structs are also the schema in the OpenAPI document.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import astuple

from emotion_api.bad_request import BadRequest
from emotion_api.summary import DeviceInfo, Seconds, finite
from shared.batch import EMOTIONS

STEPS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)
"""Seconds that a point may stand for if the request names no step; a longer step is a number of whole days."""

MINUTE, HOUR, DAY = 60, 3_600, STEPS[-1]

POINTS_CHOSEN = 500
"""The most points if the request names no step: as many as a chart has room for."""

MOST_POINTS = 10_080
"""The minutes of a week."""

POINTS_A_PIECE = 500

DEFAULT_SPAN = timedelta(days=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)  # a step that is chosen leads at most 16 years beyond
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_TIME = (0.0,) * len(EMOTIONS)

_CSV_HEAD = ",".join(["start", *EMOTIONS, "most_people"]).encode() + b"\r\n"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """A request for a history: `start` and `end` in aware UTC, `step` in seconds; None for an omitted value."""

    device_id: str
    start: datetime | None = None
    end: datetime | None = None
    step: int | None = None
    csv: bool = False

    @property
    def time_dependent(self) -> bool:
        """Return True if the history ends now."""
        return self.end is None


class Span(NamedTuple):
    """From `start` to before `end` in steps of `step`: seconds since 1970, both multiples of `step`."""

    start: int
    end: int
    step: int

    @property
    def points(self) -> int:
        return (self.end - self.start) // self.step

    @property
    def row_seconds(self) -> int:
        """The seconds that each stored row of this history stands for: hours are stored, too."""
        return MINUTE if self.step % HOUR else HOUR

    @property
    def most_rows(self) -> int:
        return (self.end - self.start) // self.row_seconds


class Bucket(NamedTuple):
    """The sum of the minutes of one step, or of some of them: seconds of each of EMOTIONS.

    The step begins at `number` times its length.
    """

    number: int
    seconds: tuple[float, ...]
    most_people: int


Buckets: TypeAlias = Mapping[int, Bucket]
"""Buckets by their number; a step without any minute has none."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """Seconds of each emotion that all people before the camera have shown together in one step."""

    start: Annotated[datetime, msgspec.Meta(tz=True, description="UTC, the step's beginning")]
    happy: Seconds
    sad: Seconds
    angry: Seconds
    neutral: Seconds
    most_people: Annotated[int, msgspec.Meta(ge=0, description="the most people in one batch")]


class History(msgspec.Struct, frozen=True):
    """One device: how long people have shown each emotion in each step. A step without any people has zeros."""

    device_id: str
    device_name: str
    start: Annotated[datetime, msgspec.Meta(tz=True, description="UTC, a multiple of the step since 1970")]
    end: Annotated[datetime, msgspec.Meta(tz=True, description="UTC, a multiple of the step since 1970")]
    step: Annotated[int, msgspec.Meta(ge=60, description="seconds that each point stands for")]
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
    first, last = (start - _EPOCH) // _MICROSECOND, (end - _EPOCH) // _MICROSECOND
    span = _chosen(first, last) if wanted.step is None else _rounded(first, last, wanted.step)
    if span.points > MOST_POINTS:
        raise BadRequest(
            f"These are {span.points:,} points, more than {MOST_POINTS:,}: ask for a longer step or a shorter time, "
            "or leave step out to have one chosen."
        )
    if span.end > _seconds(_END_OF_TIME):
        raise BadRequest("step is too long: rounded up to a multiple of it, end would lie beyond the year 9998.")
    return span


def add(found: dict[int, Bucket], buckets: Iterable[Bucket]) -> None:
    """Put the buckets into `found`, by number. Two buckets with the same number become their sum."""
    for bucket in buckets:
        other = found.get(bucket.number)
        found[bucket.number] = bucket if other is None else _sum(bucket, other)


def encode_history(info: DeviceInfo, span: Span, buckets: Buckets) -> Iterator[bytes]:
    """A History as JSON, in pieces."""
    yield _encode(History(info.device_id, info.device_name, _time(span.start), _time(span.end), span.step, []))[:-2]
    points = _points(span, buckets)
    comma = b""
    while piece := list(islice(points, POINTS_A_PIECE)):
        yield comma + _encode(piece)[1:-1]
        comma = b","
    yield b"]}"


def encode_csv(span: Span, buckets: Buckets) -> Iterator[bytes]:
    """The points of a History as CSV (RFC 4180) with a header line, in pieces."""
    yield _CSV_HEAD
    lines = map(_line, _points(span, buckets))
    while piece := "".join(islice(lines, POINTS_A_PIECE)):
        yield piece.encode("ascii")


def _chosen(first: int, last: int) -> Span:
    """The span with the shortest step that makes few enough points."""
    for step in STEPS:
        if (span := _rounded(first, last, step)).points <= POINTS_CHOSEN:
            return span
    days = (last - first) // (POINTS_CHOSEN * DAY * 1_000_000) or 1
    while (span := _rounded(first, last, days * DAY)).points > POINTS_CHOSEN:
        days += 1
    return span


def _rounded(first: int, last: int, step: int) -> Span:
    """The whole steps from `first` to `last`, both in microseconds since 1970."""
    length = step * 1_000_000
    return Span(first // length * step, -(-last // length) * step, step)


def _points(span: Span, buckets: Buckets) -> Iterator[Point]:
    for start in range(span.start, span.end, span.step):
        bucket = buckets.get(start // span.step)
        if bucket is None:
            yield _point(start, _NO_TIME, 0)
        else:
            yield _point(start, map(_milliseconds, bucket.seconds), bucket.most_people)


def _point(start: int, seconds: Iterable[float], most_people: int) -> Point:
    values: Any = (_time(start), *seconds, most_people)
    return Point(*values)


def _line(point: Point) -> str:
    start, *numbers = astuple(point)
    return ",".join([f"{start:%Y-%m-%dT%H:%M:%SZ}", *map(str, numbers)]) + "\r\n"


def _sum(one: Bucket, other: Bucket) -> Bucket:
    seconds = tuple(map(sum, zip(one.seconds, other.seconds, strict=True)))
    return Bucket(one.number, seconds, max(one.most_people, other.most_people))


def _milliseconds(seconds: float) -> float:
    return round(finite(seconds), 3)


def _time(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _seconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(seconds=1)
