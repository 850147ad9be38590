"""The three answers, as of now: the summary of a device, its history, and how all devices are doing."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import NamedTuple

from sqlalchemy import Connection

from emotion_api.bad_request import unlisted_person
from emotion_api.devices import Circumstances, DeviceRow, DevicesRequest, encode_devices
from emotion_api.history import Bucket, HistoryRequest, Span, add, encode_csv, encode_history, span_of
from emotion_api.reading import queries
from emotion_api.reading.cooperative_yield import CooperativeYield
from emotion_api.reading.response import CachedResponse
from emotion_api.reading.source import Source
from emotion_api.summary import (
    ALL_PEOPLE,
    PEOPLE_A_PIECE,
    DeviceInfo,
    EmotionTotals,
    PeoplePage,
    PersonRow,
    SummaryRequest,
    encode_people,
    encode_summary,
    encode_totals,
    sum_of,
)
from shared.batch import Topics

MANY_PEOPLE = 2_000
"""A device with more has an answer that takes longer than others should wait: it is built piece by piece."""

LONG_SECONDS = 7 * 86_400
"""A history of more takes more than two selects: one such is added up at a time, between others' requests."""

REJECTED_WITHIN = timedelta(hours=1)


def utc_now() -> datetime:
    """The clock of data, which tests replace."""
    return datetime.now(UTC)


class _Reader:
    """What all of them read with. `device_names` name the devices that the database gives no name."""

    def __init__(
        self, source: Source, *, device_names: Mapping[str, str], now: Callable[[], datetime] = utc_now
    ) -> None:
        self._source = source
        self._device_names = device_names
        self._now = now
        self._long_answer = Lock()  # one is built at a time

    def _info(self, connection: Connection, device_id: str) -> DeviceInfo:
        found = queries.device_row(connection, device_id)
        return DeviceInfo(device_id, self._name(device_id, found.name), found.updated_at, found.others)

    def _name(self, device_id: str, name: str | None) -> str:
        """The name in the database, else in the settings, else the id."""
        return self._device_names.get(device_id, device_id) if name is None else name


class SummaryReader(_Reader):
    """Reads summaries."""

    def read(self, wanted: SummaryRequest, *, gzip: bool = False) -> CachedResponse:
        """The summary of a device; with `gzip` compressed if it is long. Raises DatabaseUnavailable, BadRequest."""
        return self._source.answer(wanted, self._build, gzip=gzip)

    def _build(self, wanted: SummaryRequest) -> CachedResponse:
        device_id, source = wanted.device_id, self._source
        before, part = source.before(wanted), self._part(wanted)
        with source.connect() as connection:
            info = self._info(connection, device_id)
            short = None if part is ALL_PEOPLE and not wanted.totals_only else _few_of_many(connection, wanted, part)
            # Not asked beforehand how many they are: that would cost everybody what only the rare long list costs now.
            people = [] if short else next(queries.people(connection, device_id, at_once=MANY_PEOPLE + 1), [])
        if short is not None:
            return source.keep(wanted, CachedResponse.of(short.encode(info), pause=CooperativeYield()), before)
        if len(people) > MANY_PEOPLE:
            with self._long_answer:  # who waited may find that it was built meanwhile
                return source.find(wanted) or self._build_in_pieces(wanted)
        pieces = encode_summary(info, [people], totals_only=wanted.totals_only, part=part)
        return source.keep(wanted, CachedResponse.of(pieces), before)

    def _build_in_pieces(self, wanted: SummaryRequest) -> CachedResponse:
        before, part, pause, people = self._source.before(wanted), self._part(wanted), CooperativeYield(), []
        with self._source.connect() as connection:
            info = self._info(connection, wanted.device_id)
            for rows in queries.people(connection, wanted.device_id, at_once=PEOPLE_A_PIECE):
                people.append(rows)
                pause()
        return self._source.keep(
            wanted, CachedResponse.of(encode_summary(info, people, part=part), pause=pause), before
        )

    def _part(self, wanted: SummaryRequest) -> PeoplePage:
        if wanted.seen_within is None and wanted.limit is None and wanted.after is None:
            return ALL_PEOPLE
        since = None if wanted.seen_within is None else _before(self._now(), wanted.seen_within)
        return PeoplePage(since, wanted.after, wanted.limit)


class HistoryReader(_Reader):
    """Reads histories."""

    def read(self, wanted: HistoryRequest, *, gzip: bool = False) -> CachedResponse:
        """The history of a device; with `gzip` compressed if it is long. Raises DatabaseUnavailable, BadRequest."""
        return self._source.answer(wanted, self._build, gzip=gzip)

    def _build(self, wanted: HistoryRequest) -> CachedResponse:
        span = span_of(wanted, self._now())
        if span.end - span.start <= LONG_SECONDS:
            return self._add_up(wanted, span)
        with self._long_answer:  # who waited may find that it was built meanwhile
            return self._source.find(wanted) or self._add_up(wanted, span)

    def _add_up(self, wanted: HistoryRequest, span: Span) -> CachedResponse:
        before, pause, found = self._source.before(wanted), CooperativeYield(), dict[int, Bucket]()
        with self._source.connect() as connection:
            info = self._info(connection, wanted.device_id)
            for buckets in queries.buckets(connection, wanted.device_id, span):
                add(found, buckets)
                pause()
        pieces = encode_csv(span, found) if wanted.csv else encode_history(info, span, found)
        return self._source.keep(wanted, CachedResponse.of(pieces, pause=pause), before)


class DevicesReader(_Reader):
    """Reads how all devices are doing. One is silent after `silent_after` seconds without a batch."""

    def __init__(
        self,
        source: Source,
        *,
        device_names: Mapping[str, str],
        silent_after: float,
        topics: Topics,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(source, device_names=device_names, now=now)
        self._silent_after = silent_after
        self._topics = topics

    def read(self, *, gzip: bool = False) -> CachedResponse:
        """All devices; with `gzip` compressed where they are many. Raises DatabaseUnavailable."""
        return self._source.answer(DevicesRequest(), self._build, gzip=gzip)

    def _build(self, wanted: DevicesRequest) -> CachedResponse:
        before, now, pause = self._source.before(wanted), self._now(), CooperativeYield()
        rows: list[DeviceRow] = []
        with self._source.connect() as connection:
            rejected = queries.rejected(connection, now - REJECTED_WITHIN)
            for some in queries.devices(connection):
                rows += some
                pause()
        circumstances = Circumstances(now=now, silent_after=self._silent_after, topics=self._topics, rejected=rejected)
        pieces = encode_devices(rows, circumstances, self._name)
        return self._source.keep(wanted, CachedResponse.of(pieces, pause=pause), before)


class _Few(NamedTuple):
    """The totals of very many people, and those few of them who are listed: None where none are.

    To the totals what is known of others (`DeviceInfo.others`) is added.
    """

    totals: EmotionTotals
    people: list[PersonRow] | None

    def encode(self, info: DeviceInfo) -> Iterator[bytes]:
        totals = sum_of(self.totals, info.others)
        if self.people is None:
            return iter([encode_totals(info, totals)])
        starts = range(0, len(self.people), PEOPLE_A_PIECE)
        return encode_people(info, totals, [self.people[at : at + PEOPLE_A_PIECE] for at in starts])


def _few_of_many(connection: Connection, wanted: SummaryRequest, part: PeoplePage) -> _Few | None:
    """What the database adds up and picks out by itself; None where the people are few, or the list is long.

    Raises BadRequest if the person `part.after` is not listed.
    """
    device_id = wanted.device_id
    if not queries.has_more_people_than(connection, device_id, MANY_PEOPLE):
        return None
    if wanted.totals_only:
        return _Few(queries.totals(connection, device_id), None)
    if part.after is not None and not queries.has_person(connection, device_id, part.after, part.since):
        raise unlisted_person(part.after)
    people = queries.page(connection, device_id, part, at_most=MANY_PEOPLE + 1 if part.limit is None else part.limit)
    if part.limit is None and len(people) > MANY_PEOPLE:
        return None
    return _Few(queries.totals(connection, device_id), people)


def _before(now: datetime, seconds: float) -> datetime | None:
    """The time so many seconds before now; None where that is before all times."""
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:
        return None
