"""From query strings to what is wanted. No I/O, no clock."""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import parse_qs

from emotion_api.bad_request import BadRequest, unlisted_person
from emotion_api.history import HistoryRequest
from emotion_api.summary import SummaryRequest
from shared.batch import DEVICE_ID, MAX_PERSON_ID, utc

DEFAULT_DEVICE_ID = "jetson_1"

MOST_LISTED = 10_000
"""What `limit` may be."""

_Given: TypeAlias = Mapping[str, list[str]]

_NUMBER = re.compile(r"[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?|[0-9]+\.")
_WHOLE = re.compile(r"[0-9]{1,15}")
_PERSON_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{MAX_PERSON_ID}}}")


@lru_cache(maxsize=1_000)  # a dashboard asks the same again and again
def summary(query: str) -> SummaryRequest:
    """What a query string asks of the summary. Raises BadRequest."""
    given = parse_qs(query, keep_blank_values=True)
    wanted = SummaryRequest(_device_id(given), _totals_only(given), _seen_within(given), _limit(given), _after(given))
    if wanted.totals_only and wanted[2:] != (None, None, None):
        raise BadRequest("seen_within, limit and after choose from the list of people, and fields=totals has none.")
    return wanted


@lru_cache(maxsize=1_000)
def history(query: str, *, csv: bool) -> HistoryRequest:
    """What a query string asks of the history. Raises BadRequest."""
    given = parse_qs(query, keep_blank_values=True)
    return HistoryRequest(_device_id(given), _time(given, "start"), _time(given, "end"), _step(given), csv)


def _given_once(given: _Given, name: str) -> str | None:
    """The parameter's value, None where it was not given. Raises BadRequest."""
    values = given.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise BadRequest(f"{name} is given more than once: give it once.")
    return values[0]


def _device_id(given: _Given) -> str:
    values = given.get("device_id")
    if values is None:
        return DEFAULT_DEVICE_ID
    if len(values) > 1:
        raise BadRequest("device_id is given more than once: ask for one device at a time.")
    if not DEVICE_ID.fullmatch(values[0]):
        raise BadRequest("device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -")
    return values[0]


def _totals_only(given: _Given) -> bool:
    """Whether `fields` leave out the people."""
    fields = given.get("fields", [])
    if fields not in ([], ["totals"]):
        raise BadRequest("fields can only be totals, given once: the summary without current_people.")
    return bool(fields)


def _seen_within(given: _Given) -> float | None:
    text = _given_once(given, "seen_within")
    if text is None:
        return None
    seconds = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < seconds < math.inf:
        raise BadRequest("seen_within has to be a number of seconds greater than 0, like 30 or 2.5")
    return seconds


def _limit(given: _Given) -> int | None:
    text = _given_once(given, "limit")
    if text is None:
        return None
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= MOST_LISTED:
        raise BadRequest(f"limit has to be a whole number from 1 to {MOST_LISTED:,}, written without commas.")
    return int(text)


def _after(given: _Given) -> str | None:
    person_id = _given_once(given, "after")
    if person_id is not None and not _PERSON_ID.fullmatch(person_id):
        raise unlisted_person(person_id)  # PostgreSQL would refuse to look for some of them
    return person_id


def _step(given: _Given) -> int | None:
    text = _given_once(given, "step")
    if text is None:
        return None
    if not _WHOLE.fullmatch(text) or int(text) == 0 or int(text) % 60:
        raise BadRequest("step has to be whole seconds, a multiple of 60 of at most 15 digits, like 300")
    return int(text)


def _time(given: _Given, name: str) -> datetime | None:
    text = _given_once(given, name)
    if text is None:
        return None
    try:
        return utc(text)
    except ValueError as error:
        raise BadRequest(
            f"{name} is not ISO 8601, like 2025-11-14T12:30:00Z; in an address the + of an offset is written %2B"
        ) from error
    except OverflowError as error:
        raise BadRequest(f"{name} has to lie between the years 1970 and 8999.") from error
