"""Which answers the API keeps while a database changes, and that it keeps none that is wrong."""

import gzip
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, delete, event, insert, select, update

from emotion_api.devices import DevicesRequest
from emotion_api.history import HistoryRequest
from emotion_api.reading import cooperative_yield as pauses
from emotion_api.reading.cache import ENTRY_BYTES, TRUSTED_SECONDS, Request, ResponseCache
from emotion_api.reading.change_detector import DatabaseWatch
from emotion_api.reading.reader import MANY_PEOPLE, SummaryReader
from emotion_api.reading.response import CachedResponse
from emotion_api.reading.source import Source
from emotion_api.summary import SummaryRequest
from emotion_daemon.rules.fold import Report, fold
from emotion_daemon.rules.outcome import Rejected
from emotion_daemon.storage.store import Store
from shared.batch import Batch, Cumulative
from shared.database import reader_engine, sqlite_path, writer_engine
from shared.schema import daemon_commit, device, person_emotion
from tests.databases import disposing, migrated
from tests.groups import group

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def writer(sqlite_url: str) -> Iterator[Engine]:
    with migrated(sqlite_url) as engine:
        yield engine


@pytest.fixture
def store(writer: Engine) -> Store:
    """The daemon's."""
    return Store(writer)


@pytest.fixture
def other(sqlite_url: str, writer: Engine) -> Iterator[Engine]:
    """Another program's connection."""
    with disposing(writer_engine(sqlite_url)) as engine:
        yield engine


@pytest.fixture
def engine(sqlite_url: str, writer: Engine) -> Iterator[Engine]:
    with disposing(reader_engine(sqlite_url)) as engine:
        yield engine


@pytest.fixture
def reader(sqlite_url: str, engine: Engine) -> SummaryReader:
    return SummaryReader(Source(engine, file=sqlite_path(sqlite_url)), device_names={})


@pytest.fixture
def selects(engine: Engine) -> list[str]:
    """What was asked for answers, beside the looks."""
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *parts: asked.append(parts[2]))
    return asked


def commit(store: Store, device_id: str, seconds: float, *, person_id: str = "anna", happy: float = 0.0) -> None:
    """A group as the daemon commits it: one batch of one device."""
    batch = Batch(device_id, at(seconds), {person_id: Cumulative(happy)}, at(seconds))
    with store.transaction() as transaction:
        transaction.write(fold([batch], transaction.read_state([batch])))


def happy(reader: SummaryReader, device_id: str) -> str:
    """The device's happy seconds, as the answer has them."""
    return reader.read(SummaryRequest(device_id)).body.decode().partition('"happy":')[2].partition(",")[0]


class TestWhatTheDaemonCommits:
    def test_another_devices_batch_leaves_an_answer_as_it_is(
        self, store: Store, reader: SummaryReader, selects: list[str]
    ) -> None:
        commit(store, "busy", 0)
        commit(store, "quiet", 0, happy=1)
        first = reader.read(SummaryRequest("quiet"))
        selects.clear()
        for number in range(1, 4):
            commit(store, "busy", number)

            assert reader.read(SummaryRequest("quiet")) is first
        assert selects == []

    def test_a_batch_of_the_device_itself_shows(self, store: Store, reader: SummaryReader) -> None:
        for number in range(1, 4):
            commit(store, "busy", number, happy=number)

            assert happy(reader, "busy") == f"{number}.0"

    def test_a_batch_with_the_same_stamp_shows(self, store: Store, reader: SummaryReader) -> None:
        commit(store, "busy", 0, happy=1)
        happy(reader, "busy")
        commit(store, "busy", 0, happy=2)

        assert happy(reader, "busy") == "2.0"

    def test_a_batch_with_the_same_stamp_shows_although_the_clock_was_set_back(
        self, writer: Engine, reader: SummaryReader
    ) -> None:
        commit(Store(writer, now=lambda: at(0)), "busy", 50, happy=1)
        happy(reader, "busy")
        commit(Store(writer, now=lambda: at(-50)), "busy", 50, happy=2)

        assert happy(reader, "busy") == "2.0"

    def test_a_late_batch_of_somebody_new_shows(self, store: Store, reader: SummaryReader) -> None:
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

    def test_a_rejected_message_leaves_every_answer_as_it_is(self, store: Store, reader: SummaryReader) -> None:
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


class TestWhatAnotherProgramWrites:
    @pytest.mark.parametrize("change", ["insert", "update", "delete", "name"])
    def test_it_shows_at_once(self, change: str, store: Store, other: Engine, reader: SummaryReader) -> None:
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

        assert reader.read(SummaryRequest("busy")).body != before

    def test_among_the_daemons_commits_it_shows_within_a_second(
        self, store: Store, other: Engine, engine: Engine, sqlite_url: str
    ) -> None:
        now = 100.0
        file = sqlite_path(sqlite_url)
        assert file is not None
        kept = ResponseCache(DatabaseWatch(engine, file), monotonic=lambda: now)
        commit(store, "busy", 0)
        commit(store, "quiet", 0)
        kept.keep(SummaryRequest("quiet"), CachedResponse([b"1"], '"1"'), kept.before(SummaryRequest("quiet")))
        with other.begin() as connection:
            connection.execute(update(person_emotion).where(person_emotion.c.device_id == "quiet").values(time_sad=1.0))
        commit(store, "busy", 1)
        trusted = kept.find(SummaryRequest("quiet"))
        now += TRUSTED_SECONDS + 0.01

        assert trusted is not None
        assert kept.find(SummaryRequest("quiet")) is None  # also where nothing was committed since

    def test_without_the_table_of_commits_every_commit_shows(
        self, store: Store, other: Engine, reader: SummaryReader
    ) -> None:
        commit(store, "busy", 0, happy=1)
        with other.begin() as connection:
            daemon_commit.drop(connection)
        happy(reader, "busy")
        with other.begin() as connection:
            connection.execute(update(person_emotion).values(time_happy=2.0))

        assert happy(reader, "busy") == "2.0"


class TestAnswersByTheClock:
    """They are right for a second, however long nothing is committed."""

    @pytest.fixture
    def kept(self, store: Store, engine: Engine, sqlite_url: str, clock: list[float]) -> ResponseCache:
        file = sqlite_path(sqlite_url)
        assert file is not None
        return ResponseCache(DatabaseWatch(engine, file), monotonic=lambda: clock[0])

    @pytest.fixture
    def clock(self) -> list[float]:
        """Monotonic seconds, to be set."""
        return [100.0]

    def keep(self, kept: ResponseCache, wanted: Request) -> None:
        kept.keep(wanted, CachedResponse([b"1"], '"1"'), kept.before(wanted))

    @pytest.mark.parametrize(
        "wanted",
        [
            SummaryRequest("quiet", seen_within=30.0),
            HistoryRequest("quiet"),
            HistoryRequest("quiet", NOON),
            DevicesRequest(),
        ],
    )
    def test_they_are_kept_for_a_second(self, wanted: Request, kept: ResponseCache, clock: list[float]) -> None:
        self.keep(kept, wanted)
        clock[0] += TRUSTED_SECONDS
        within = kept.find(wanted)
        clock[0] += 0.01

        assert within is not None
        assert kept.find(wanted) is None

    def test_one_that_took_long_is_found_by_those_who_waited_for_it(
        self, kept: ResponseCache, clock: list[float]
    ) -> None:
        before = kept.before(DevicesRequest())
        clock[0] += 2
        kept.keep(DevicesRequest(), CachedResponse([b"1"], '"1"'), before)
        clock[0] += 0.9
        found = kept.find(DevicesRequest())
        clock[0] += 0.2

        assert found is not None
        assert kept.find(DevicesRequest()) is None

    def test_their_second_begins_before_they_are_built(self, kept: ResponseCache, clock: list[float]) -> None:
        before = kept.before(DevicesRequest())
        clock[0] += 0.7
        kept.keep(DevicesRequest(), CachedResponse([b"1"], '"1"'), before)
        clock[0] += 0.7

        assert kept.find(DevicesRequest()) is None

    @pytest.mark.parametrize(
        "wanted",
        [SummaryRequest("quiet"), SummaryRequest("quiet", limit=5, after="1"), HistoryRequest("quiet", None, NOON)],
    )
    def test_all_others_are_kept_while_nothing_is_committed(
        self, wanted: Request, kept: ResponseCache, clock: list[float]
    ) -> None:
        self.keep(kept, wanted)
        clock[0] += 1_000_000

        assert kept.find(wanted) is not None

    @pytest.mark.parametrize("wanted", [SummaryRequest("busy", seen_within=30.0), HistoryRequest("busy")])
    def test_a_batch_of_the_device_ends_them(self, wanted: Request, kept: ResponseCache, store: Store) -> None:
        commit(store, "busy", 0)
        commit(store, "busy", 1)
        self.keep(kept, wanted)
        commit(store, "another", 2)
        meanwhile = kept.find(wanted)
        commit(store, "busy", 3)

        assert meanwhile is not None
        assert kept.find(wanted) is None

    def test_any_batch_ends_the_list_of_devices(self, kept: ResponseCache, store: Store) -> None:
        commit(store, "busy", 0)
        commit(store, "busy", 1)
        self.keep(kept, DevicesRequest())
        before = kept.find(DevicesRequest())
        commit(store, "busy", 2)

        assert before is not None
        assert kept.find(DevicesRequest()) is None

    def test_whatever_else_is_committed_ends_the_list_of_devices(
        self, kept: ResponseCache, store: Store, other: Engine
    ) -> None:
        commit(store, "busy", 0)
        self.keep(kept, DevicesRequest())
        with other.begin() as connection:
            connection.execute(update(device).values(device_name="Hall"))

        assert kept.find(DevicesRequest()) is None

    def test_whoever_asks_for_something_else_gets_another_answer(self, kept: ResponseCache) -> None:
        questions: list[Request] = [
            SummaryRequest("quiet"),
            SummaryRequest("quiet", totals_only=True),
            SummaryRequest("quiet", seen_within=1.0),
            SummaryRequest("quiet", limit=1),
            SummaryRequest("quiet", after="1"),
            HistoryRequest("quiet"),
            HistoryRequest("quiet", csv=True),
            DevicesRequest(),
        ]
        for wanted in questions:
            self.keep(kept, wanted)

        assert len({id(kept.find(wanted)) for wanted in questions}) == len(questions)


def test_whatever_is_committed_the_answer_is_what_the_database_holds(
    store: Store, other: Engine, reader: SummaryReader
) -> None:
    chance = random.Random(20261125)
    devices = ["a", "b", "c"]
    for number in range(300):
        device_id = chance.choice(devices)
        if chance.random() < 0.1:
            happy(reader, device_id)
            with other.begin() as connection:
                connection.execute(update(person_emotion).values(time_happy=float(number)))
            happy(reader, device_id)  # without a look on either side it shows after TRUSTED_SECONDS only
        else:
            commit(store, device_id, chance.choice([number, number, number - 5]), happy=number)
        for asked in chance.sample(devices, chance.randint(0, 3)):
            with other.connect() as connection:
                stored = connection.scalars(
                    select(person_emotion.c.time_happy).where(person_emotion.c.device_id == asked)
                ).all()

            assert happy(reader, asked) == str(sum(stored, 0.0))


def test_the_longest_unused_answers_go_first(store: Store, engine: Engine, sqlite_url: str) -> None:
    file = sqlite_path(sqlite_url)
    assert file is not None
    kept = ResponseCache(DatabaseWatch(engine, file), max_bytes=2 * (ENTRY_BYTES + 2 * 1_000))

    def keep(device_id: str, length: int) -> None:
        kept.keep(
            SummaryRequest(device_id), CachedResponse([b"x" * length], '"x"'), kept.before(SummaryRequest(device_id))
        )

    keep("a", 1_000)
    keep("b", 1_000)
    kept.find(SummaryRequest("a"))
    keep("c", 1_000)
    keep("too long", 10_000)

    assert [device_id for device_id in ("a", "b", "c", "too long") if kept.find(SummaryRequest(device_id))] == [
        "a",
        "c",
    ]


def test_an_answer_takes_no_more_memory_than_it_is_counted_for(store: Store, engine: Engine, sqlite_url: str) -> None:
    file = sqlite_path(sqlite_url)
    assert file is not None
    kept = ResponseCache(DatabaseWatch(engine, file))
    answers = 500
    tracemalloc.start()
    for number in range(answers):
        device_id = f"nobody_{number}".ljust(64, "x")
        kept.keep(
            SummaryRequest(device_id),
            CachedResponse([f'{{"device_id":"{device_id}"}}'.encode()], '"x"'),
            kept.before(SummaryRequest(device_id)),
        )
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < answers * ENTRY_BYTES


class TestVeryManyPeople:
    @pytest.fixture
    def crowd(self, store: Store) -> SummaryRequest:
        """A device with more people than are read in one go."""
        people = {("crowd", str(number)): Report(Cumulative(1.0), at(number)) for number in range(MANY_PEOPLE + 500)}
        with store.transaction() as transaction:
            transaction.write(group(people, {"crowd": at(0)}))
        return SummaryRequest("crowd")

    def test_others_are_answered_while_the_list_is_built(
        self, store: Store, reader: SummaryReader, crowd: SummaryRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit(store, "quiet", 0, happy=1)
        seen: list[str] = []

        def rest(seconds: float) -> None:
            commit(store, "quiet", len(seen) + 1, happy=len(seen) + 2)
            seen.append(happy(reader, "quiet"))

        monkeypatch.setattr(pauses, "WORK_SECONDS", -1)
        monkeypatch.setattr(time, "sleep", rest)
        answer = reader.read(crowd)

        assert seen[:3] == ["2.0", "3.0", "4.0"]
        assert answer.body.count(b"person_id") == MANY_PEOPLE + 500

    def test_who_asks_meanwhile_gets_the_same_list(
        self, reader: SummaryReader, crowd: SummaryRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        building, go_on = threading.Event(), threading.Event()

        def rest(seconds: float) -> None:
            building.set()
            assert go_on.wait(15)

        monkeypatch.setattr(pauses, "WORK_SECONDS", -1)
        monkeypatch.setattr(time, "sleep", rest)
        answers: list[CachedResponse] = []
        clients = [threading.Thread(target=lambda: answers.append(reader.read(crowd))) for _ in range(3)]
        clients[0].start()
        assert building.wait(15)
        for client in clients[1:]:
            client.start()
        go_on.set()
        for client in clients:
            client.join(15)

        assert len(answers) == 3
        assert all(answer is answers[0] for answer in answers)

    def test_a_long_list_comes_in_blocks_and_as_long_as_it_says(
        self, reader: SummaryReader, crowd: SummaryRequest
    ) -> None:
        answer = reader.read(crowd)
        compressed = reader.read(crowd, gzip=True)

        assert len(answer.blocks) > 1
        assert len(answer.body) == answer.length
        assert gzip.decompress(compressed.body) == answer.body
