"""Build the four responses: summary and history of a device, the list of all devices, and their overview."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from emotion_api.bad_request import unlisted_person
from emotion_api.devices import (
    Circumstances,
    DeviceRow,
    DevicesRequest,
    encode_devices,
    in_order,
    rejected_by_device,
)
from emotion_api.history import (
    Bucket,
    HistoryRequest,
    add,
    encode_csv,
    encode_history,
    file_name,
    reads,
    span_of,
)
from emotion_api.overview import Found, OverviewRequest, Part, Sums, encode_overview, spans_of
from emotion_api.overview import add as add_sums
from emotion_api.reading import queries
from emotion_api.reading.queries import DeviceFound
from emotion_api.reading.response import CachedResponse
from emotion_api.reading.source import Build, Source
from emotion_api.summary import (
    ALL_PEOPLE,
    PEOPLE_A_PIECE,
    DeviceInfo,
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
"""The list of a device with more takes longer than other requests should wait, so it is built piece by piece."""

MANY_DEVICES = 1_000
"""The list of more is built piece by piece, too."""

MANY_ROWS = 1_440
"""A history of more rows takes more than a few milliseconds. One is built at a time, between other requests."""

DEVICES_AT_ONCE = 100
"""Devices whose history is added up in one select for the overview, which takes 3 ms. Those of more build it alone."""

REJECTED_WITHIN = timedelta(hours=1)


def utc_now() -> datetime:
    """The clock of data, which tests replace."""
    return datetime.now(UTC)


class _Reader:
    """The base of all readers. `device_names` name the devices that have no name in the database."""

    def __init__(
        self, source: Source, *, device_names: Mapping[str, str], now: Callable[[], datetime] = utc_now
    ) -> None:
        self._source = source
        self._device_names = device_names
        self._now = now

    def _info(self, device_id: str, found: DeviceFound) -> DeviceInfo:
        return DeviceInfo(
            device_id,
            self._name(device_id, found.name),
            found.updated_at,
            found.others,
            found.history,
            found.now,
            found.covered_since,
        )

    def _name(self, device_id: str, name: str | None) -> str:
        """The name in the database, else in the settings, else the id."""
        return self._device_names.get(device_id, device_id) if name is None else name


class SummaryReader(_Reader):
    """Reads summaries."""

    def read(self, request: SummaryRequest, *, gzip: bool = False) -> CachedResponse:
        """The summary of a device; with `gzip` compressed if it is long. Raises DatabaseUnavailable, BadRequest."""
        return self._source.respond(request, self._read, gzip=gzip)

    def _read(self, request: SummaryRequest, build: Build) -> Iterable[bytes]:
        found = queries.device_found(build.connection, request.device_id, many=MANY_PEOPLE)
        page, at_once = self._page(request, found), MANY_PEOPLE
        info = self._info(request.device_id, found)
        if found.has_many_people:
            build.must_be_alone()  # even for a short list the database adds up all people
            pieces = _few_of_many(build.connection, request, page, info)
            if pieces is not None:
                return pieces
            at_once = PEOPLE_A_PIECE
        people = []
        for rows in queries.people(build.connection, request.device_id, at_once=at_once):
            people.append(rows)
            build.pause()
        return encode_summary(info, people, pause=build.pause, totals_only=request.totals_only, page=page)

    def _page(self, request: SummaryRequest, found: DeviceFound) -> PeoplePage:
        if not request.time_dependent and request.limit is None and request.after is None:
            return ALL_PEOPLE
        now = self._now()
        since = None if request.seen_within is None else _before(now, request.seen_within)
        active_since = None
        if request.active_within is not None:
            active_since = _before(now, request.active_within + _seconds_behind(found))
        return PeoplePage(since, active_since, request.after, request.limit)


class HistoryReader(_Reader):
    """Reads histories."""

    def read(self, request: HistoryRequest, *, gzip: bool = False) -> CachedResponse:
        """The history of a device; with `gzip` compressed if it is long. Raises DatabaseUnavailable, BadRequest."""
        return self._source.respond(request, self._read, gzip=gzip)

    def file_name(self, request: HistoryRequest) -> str:
        """The name of the file in which the CSV should be stored. Raises BadRequest."""
        return file_name(request.device_id, span_of(request, self._now()))

    def _read(self, request: HistoryRequest, build: Build) -> Iterable[bytes]:
        span = span_of(request, self._now())
        parts = reads(span)
        if sum(part.most_rows for part in parts) > MANY_ROWS:
            build.must_be_alone()
        found = queries.device_found(build.connection, request.device_id, many=MANY_PEOPLE)
        sums: dict[int, Bucket] = {}
        for part in parts:
            for buckets in queries.buckets(build.connection, request.device_id, part):
                add(sums, span, buckets)
                build.pause()
        encode = encode_csv if request.csv else encode_history
        return encode(self._info(request.device_id, found), span, sums)


class _AllDevicesReader(_Reader):
    """The base of readers of all devices. A device is offline after `silent_after` seconds without a batch."""

    def __init__(
        self,
        source: Source,
        *,
        device_names: Mapping[str, str],
        silent_after: float,
        time_zone: str,
        topics: Topics,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(source, device_names=device_names, now=now)
        self._silent_after = silent_after
        self._time_zone = time_zone
        self._topics = topics

    def _circumstances(self, build: Build, only: frozenset[str] | None) -> Circumstances:
        now = self._now()
        return Circumstances(
            now=now,
            silent_after=self._silent_after,
            time_zone=self._time_zone,
            topics=self._topics,
            rejected=queries.rejected(build.connection, now - REJECTED_WITHIN),
            only=only,
        )

    def _rows(self, build: Build) -> list[DeviceRow]:
        rows: list[DeviceRow] = []
        for some in queries.devices(build.connection):
            rows += some
            if len(rows) > MANY_DEVICES:
                build.must_be_alone()
            build.pause()
        return rows


class DevicesReader(_AllDevicesReader):
    """Reads the state of all devices."""

    def read(self, only: frozenset[str] | None = None, *, gzip: bool = False) -> CachedResponse:
        """All devices, or `only` some; with `gzip` compressed if they are many. Raises DatabaseUnavailable."""
        return self._source.respond(DevicesRequest(only), self._read, gzip=gzip)

    def _read(self, request: DevicesRequest, build: Build) -> Iterable[bytes]:
        circumstances = self._circumstances(build, request.only)
        return encode_devices(self._rows(build), circumstances, self._name)


class OverviewReader(_AllDevicesReader):
    """Reads the overview of all devices."""

    def read(self, only: frozenset[str] | None = None, *, gzip: bool = False) -> CachedResponse:
        """The overview of all devices, or of `only` some; with `gzip` compressed if it is long.

        Raises DatabaseUnavailable.
        """
        return self._source.respond(OverviewRequest(only), self._read, gzip=gzip)

    def _read(self, request: OverviewRequest, build: Build) -> Iterable[bytes]:
        circumstances = self._circumstances(build, request.only)
        rows = in_order(self._rows(build), rejected_by_device(circumstances), request.only)
        if len(rows) > DEVICES_AT_ONCE:
            build.must_be_alone()
        spans = spans_of(circumstances.now, ZoneInfo(self._time_zone))
        found = Found(queries.shown(build.connection), {}, {}, {})
        for at in range(0, len(rows), DEVICES_AT_ONCE):
            device_ids = [row.device_id for row in rows[at : at + DEVICES_AT_ONCE]]
            _add_sums(found.today, build, device_ids, spans.parts_of_today())
            _add_sums(found.before, build, device_ids, spans.parts_before())
            found.hours.update(queries.hours(build.connection, device_ids, spans.first_hour))
            build.pause()
        return encode_overview(rows, spans, found, circumstances, self._name)


def _add_sums(found: dict[str, Sums], build: Build, device_ids: Sequence[str], parts: Iterable[Part]) -> None:
    for part in parts:
        for device_id, sums in queries.sums(build.connection, device_ids, part):
            add_sums(found, device_id, sums)
        build.pause()


def _few_of_many(
    connection: Connection, request: SummaryRequest, page: PeoplePage, info: DeviceInfo
) -> Iterable[bytes] | None:
    """The summary of a device with many people if it lists few of them; None if the list is long.

    The database adds up the totals and picks out the people. Raises BadRequest if the person `page.after` is not
    listed.
    """
    device_id = info.device_id
    people: list[PersonRow] = []
    if not request.totals_only:
        if page is ALL_PEOPLE:
            return None
        if page.after is not None and not queries.has_person(connection, device_id, page.after, page):
            raise unlisted_person(page.after)
        at_most = MANY_PEOPLE + 1 if page.limit is None else page.limit
        people = queries.page(connection, device_id, page, at_most=at_most)
        if page.limit is None and len(people) > MANY_PEOPLE:
            return None
    totals = sum_of(queries.totals(connection, device_id), info.others)
    if request.totals_only:
        return [encode_totals(info, totals)]
    starts = range(0, len(people), PEOPLE_A_PIECE)
    return encode_people(info, totals, [people[at : at + PEOPLE_A_PIECE] for at in starts])


def _seconds_behind(found: DeviceFound) -> float:
    """Seconds that the timestamp of the device's newest batch was behind when the batch arrived."""
    if found.received_at is None or found.updated_at is None:
        return 0.0
    return (found.received_at - found.updated_at).total_seconds()


def _before(now: datetime, seconds: float) -> datetime | None:
    """The time so many seconds before `now`; None if the calendar begins later."""
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:
        return None
