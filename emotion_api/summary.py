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
from typing import Annotated, Literal, TypeAlias

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, description="seconds")]
Emotion = Literal["happy", "sad", "angry", "neutral"]

PersonRow: TypeAlias = tuple[str, float, float, float, float, datetime]
"""`person_id`, the seconds of happy, sad, angry and neutral, and `last_seen` in aware UTC."""

PEOPLE_A_PIECE = 500  # a millisecond

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

_encode = msgspec.json.Encoder().encode


class EmotionTotals(msgspec.Struct, frozen=True):
    """Seconds of each emotion, summed over all people of the device."""

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


class About(msgspec.Struct, frozen=True):
    """What is known of a device beside its people; `updated_at` in aware UTC, None where no batch came yet."""

    device_id: str
    device_name: str
    updated_at: datetime | None


def encode_summary(about: About, people: Iterable[list[PersonRow]], *, totals_only: bool = False) -> Iterator[bytes]:
    """A Summary as JSON, in pieces: whoever asks for very many people can do something else in between.

    The people come in lists, in whatever order; what is yielded while they do is empty. In the summary they stand in
    order of `last_seen`, newest first, then of `person_id` by code points.
    """
    lists: list[list[PersonRow]] = []
    columns: list[list[float]] = [[] for _ in EmotionTotals.__struct_fields__]
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
    head = encode_totals(about, EmotionTotals(*totals))
    if totals_only:
        yield head
        return
    yield head[:-1] + b',"current_people":['
    ordered = iter(lists[0]) if len(lists) == 1 else merge(*map(_drained, lists), key=_newest_first)
    comma = b""
    while piece := list(islice(ordered, PEOPLE_A_PIECE)):
        yield comma + _encode([_person(*row) for row in piece])[1:-1]
        comma = b","
    yield b"]}"


def encode_totals(about: About, totals: EmotionTotals) -> bytes:
    """A Summary without its people, as JSON."""
    return _encode(Summary(about.device_id, about.device_name, about.updated_at, totals))


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


def _person(person_id: str, happy: float, sad: float, angry: float, neutral: float, last_seen: datetime) -> Person:
    return Person(person_id, current_emotion(happy, sad, angry, neutral), happy, sad, angry, neutral, last_seen)


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
