"""From the rows of one device to the summary that the dashboard reads, as JSON. No I/O, no clock.

The structs are also the schema in the OpenAPI document.
"""

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from math import fsum
from operator import itemgetter
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import astuple

from emotion_api.bad_request import unlisted_person

Seconds = Annotated[float, msgspec.Meta(ge=0, description="seconds")]
Emotion = Literal["happy", "sad", "angry", "neutral"]

PersonRow: TypeAlias = tuple[str, float, float, float, float, datetime]
"""`person_id`, the seconds of happy, sad, angry and neutral, and `last_seen` in aware UTC."""

PEOPLE_A_PIECE = 500  # a millisecond

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

_encode = msgspec.json.Encoder().encode


class EmotionTotals(msgspec.Struct, frozen=True):
    """Seconds of each emotion, summed over all people of the device, stored or not."""

    happy: Seconds
    sad: Seconds
    angry: Seconds
    neutral: Seconds


class Person(msgspec.Struct, frozen=True, gc=False):
    """What the device reported last about one person."""

    person_id: str
    current_emotion: Annotated[
        Emotion,
        msgspec.Meta(description="the emotion with the most time; the first of the list on a tie, neutral without any"),
    ]
    time_happy: Seconds
    time_sad: Seconds
    time_angry: Seconds
    time_neutral: Seconds
    last_seen: Annotated[datetime, msgspec.Meta(tz=True, description="UTC, timestamp of the person's newest batch")]


class Summary(msgspec.Struct, frozen=True):
    """One device: its totals and its people, the one seen last first."""

    device_id: str
    device_name: str
    updated_at: Annotated[
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        msgspec.Meta(description="UTC, timestamp of the device's newest batch; null for a device nobody has heard of"),
    ]
    emotion_totals: EmotionTotals
    current_people: Annotated[
        list[Person] | msgspec.UnsetType, msgspec.Meta(description="left out where fields=totals was asked for")
    ] = msgspec.UNSET


class SummaryRequest(NamedTuple):
    """A summary, and who is listed in it. Not a dataclass: nothing is asked for as often, and its hash takes longer."""

    device_id: str
    totals_only: bool = False
    seen_within: float | None = None
    limit: int | None = None
    after: str | None = None

    @property
    def time_dependent(self) -> bool:
        """Whether those who were not seen for a while drop out."""
        return self.seen_within is not None


NO_TIME = EmotionTotals(0.0, 0.0, 0.0, 0.0)


class DeviceInfo(msgspec.Struct, frozen=True):
    """What is known of a device beside its people; `updated_at` in aware UTC, None where no batch came yet.

    `others` are the seconds of people of whom nothing else is stored: they are in the totals, too.
    """

    device_id: str
    device_name: str
    updated_at: datetime | None
    others: EmotionTotals = NO_TIME


class PeoplePage(NamedTuple):
    """Who of all people is listed: those seen at `since` or later, who come after the person `after`, at most `limit`.

    None does not choose. The totals are always those of all people.
    """

    since: datetime | None = None
    after: str | None = None
    limit: int | None = None


ALL_PEOPLE = PeoplePage()


def encode_summary(
    info: DeviceInfo, people: Iterable[list[PersonRow]], *, totals_only: bool = False, part: PeoplePage = ALL_PEOPLE
) -> Iterator[bytes]:
    """A Summary as JSON, in pieces: whoever asks for very many people can do something else in between.

    The people come in lists, in whatever order; what is yielded while they do is empty. In the summary they stand in
    order of `last_seen`, newest first, then of `person_id` by code points.
    Raises BadRequest if the person `part.after` is not listed.
    """
    lists: list[list[PersonRow]] = []
    columns: list[list[float]] = [[seconds] for seconds in astuple(info.others)]
    for rows in people:
        rows.sort(key=itemgetter(0))
        rows.sort(key=itemgetter(5), reverse=True)
        lists.append(rows)
        for column, name in zip(columns, (1, 2, 3, 4), strict=True):
            column.extend(map(itemgetter(name), rows))
        yield b""
    totals = []
    for column in columns:
        totals.append(_total(column))
        column.clear()
        yield b""
    if totals_only:
        yield encode_totals(info, EmotionTotals(*totals))
        return
    ordered = iter(lists[0]) if len(lists) == 1 else merge(*map(_drained, lists), key=_newest_first)
    pieces = iter(lambda: list(islice(ordered, PEOPLE_A_PIECE)), [])
    yield from encode_people(info, EmotionTotals(*totals), pieces if part is ALL_PEOPLE else listed(pieces, part))


def encode_people(info: DeviceInfo, totals: EmotionTotals, pieces: Iterable[list[PersonRow]]) -> Iterator[bytes]:
    """A Summary as JSON, in pieces, whose people come in their order."""
    yield encode_totals(info, totals)[:-1] + b',"current_people":['
    comma = b""
    for piece in pieces:
        if piece:
            yield comma + _encode([_person(*row) for row in piece])[1:-1]
            comma = b","
        else:
            yield b""
    yield b"]}"


def listed(pieces: Iterable[list[PersonRow]], part: PeoplePage) -> Iterator[list[PersonRow]]:
    """Those of the people, who come in their order, who are in the part; pieces may be empty.

    Raises BadRequest where none of those seen since `part.since` is `part.after`.
    """
    left = sys.maxsize if part.limit is None else part.limit
    after = part.after
    for piece in pieces:
        rows = piece if part.since is None else [row for row in piece if row[5] >= part.since]
        is_last = len(rows) < len(piece)
        if after is not None:
            rows, after = _behind(rows, after)
        yield rows[:left]
        left -= len(rows)
        if is_last or left <= 0:
            break
    if after is not None:
        raise unlisted_person(after)


def encode_totals(info: DeviceInfo, totals: EmotionTotals) -> bytes:
    """A Summary without its people, as JSON."""
    return _encode(Summary(info.device_id, info.device_name, info.updated_at, totals))


def current_emotion(happy: float, sad: float, angry: float, neutral: float) -> Emotion:
    """The emotion with the most seconds; on a tie the first in this order, neutral if all are zero."""
    if happy >= sad and happy >= angry and happy >= neutral:
        return "happy" if happy > 0 else "neutral"
    if sad >= angry and sad >= neutral:
        return "sad"
    return "angry" if angry >= neutral else "neutral"


def finite(total: float) -> float:
    """A sum of seconds as JSON can hold it: one valid value may be 1e308, and JSON has no infinity."""
    return min(total, sys.float_info.max)


def sum_of(one: EmotionTotals, other: EmotionTotals) -> EmotionTotals:
    """Both together."""
    return EmotionTotals(*map(_total, zip(astuple(one), astuple(other), strict=True)))


def _person(person_id: str, happy: float, sad: float, angry: float, neutral: float, last_seen: datetime) -> Person:
    return Person(person_id, current_emotion(happy, sad, angry, neutral), happy, sad, angry, neutral, last_seen)


def _behind(rows: list[PersonRow], after: str) -> tuple[list[PersonRow], str | None]:
    """The rows behind that person, and whom to look for in the next piece: None once the person was there."""
    for index, row in enumerate(rows):
        if row[0] == after:
            return rows[index + 1 :], None
    return [], after


def _drained(rows: list[PersonRow]) -> Iterator[PersonRow]:
    """The rows, which are let go one by one: to let very many go at once takes as long as to sort them."""
    rows.reverse()
    while rows:
        yield rows.pop()


def _newest_first(row: PersonRow) -> tuple[timedelta, str]:
    return _END_OF_TIME - row[5], row[0]


def _total(seconds: Iterable[float]) -> float:
    try:
        return fsum(seconds)  # rounded once, at the end: a sum of tenths does not end in …999998
    except OverflowError:
        return finite(float("inf"))
