"""The API takes responses from its cache while a database changes, and none of them is wrong."""

import gc
import gzip
import random
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, insert, update

from emotion_admin.devices import set_name
from emotion_admin.person import Person, forget
from emotion_api.devices import DevicesRequest
from emotion_api.history import HistoryRequest
from emotion_api.reading import cooperative_yield
from emotion_api.reading.cache import EMPTIED_SECONDS, ENTRY_BYTES, MAX_AGE_SECONDS, MAX_BYTES, Request
from emotion_api.reading.reader import MANY_PEOPLE, DevicesReader, HistoryReader, SummaryReader
from emotion_api.reading.response import CachedResponse
from emotion_api.reading.source import Build, Source
from emotion_api.summary import SummaryRequest
from emotion_daemon.rules.fold import Report
from emotion_daemon.rules.outcome import Rejected, Status
from emotion_daemon.storage.store import Store
from shared.batch import Batch, Cumulative, Topics
from shared.database import reader_engine, sqlite_path, writer_engine
from shared.schema import device, person_emotion
from tests.databases import disposing, migrated
from tests.fakes import Clock
from tests.groups import group

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
TOPICS = Topics("emotions")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def writer(database_url: str) -> Iterator[Engine]:
    with migrated(database_url) as engine:
        yield engine


@pytest.fixture
def store(writer: Engine) -> Store:
    """The daemon's."""
    return Store(writer)


@pytest.fixture
def other(database_url: str, writer: Engine) -> Iterator[Engine]:
    """Another program's connection."""
    with disposing(writer_engine(database_url)) as engine:
        yield engine


@pytest.fixture
def engine(database_url: str, writer: Engine) -> Iterator[Engine]:
    with disposing(reader_engine(database_url)) as engine:
        yield engine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(database_url: str, engine: Engine, clock: Clock) -> Source:
    return Source(engine, file=sqlite_path(database_url), monotonic=clock)


@pytest.fixture
def reader(source: Source) -> SummaryReader:
    return SummaryReader(source, device_names={})


def commit(store: Store, device_id: str, seconds: float, *, person_id: str = "anna", happy: float = 0.0) -> None:
    """A group as the daemon commits it: one batch of one device."""
    batch = Batch(device_id, at(seconds), {person_id: Cumulative(happy)}, at(seconds))
    with store.transaction() as transaction:
        transaction.write(store.fold([batch], transaction.read_state([batch])))


def happy(reader: SummaryReader, device_id: str) -> str:
    """The device's happy seconds, as the response has them."""
    return reader.read(SummaryRequest(device_id)).body.decode().partition('"happy":')[2].partition(",")[0]


class TestWhatTheDaemonCommits:
    def test_another_devices_batch_leaves_a_response_as_it_is(self, store: Store, reader: SummaryReader) -> None:
        commit(store, "busy", 0)
        commit(store, "quiet", 0, happy=1)
        first = reader.read(SummaryRequest("quiet"))
        for number in range(1, 4):
            commit(store, "busy", number)

            assert reader.read(SummaryRequest("quiet")) is first

    def test_a_batch_of_the_device_itself_shows(self, store: Store, reader: SummaryReader) -> None:
        for number in range(1, 4):
            commit(store, "busy", number, happy=number)

            assert happy(reader, "busy") == f"{number}.0"

    def test_a_batch_with_the_same_timestamp_shows(self, store: Store, reader: SummaryReader) -> None:
        commit(store, "busy", 0, happy=1)
        happy(reader, "busy")
        commit(store, "busy", 0, happy=2)

        assert happy(reader, "busy") == "2.0"

    def test_a_batch_with_the_same_timestamp_shows_although_the_clock_was_set_back(
        self, writer: Engine, reader: SummaryReader
    ) -> None:
        commit(Store(writer, now=lambda: at(0)), "busy", 50, happy=1)
        happy(reader, "busy")
        commit(Store(writer, now=lambda: at(-50)), "busy", 50, happy=2)

        assert happy(reader, "busy") == "2.0"

    def test_a_late_batch_of_a_new_person_shows(self, store: Store, reader: SummaryReader) -> None:
        commit(store, "busy", 10, happy=1)
        happy(reader, "busy")
        commit(store, "busy", 0, person_id="ben", happy=5)

        assert happy(reader, "busy") == "6.0"

    def test_a_late_batch_shows_although_others_follow_it(self, store: Store, reader: SummaryReader) -> None:
        commit(store, "busy", 10, happy=1)
        happy(reader, "busy")
        commit(store, "busy", 0, person_id="ben", happy=5)
        commit(store, "another", 0)

        assert happy(reader, "busy") == "6.0"

    def test_a_rejected_message_leaves_every_response_as_it_is(self, store: Store, reader: SummaryReader) -> None:
        commit(store, "quiet", 0)
        first = reader.read(SummaryRequest("quiet"))
        with store.transaction() as transaction:
            transaction.reject([Rejected("emotions/busy/batch", "not JSON", b"", NOON)])

        assert reader.read(SummaryRequest("quiet")) is first

    def test_the_first_batch_of_a_device_shows(self, store: Store, reader: SummaryReader) -> None:
        commit(store, "another", 0)
        happy(reader, "new")
        commit(store, "new", 0, happy=1)

        assert happy(reader, "new") == "1.0"

    def test_an_erased_person_and_a_new_name_show(self, store: Store, other: Engine, reader: SummaryReader) -> None:
        commit(store, "busy", 0, happy=1)
        happy(reader, "busy")
        forget(other, TOPICS, Person("busy", "anna"), hours=1, now=NOON)
        set_name(other, "busy", "Hall")

        assert happy(reader, "busy") == "0.0"
        assert b'"Hall"' in reader.read(SummaryRequest("busy")).body


class TestWhatAnotherProgramWrites:
    """A program that raises no revision, such as an sqlite3 shell."""

    @pytest.mark.parametrize("change", ["insert", "update", "delete", "name"])
    def test_it_shows_within_a_second(
        self, change: str, store: Store, other: Engine, reader: SummaryReader, clock: Clock
    ) -> None:
        commit(store, "busy", 0, happy=1)
        before = reader.read(SummaryRequest("busy")).body
        times = dict.fromkeys(("time_happy", "time_sad", "time_angry", "time_neutral"), 1.0)
        statement = {
            "insert": insert(person_emotion).values(device_id="busy", person_id="ben", last_seen=NOON, **times),
            "update": update(person_emotion).values(time_happy=2.0),
            "delete": delete(person_emotion),
            "name": update(device).values(device_name="Hall"),
        }[change]
        with other.begin() as connection:
            connection.execute(statement)
        commit(store, "another", 0)
        clock.seconds += MAX_AGE_SECONDS + 0.01

        assert reader.read(SummaryRequest("busy")).body != before


class Counter:
    """Builds numbered responses, to tell which one a request gets."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.built = 0

    def get(self, request: Request) -> int:
        return int(self._source.respond(request, self._read, gzip=False).body)

    def _read(self, request: Request, build: Build) -> Iterable[bytes]:
        self.built += 1
        return [str(self.built).encode()]


@pytest.fixture
def counter(store: Store, source: Source) -> Counter:
    return Counter(source)


def is_in_memory(etag: str) -> bool:
    """Return True if any part of this process holds the response."""
    return any(isinstance(each, CachedResponse) and each.etag == etag for each in gc.get_objects())


class TestAge:
    @pytest.mark.parametrize(
        "request_",
        [
            SummaryRequest("quiet", seen_within=30.0),
            HistoryRequest("quiet"),
            HistoryRequest("quiet", NOON),
            DevicesRequest(),
        ],
    )
    def test_a_time_dependent_response_is_cached_for_a_second(
        self, request_: Request, counter: Counter, clock: Clock
    ) -> None:
        counter.get(request_)
        clock.seconds += MAX_AGE_SECONDS

        assert counter.get(request_) == 1

        clock.seconds += 0.01

        assert counter.get(request_) == 2

    @pytest.mark.parametrize(
        "request_",
        [SummaryRequest("quiet"), SummaryRequest("quiet", limit=5, after="1"), HistoryRequest("quiet", None, NOON)],
    )
    def test_any_other_is_cached_while_nothing_is_committed(
        self, request_: Request, counter: Counter, clock: Clock
    ) -> None:
        counter.get(request_)
        clock.seconds += EMPTIED_SECONDS

        assert counter.get(request_) == 1

    def test_after_a_minute_the_next_request_drops_every_response_from_memory(
        self, reader: SummaryReader, clock: Clock, store: Store
    ) -> None:
        """Not even the least requested one, which may show a person who was erased."""
        commit(store, "busy", 0)
        etag = reader.read(SummaryRequest("busy", limit=1)).etag
        clock.seconds += EMPTIED_SECONDS
        reader.read(SummaryRequest("quiet"))
        before = is_in_memory(etag)
        clock.seconds += 0.01
        reader.read(SummaryRequest("quiet"))

        assert (before, is_in_memory(etag)) == (True, False)

    def test_a_readiness_check_drops_responses_after_a_minute_as_well(
        self, reader: SummaryReader, source: Source, clock: Clock
    ) -> None:
        etag = reader.read(SummaryRequest("quiet")).etag
        before = is_in_memory(etag)
        clock.seconds += EMPTIED_SECONDS + 0.01
        source.check()

        assert (before, is_in_memory(etag)) == (True, False)

    @pytest.mark.parametrize("request_", [SummaryRequest("busy", seen_within=30.0), HistoryRequest("busy")])
    def test_a_batch_of_the_device_ends_it_and_one_of_another_does_not(
        self, request_: Request, counter: Counter, store: Store
    ) -> None:
        commit(store, "busy", 0)
        counter.get(request_)
        commit(store, "another", 2)

        assert counter.get(request_) == 1

        commit(store, "busy", 3)

        assert counter.get(request_) == 2

    def test_any_batch_ends_the_list_of_devices(self, counter: Counter, store: Store) -> None:
        commit(store, "busy", 0)
        counter.get(DevicesRequest())
        commit(store, "another", 2)

        assert counter.get(DevicesRequest()) == 2

    def test_a_dead_letter_shows_in_the_list_of_devices_within_a_second(
        self, counter: Counter, store: Store, clock: Clock
    ) -> None:
        counter.get(DevicesRequest())
        with store.transaction() as transaction:
            transaction.reject([Rejected("emotions/busy/batch", "not JSON", b"", NOON, device_id="busy")])
        clock.seconds += MAX_AGE_SECONDS + 0.01

        assert counter.get(DevicesRequest()) == 2

    def test_each_request_has_a_response_of_its_own(self, counter: Counter) -> None:
        requests: list[Request] = [
            SummaryRequest("quiet"),
            SummaryRequest("quiet", totals_only=True),
            SummaryRequest("quiet", seen_within=1.0),
            SummaryRequest("quiet", limit=1),
            SummaryRequest("quiet", after="1"),
            HistoryRequest("quiet"),
            HistoryRequest("quiet", csv=True),
            DevicesRequest(),
        ]
        first = [counter.get(request) for request in requests]

        assert first == [counter.get(request) for request in requests] == [1, 2, 3, 4, 5, 6, 7, 8]


class Worker:
    """The three readers of one process of the API."""

    def __init__(self, database_url: str, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        self.engine = reader_engine(database_url)
        source = Source(self.engine, file=sqlite_path(database_url), max_bytes=max_bytes, monotonic=clock)
        names: dict[str, str] = {}
        self._summaries = SummaryReader(source, device_names=names, now=lambda: at(60))
        self._histories = HistoryReader(source, device_names=names, now=lambda: at(60))
        self._devices = DevicesReader(
            source, device_names=names, silent_after=30, time_zone="UTC", topics=TOPICS, now=lambda: at(60)
        )

    def get(self, request: SummaryRequest | HistoryRequest | DevicesRequest) -> bytes:
        match request:
            case SummaryRequest():
                return self._summaries.read(request).body
            case HistoryRequest():
                return self._histories.read(request).body
            case DevicesRequest():
                return self._devices.read().body


def requests_about(device_id: str) -> list[SummaryRequest | HistoryRequest | DevicesRequest]:
    return [
        SummaryRequest(device_id),
        SummaryRequest(device_id, totals_only=True),
        SummaryRequest(device_id, seen_within=100.0, limit=1),
        HistoryRequest(device_id, NOON - timedelta(hours=1), NOON + timedelta(hours=1)),
        HistoryRequest(device_id, csv=True),
        DevicesRequest(),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_committed_each_worker_responds_as_an_api_without_a_cache(
    seed: int, store: Store, other: Engine, clock: Clock, database_url: str
) -> None:
    chance = random.Random(seed)
    devices = ["a", "b", "c"]

    def change(device_id: str, number: int) -> None:
        match chance.randrange(10):
            case 0:  # a program that raises no revision
                statement = chance.choice([delete(person_emotion), update(person_emotion).values(time_sad=number)])
                with other.begin() as connection:
                    connection.execute(statement)
                clock.seconds += MAX_AGE_SECONDS + 0.01
            case 1:
                set_name(other, device_id, f"name {number}")
            case 2:
                forget(other, TOPICS, Person(device_id, "anna"), hours=0, now=at(number - 10))
            case 3:
                with store.transaction() as transaction:
                    status = chance.choice(["online", "offline"])
                    transaction.write_presence([Status(device_id, status, at(number))])
            case 4:
                with store.transaction() as transaction:
                    topic = TOPICS.batch(device_id)
                    transaction.reject([Rejected(topic, "not JSON", b"", at(number), device_id=device_id)])
                clock.seconds += MAX_AGE_SECONDS + 0.01
            case 5:
                commit(store, device_id, number - 5, person_id="ben", happy=number)
            case _:
                commit(store, device_id, number, happy=number)

    workers = [Worker(database_url, clock) for _ in range(2)]
    uncached = Worker(database_url, clock, max_bytes=0)
    with ExitStack() as stack:
        for worker in (*workers, uncached):
            stack.enter_context(disposing(worker.engine))
        for number in range(80):
            change(chance.choice(devices), number)
            for request in chance.sample(requests_about(chance.choice(devices)), 3):
                expected = uncached.get(request)

                assert [worker.get(request) for worker in workers] == [expected] * 2


def test_a_commit_while_a_response_is_built_ends_it(store: Store, source: Source, reader: SummaryReader) -> None:
    commit(store, "busy", 0)

    def read(request: SummaryRequest, build: Build) -> Iterable[bytes]:
        commit(store, "busy", 1)
        return [b"outdated"]

    source.respond(SummaryRequest("busy"), read, gzip=False)

    assert reader.read(SummaryRequest("busy")).body != b"outdated"


def test_the_least_recently_used_responses_go_first(database_url: str, store: Store, engine: Engine) -> None:
    room = 2 * (ENTRY_BYTES + 2 * 1_000)
    source = Source(engine, file=sqlite_path(database_url), max_bytes=room, monotonic=Clock())
    built: list[str] = []

    def get(device_id: str, length: int = 1_000) -> None:
        def read(request: SummaryRequest, build: Build) -> Iterable[bytes]:
            built.append(device_id)
            return [b"x" * length]

        source.respond(SummaryRequest(device_id), read, gzip=False)

    for device_id in ("a", "b", "a", "c"):
        get(device_id)
    get("too long", 10_000)
    get("too long", 10_000)
    built.clear()
    for device_id in ("a", "c", "b"):
        get(device_id)

    assert built == ["b"]


def test_a_response_takes_no_more_memory_than_it_is_counted_for(
    database_url: str, store: Store, engine: Engine
) -> None:
    source = Source(engine, file=sqlite_path(database_url), max_bytes=MAX_BYTES, monotonic=Clock())
    responses = 500
    get = [SummaryRequest(f"unknown_{number}".ljust(64, "x")) for number in range(responses)]
    source.respond(get[0], lambda request, build: [b"x" * 100], gzip=False)
    tracemalloc.start()
    for request in get:
        source.respond(request, lambda request, build: [b"x" * 100], gzip=False)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < responses * ENTRY_BYTES


class TestVeryManyPeople:
    @pytest.fixture
    def crowd(self, store: Store) -> SummaryRequest:
        """A device with more people than are read in one go."""
        people = {("crowd", str(number)): Report(Cumulative(1.0), at(number)) for number in range(MANY_PEOPLE + 500)}
        with store.transaction() as transaction:
            transaction.write(group(people, {"crowd": at(0)}))
        return SummaryRequest("crowd")

    def test_other_requests_are_answered_while_the_list_is_built(
        self, store: Store, reader: SummaryReader, crowd: SummaryRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(store, "quiet", 0, happy=1)
        seen: list[str] = []

        def rest(seconds: float) -> None:
            with monkeypatch.context() as without_pauses:  # the other response is built without one
                without_pauses.setattr(time, "sleep", lambda seconds: None)
                commit(store, "quiet", len(seen) + 1, happy=len(seen) + 2)
                seen.append(happy(reader, "quiet"))

        monkeypatch.setattr(cooperative_yield, "WORK_SECONDS", -1)
        monkeypatch.setattr(time, "sleep", rest)
        response = reader.read(crowd)

        assert seen[:3] == ["2.0", "3.0", "4.0"]
        assert response.body.count(b"person_id") == MANY_PEOPLE + 500

    def test_requests_during_the_build_get_the_same_list(
        self, reader: SummaryReader, crowd: SummaryRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        building, go_on = threading.Event(), threading.Event()

        def rest(seconds: float) -> None:
            building.set()
            assert go_on.wait(15)

        monkeypatch.setattr(cooperative_yield, "WORK_SECONDS", -1)
        monkeypatch.setattr(time, "sleep", rest)
        responses: list[CachedResponse] = []
        clients = [threading.Thread(target=lambda: responses.append(reader.read(crowd))) for _ in range(3)]
        clients[0].start()
        assert building.wait(15)
        for client in clients[1:]:
            client.start()
        go_on.set()
        for client in clients:
            client.join(15)

        assert len(responses) == 3
        assert all(response is responses[0] for response in responses)

    def test_a_long_list_comes_in_blocks_and_as_long_as_it_says(
        self, reader: SummaryReader, crowd: SummaryRequest
    ) -> None:
        response = reader.read(crowd)
        compressed = reader.read(crowd, gzip=True)

        assert len(response.blocks) > 1
        assert len(response.body) == response.length
        assert gzip.decompress(compressed.body) == response.body
