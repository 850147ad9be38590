"""From the rows of one device to the summary that the dashboard reads, as JSON. No I/O, no clock.

The structs are also the schema in the OpenAPI document.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
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

PersonRow: TypeAlias = tuple[str, float, float, float, float, Emotion | None, datetime | None, datetime]
"""`person_id`, the seconds of each of EMOTIONS, `emotion_now`, and `active_at` and `last_seen` in aware UTC."""

Pause: TypeAlias = Callable[[], None]
"""Called during long work, so that the caller can serve other requests."""

PEOPLE_A_PIECE = 500  # a millisecond

_END_OF_TIME = datetime.max.replace(tzinfo=UTC)

_encode = msgspec.json.Encoder().encode


class EmotionTotals(msgspec.Struct, frozen=True):
    """Seconds of each emotion, summed over the stored people of the device; in totals-only mode over all people."""

    happy: Seconds
    sad: Seconds
    angry: Seconds
    neutral: Seconds


class Person(msgspec.Struct, frozen=True, gc=False):
    """The device's last report about one person."""

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
    active_at: Annotated[
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        msgspec.Meta(description="UTC, timestamp of the last batch in which the person's seconds grew; null if never"),
    ]
    emotion_now: Annotated[
        Emotion | None,
        msgspec.Meta(description="the emotion that grew most in that batch; null if none ever grew or it is not known"),
    ]


class Now(msgspec.Struct, frozen=True):
    """The people in view in the device's newest batch, and what all people showed in the 10 s up to it."""

    people: Annotated[int, msgspec.Meta(ge=0, description="people in view")]
    seconds: EmotionTotals


class SummaryTotals(msgspec.Struct, frozen=True):
    """One device and its totals: the response to fields=totals."""

    device_id: str
    device_name: str
    updated_at: Annotated[
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        msgspec.Meta(description="UTC, timestamp of the device's newest batch; null if it never sent one"),
    ]
    emotion_totals: EmotionTotals
    history_totals: Annotated[
        EmotionTotals,
        msgspec.Meta(description="seconds of each emotion that the history ever counted; they never fall"),
    ]
    now: Annotated[Now, msgspec.Meta(description="as of updated_at")]


class Summary(SummaryTotals, frozen=True):
    """One device: its totals and its people, the person seen last first."""

    current_people: list[Person]


class SummaryRequest(NamedTuple):
    """A request for a summary. A NamedTuple, because its hash is cheaper than a dataclass's."""

    device_id: str
    totals_only: bool = False
    seen_within: float | None = None
    active_within: float | None = None
    limit: int | None = None
    after: str | None = None

    @property
    def time_dependent(self) -> bool:
        """Return True if people drop out of the list as time passes."""
        return self.seen_within is not None or self.active_within is not None


NO_TIME = EmotionTotals(0.0, 0.0, 0.0, 0.0)
NOBODY_NOW = Now(0, NO_TIME)


class DeviceInfo(msgspec.Struct, frozen=True):
    """The stored state of a device apart from its people; `updated_at` in aware UTC, None without any batch.

    `others` are the seconds of people who are not stored. The totals include them. `history` are the seconds that the
    history ever counted. `covered_since` is when the daemon began to store for which time it heard the device.
    """

    device_id: str
    device_name: str
    updated_at: datetime | None
    others: EmotionTotals = NO_TIME
    history: EmotionTotals = NO_TIME
    now: Now = NOBODY_NOW
    covered_since: datetime | None = None


class PeoplePage(NamedTuple):
    """A page of people: at most `limit` of those seen at `since` or later who come after the person `after`.

    With `active_since` the seconds of all of them grew at that time or later. None sets no limit. The totals are always
    those of all people.
    """

    since: datetime | None = None
    active_since: datetime | None = None
    after: str | None = None
    limit: int | None = None


ALL_PEOPLE = PeoplePage()


def encode_summary(
    info: DeviceInfo,
    people: Iterable[list[PersonRow]],
    *,
    pause: Pause,
    totals_only: bool = False,
    page: PeoplePage = ALL_PEOPLE,
) -> Iterator[bytes]:
    """A Summary as JSON, in pieces. `pause` is called between two steps that yield no piece.

    The people come in lists, in any order, which are sorted in place. The summary lists them by `last_seen`, newest
    first, then by the code points of `person_id`. Raises BadRequest if the person `page.after` is not listed.
    """
    lists: list[list[PersonRow]] = []
    columns: list[list[float]] = [[seconds] for seconds in astuple(info.others)]
    for rows in people:
        rows.sort(key=itemgetter(0))
        rows.sort(key=itemgetter(-1), reverse=True)
        lists.append(rows)
        for index, column in enumerate(columns, start=1):
            column.extend(map(itemgetter(index), rows))
        pause()
    totals = []
    for column in columns:
        totals.append(_total(column))
        column.clear()
        pause()
    if totals_only:
        yield encode_totals(info, EmotionTotals(*totals))
        return
    ordered = iter(lists[0]) if len(lists) == 1 else merge(*map(_drained, lists), key=_newest_first)
    pieces = iter(lambda: list(islice(ordered, PEOPLE_A_PIECE)), [])
    pieces = pieces if page is ALL_PEOPLE else listed(pieces, page, pause=pause)
    yield from encode_people(info, EmotionTotals(*totals), pieces)


def encode_people(info: DeviceInfo, totals: EmotionTotals, pieces: Iterable[list[PersonRow]]) -> Iterator[bytes]:
    """A Summary as JSON, in pieces. The people come in their order, and no piece is empty."""
    yield encode_totals(info, totals)[:-1] + b',"current_people":['
    comma = b""
    for piece in pieces:
        yield comma + _encode([_person(*row) for row in piece])[1:-1]
        comma = b","
    yield b"]}"


def listed(pieces: Iterable[list[PersonRow]], page: PeoplePage, *, pause: Pause) -> Iterator[list[PersonRow]]:
    """The people on the page, in pieces of which none is empty; `pieces` are all people in their order.

    Raises BadRequest if the person `page.after` is not among those on any page.
    """
    left = sys.maxsize if page.limit is None else page.limit
    after = page.after
    since = max((each for each in (page.since, page.active_since) if each is not None), default=None)
    for piece in pieces:
        rows = piece if since is None else [row for row in piece if row[-1] >= since]
        is_last = len(rows) < len(piece)
        if page.active_since is not None:
            rows = [row for row in rows if row[-2] is not None and row[-2] >= page.active_since]
        if after is not None:
            rows, after = _behind(rows, after)
        if rows:
            yield rows[:left]
        else:
            pause()
        left -= len(rows)
        if is_last or left <= 0:
            break
    if after is not None:
        raise unlisted_person(after)


def encode_totals(info: DeviceInfo, totals: EmotionTotals) -> bytes:
    """A Summary without its people, as JSON."""
    return _encode(SummaryTotals(info.device_id, info.device_name, info.updated_at, totals, info.history, info.now))


def current_emotion(happy: float, sad: float, angry: float, neutral: float) -> Emotion:
    """The emotion with the most seconds; on a tie the first of EMOTIONS, neutral if all are zero.

    It names each emotion, because a loop over EMOTIONS takes five times as long, and a list may have 100,000 people.
    """
    if happy >= sad and happy >= angry and happy >= neutral:
        return "happy" if happy > 0 else "neutral"
    if sad >= angry and sad >= neutral:
        return "sad"
    return "angry" if angry >= neutral else "neutral"


def finite(total: float) -> float:
    """A sum of seconds that JSON can hold: valid values may add up to infinity, which JSON does not have."""
    return min(total, sys.float_info.max)


def sum_of(one: EmotionTotals, other: EmotionTotals) -> EmotionTotals:
    """The sum of two totals."""
    return EmotionTotals(*map(_total, zip(astuple(one), astuple(other), strict=True)))


def _person(
    person_id: str,
    happy: float,
    sad: float,
    angry: float,
    neutral: float,
    emotion_now: Emotion | None,
    active_at: datetime | None,
    last_seen: datetime,
) -> Person:
    emotion = current_emotion(happy, sad, angry, neutral)
    return Person(person_id, emotion, happy, sad, angry, neutral, last_seen, active_at, emotion_now)


def _behind(rows: list[PersonRow], after: str) -> tuple[list[PersonRow], str | None]:
    """The rows behind the person `after`, and the person to search in the next piece: None once found."""
    for index, row in enumerate(rows):
        if row[0] == after:
            return rows[index + 1 :], None
    return [], after


def _drained(rows: list[PersonRow]) -> Iterator[PersonRow]:
    """The rows, each freed once it was yielded: to free 100,000 at once takes as long as to sort them."""
    rows.reverse()
    while rows:
        yield rows.pop()


def _newest_first(row: PersonRow) -> tuple[timedelta, str]:
    return _END_OF_TIME - row[-1], row[0]


def _total(seconds: Iterable[float]) -> float:
    try:
        return fsum(seconds)  # rounded once, at the end: a sum of tenths does not end in …999998
    except OverflowError:
        return finite(float("inf"))
