"""Parse query strings into requests. No I/O, no clock."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from emotion_api.bad_request import BadRequest, unlisted_person
from emotion_api.history import DAY, HistoryRequest
from emotion_api.summary import SummaryRequest
from emotion_api.web.operations import DEFAULT_DEVICE_ID, MOST_LISTED, OPERATIONS
from shared.batch import DEVICE_ID, MAX_PERSON_ID, utc
from shared.zones import zone

_Given: TypeAlias = Mapping[str, list[str]]

_PATHS = {name: operation.path for operation in reversed(OPERATIONS) for name in operation.parameter_names}
"""Each parameter's name, and an address that has it."""

_NAMES = {each.path: each.parameter_names for each in OPERATIONS}

_OTHER_WORDS = {
    word: name
    for name, words in {
        "device_id": "id name camera",
        "start": "from since begin",
        "end": "to until before finish",
        "step": "interval resolution window bucket",
        "tz": "zone timezone",
        "format": "fmt csv output type",
        "after": "page offset cursor",
        "limit": "count top max pagesize perpage",
    }.items()
    for word in words.split()
}
"""Names that other APIs have for these parameters."""

_DAYS = {"day": DAY, "week": 7 * DAY}
"""The steps that have a name. They are those of a time zone."""

_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?|[0-9]+\.")
_WHOLE = re.compile(r"[0-9]{1,15}")
_PERSON_ID = re.compile(rf"[^\x00-\x1f\x7f-\x9f]{{1,{MAX_PERSON_ID}}}")


@lru_cache(maxsize=1_000)  # a dashboard asks the same again and again
def summary(query: str) -> SummaryRequest:
    """Parse the query string of a summary. Raises BadRequest."""
    given = _parsed(query, "/api/dashboard/summary")
    wanted = SummaryRequest(
        _device_id(given),
        _totals_only(given),
        _within(given, "seen_within"),
        _within(given, "active_within"),
        _limit(given),
        _after(given),
    )
    if wanted.totals_only and any(each is not None for each in wanted[2:]):
        raise BadRequest(
            "seen_within, active_within, limit and after choose from the list of people, and fields=totals has none."
        )
    return wanted


@lru_cache(maxsize=1_000)
def history(query: str, *, csv: bool, site: ZoneInfo) -> HistoryRequest:
    """Parse the query string of a history, which is CSV if `format` or else `csv` says so. Raises BadRequest.

    Steps of days and weeks are those of the time zone `tz`, or else of the `site`.
    """
    given = _parsed(query, "/api/dashboard/history")
    step, zone = _step(given), _zone(given)
    if zone is None and given.get("step", [""])[0] in _DAYS:
        zone = site
    start, end = _time(given, "start", zone), _time(given, "end", zone)
    return HistoryRequest(_device_id(given), start, end, step, zone, _csv(given, csv))


@lru_cache(maxsize=1_000)
def devices(query: str) -> None:
    """Check the query string of the devices, which have no parameters. Raises BadRequest."""
    _parsed(query, "/api/devices")


@lru_cache(maxsize=1_000)
def overview(query: str) -> None:
    """Check the query string of the overview, which has no parameters. Raises BadRequest."""
    _parsed(query, "/api/dashboard/overview")


def _parsed(query: str, path: str) -> _Given:
    """Return the parameters. Raises BadRequest for a name that is meant for one which this API knows."""
    given = parse_qs(query, keep_blank_values=True)
    for name in given.keys() - _NAMES[path]:
        if name in _PATHS:
            raise BadRequest(f"{name} is a parameter of {_PATHS[name]} and does nothing here: leave it out.")
        for known in _PATHS:
            if _means(name, known):
                here = "" if known in _NAMES[path] else f" of {_PATHS[known]}"
                raise BadRequest(f"There is no parameter {name!r:.40}. Did you mean {known}{here}?")
    return given


def _means(name: str, known: str) -> bool:
    """Return True if `name` is a near miss of `known`: other case, fewer or more words, one slip, another word."""
    words, known_words = [word.lower() for word in _WORD.findall(name)], known.split("_")
    if not words:
        return False
    most = min(len(words), len(known_words))
    return (
        words[:most] == known_words[:most]
        or _one_slip_apart("".join(words), "".join(known_words))
        or _OTHER_WORDS.get("".join(words), _OTHER_WORDS.get(words[0])) == known
    )


def _one_slip_apart(one: str, other: str) -> bool:
    """Return True if a letter is missing, added or wrong, or two are swapped. A wrong first letter is another word."""
    if len(other) <= 2:
        return False  # `ts` is a cache buster
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[same:], other[same:]
    is_swapped = a[:2] == b[1::-1] and a[2:] == b[2:]
    return is_swapped or (same > 0 and (a == b[1:] or a[1:] == b or a[1:] == b[1:]))


def _given_once(given: _Given, name: str) -> str | None:
    """Return the parameter's value, None if it was not given. Raises BadRequest."""
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
    """Return True if `fields` leave out the people."""
    fields = given.get("fields", [])
    if fields not in ([], ["totals"]):
        raise BadRequest("fields can only be totals, given once: the summary without current_people.")
    return bool(fields)


def _within(given: _Given, name: str) -> float | None:
    text = _given_once(given, name)
    if text is None:
        return None
    seconds = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < seconds < math.inf:
        raise BadRequest(f"{name} has to be a number of seconds greater than 0, like 30 or 2.5")
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
    if text in _DAYS:
        return _DAYS[text]
    if not _WHOLE.fullmatch(text) or int(text) == 0 or int(text) % 60:
        raise BadRequest(
            "step has to be whole seconds, a multiple of 60 of at most 15 digits, like 300, or day or week"
        )
    return int(text)


def _zone(given: _Given) -> ZoneInfo | None:
    text = _given_once(given, "tz")
    if text is None:
        return None
    try:
        return zone(text)
    except ValueError as error:
        raise BadRequest(f"tz {error}.") from error


def _csv(given: _Given, preferred: bool) -> bool:
    text = _given_once(given, "format")
    if text is None:
        return preferred
    if text not in ("json", "csv"):
        raise BadRequest("format can only be json or csv.")
    return text == "csv"


def _time(given: _Given, name: str, zone: ZoneInfo | None) -> datetime | None:
    text = _given_once(given, name)
    if text is None:
        return None
    try:
        return utc(text, zone or UTC)
    except ValueError as error:
        raise BadRequest(
            f"{name} is not ISO 8601, like 2025-11-14T12:30:00Z; in an address the + of an offset is written %2B"
        ) from error
    except OverflowError as error:
        raise BadRequest(f"{name} has to lie between the years 1970 and 8999.") from error
