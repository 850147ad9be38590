"""The check of a batch before it is sent: values of many types become plain ones, invalid ones are refused. Pure."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from typing import Any, Mapping

from emotion_device.errors import InvalidBatch
from emotion_device.wire import EMOTIONS, MAX_PEOPLE, MAX_PERSON_ID, Cumulative, People


@dataclass(frozen=True)
class Pending:
    """Checked entries with one timestamp: `people` maps person id to cumulative seconds per emotion."""

    timestamp: datetime
    people: People


def check(people: Any, timestamp: Any) -> tuple[Pending, list[str]]:
    """Return a copy of the batch in plain types, which the daemon accepts, and the unknown emotions in it.

    Unknown emotions are left out, as the daemon ignores them. If two ids are the same text, the last entry wins, as in
    the daemon. Raises InvalidBatch.
    """
    stamp = _utc(timestamp)
    if not isinstance(people, Mapping):
        raise InvalidBatch(f"people is {_shown(people)}, but it maps person ids to seconds per emotion")
    if len(people) > MAX_PEOPLE:
        raise InvalidBatch(f"people has {len(people)} entries, but the daemon takes {MAX_PEOPLE}")
    checked: People = {}
    unknown: dict[str, None] = {}
    for number, (key, seconds) in enumerate(people.items(), 1):
        who = f"person {number} of {len(people)}"
        checked[person_id(key, who)] = _cumulative(who, seconds, unknown)
    return Pending(stamp, checked), list(unknown)


def person_id(value: object, who: str = "the person") -> str:
    """Return an id as the text that the daemon stores. Raises InvalidBatch.

    Whole numbers may be of any type, also floats, which trackers that work on tensors use for their ids.
    """
    raw = plain(value)
    if _is_whole(raw):
        text = str(int(raw)) if abs(raw) < 10 ** (MAX_PERSON_ID - 1) else "9" * (MAX_PERSON_ID + 1)
    elif isinstance(raw, str):
        text = raw
    else:
        raise InvalidBatch(f"{who} has an id that is {_kind(value)}, neither text nor a whole number")
    if not 1 <= len(text) <= MAX_PERSON_ID:
        raise InvalidBatch(f"{who} has an id of {len(text)} characters, but 1 to {MAX_PERSON_ID} are allowed")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidBatch(f"{who} has an id with a control character or half of a surrogate pair")
    return text


def text(value: object) -> str | None:
    """Return a label or an emotion as plain text: the value of an enum or its name, the text of a numpy string.

    None if it is no text.
    """
    if isinstance(value, Enum) and not isinstance(value.value, str):
        return value.name.lower()
    raw = plain(value)
    return raw if isinstance(raw, str) else None


def number(value: object) -> float | None:
    """Return a real number of any type as float, infinite if it is too large; None if it is no number."""
    raw = plain(value)
    if isinstance(raw, bool) or not isinstance(raw, (Real, Decimal)):
        return None
    try:
        return float(raw)
    except OverflowError:
        return math.inf
    except ValueError:  # Decimal's signalling NaN
        return math.nan


def plain(value: Any) -> Any:
    """Return the value of an enum, of a numpy scalar, and of an array or tensor without dimensions."""
    if isinstance(value, Enum):
        value = value.value
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _utc(timestamp: object) -> datetime:
    if not isinstance(timestamp, datetime):
        raise InvalidBatch(f"timestamp is {_kind(timestamp)}: use datetime.now(timezone.utc)")
    if timestamp.tzinfo is None:
        raise InvalidBatch("timestamp needs a time zone: use datetime.now(timezone.utc)")
    try:
        return timestamp.astimezone(timezone.utc)
    except OverflowError as error:
        raise InvalidBatch(f"timestamp {timestamp} lies outside the calendar in UTC") from error


def _cumulative(who: str, seconds: object, unknown: dict[str, None]) -> Cumulative:
    if not isinstance(seconds, Mapping):
        raise InvalidBatch(f"{who} has {_shown(seconds)}, but it maps emotions to seconds")
    checked: Cumulative = {}
    for key, value in seconds.items():
        emotion = text(key)
        if emotion is None:
            raise InvalidBatch(f"{who} has an emotion that is {_kind(key)}, not text")
        if emotion in EMOTIONS:
            checked[emotion] = _seconds(f"{who}, {emotion}", value)
        else:
            unknown[emotion] = None
    return checked


def _seconds(where: str, value: object) -> float:
    seconds = number(value)
    if seconds is None:
        raise InvalidBatch(f"{where}: {_shown(value)} is not a number of seconds")
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidBatch(f"{where}: {seconds} is not a finite number of seconds >= 0")
    return seconds


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, Integral):
        return True
    return isinstance(value, (float, Decimal)) and math.isfinite(value) and value == int(value)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _shown(value: object) -> str:
    return f"{value!r:.60}" if value is None or isinstance(value, (str, int, float)) else _kind(value)
