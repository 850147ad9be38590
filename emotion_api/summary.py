"""From the rows of one device to the summary that the dashboard reads. No I/O, no clock.

The structs are also the schema in the OpenAPI document.
"""

import sys
from collections.abc import Iterable
from datetime import datetime
from math import fsum
from typing import Annotated, Literal, TypeAlias

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, description="seconds")]
Emotion = Literal["happy", "sad", "angry", "neutral"]

PersonRow: TypeAlias = tuple[str, float, float, float, float, datetime]
"""`person_id`, the seconds of happy, sad, angry and neutral, and `last_seen` in aware UTC."""


class EmotionTotals(msgspec.Struct, frozen=True):
    """Seconds of each emotion, summed over all people of the device."""

    happy: Seconds
    sad: Seconds
    angry: Seconds
    neutral: Seconds


class Person(msgspec.Struct, frozen=True):
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
    current_people: list[Person]


def summarize(device_id: str, *, device_name: str, updated_at: datetime | None, people: Iterable[PersonRow]) -> Summary:
    """Add up the rows of `device_id`, in whatever order they come.

    People stand in order of `last_seen`, newest first, then of `person_id` by code points.
    """
    listed = [_person(row) for row in people]
    listed.sort(key=lambda person: person.person_id)
    listed.sort(key=lambda person: person.last_seen, reverse=True)
    totals = EmotionTotals(
        happy=_total(person.time_happy for person in listed),
        sad=_total(person.time_sad for person in listed),
        angry=_total(person.time_angry for person in listed),
        neutral=_total(person.time_neutral for person in listed),
    )
    return Summary(device_id, device_name, updated_at, totals, listed)


def current_emotion(happy: float, sad: float, angry: float, neutral: float) -> Emotion:
    """The emotion with the most seconds; on a tie the first in this order, neutral if all are zero."""
    most = max(happy, sad, angry, neutral)
    if most <= 0:
        return "neutral"
    if happy == most:
        return "happy"
    if sad == most:
        return "sad"
    return "angry" if angry == most else "neutral"


def _person(row: PersonRow) -> Person:
    person_id, happy, sad, angry, neutral, last_seen = row
    return Person(person_id, current_emotion(happy, sad, angry, neutral), happy, sad, angry, neutral, last_seen)


def _total(seconds: Iterable[float]) -> float:
    try:
        return fsum(seconds)  # rounded once, at the end: a sum of tenths does not end in …999998
    except OverflowError:  # one valid value may be 1e308, and JSON has no infinity
        return sys.float_info.max
