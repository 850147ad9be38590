"""Retention deletes rows for their age, on SQLite and PostgreSQL, and its readers notice."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, select, update

from emotion_daemon.monitoring.report import Report
from emotion_daemon.retention import (
    PASS_SECONDS,
    RETRY_SECONDS,
    SETTLE_SECONDS,
    STEADY_SECONDS,
    TOMBSTONES_A_STEP,
    Retention,
)
from emotion_daemon.rules.outcome import Rejected
from emotion_daemon.rules.tombstones import SALT_BYTES, STORED_AFTER_END, digest
from emotion_daemon.storage.dialects import dialect_of
from emotion_daemon.storage.statements import Statements
from emotion_daemon.storage.store import Store
from shared.batch import EMOTIONS, Batch, Cumulative
from shared.database import sqlite_path, writer_engine
from shared.schema import device_state, emotion_minute, forgotten_person, person_emotion
from tests.databases import add_minutes, check_hours, disposing, migrated, waits_for_a_lock
from tests.postgresql import PostgreSQL
from tests.waiting import wait_until

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Clock:
    """Both clocks, which run evenly until one is set."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.set_by = timedelta()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds) + self.set_by

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with migrated(database_url) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine, clock: Clock) -> Store:
    return Store(engine, now=clock.now)


Make = Callable[..., Retention]


@pytest.fixture
def make(store: Store, clock: Clock) -> Make:
    def make(people_days: float | None = 30, history_days: float | None = 30) -> Retention:
        return Retention(
            store,
            report=Report(),
            people_days=people_days,
            history_days=history_days,
            now=clock.now,
            monotonic=clock.monotonic,
        )

    return make


def commit(store: Store, *batches: Batch) -> None:
    with store.transaction() as transaction:
        transaction.write(store.fold(batches, transaction.read_state(batches)))


def batch(stamp: datetime, *people: str, device_id: str = "jetson_1", arrived: datetime | None = None) -> Batch:
    """Every person in it has been happy for 5 s."""
    return Batch(device_id, stamp, dict.fromkeys(people, Cumulative(5.0)), arrived or stamp)


def run(retention: Retention, clock: Clock, *, most: int = 1_000) -> int:
    """Wait until a pass begins and go through it. Returns the steps that it took."""
    clock.seconds += max(0.0, retention._due - clock.seconds)
    steps = 0
    while retention.is_due:
        retention.step(idle=True)
        steps += 1
        assert steps < most
    return steps


def people(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.scalars(select(person_emotion.c.person_id)))


def rows(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def shown(engine: Engine) -> float:
    with engine.connect() as connection:
        return float(connection.execute(select(func.sum(emotion_minute.c.time_happy))).scalar_one())


def revision(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(device_state.c.revision)).scalar_one())


class TestWhatGoes:
    def test_people_who_were_not_seen_for_so_long(
        self, make: Make, store: Store, engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        commit(store, batch(NOON - 31 * DAY, "anna", "bert"))
        commit(store, batch(NOON - 29 * DAY, "bert", "carl"))
        commit(store, batch(NOON, "dora"))

        run(make(), clock)

        assert people(engine) == {"bert", "carl", "dora"}
        assert rows(engine, "device") == rows(engine, "device_state") == 1
        (line,) = (each for each in caplog.messages if each.startswith("deleted for their age"))
        assert "1 people not seen since 2025-10-15T12:05:00Z" in line

    def test_the_minutes_before_of_every_device(self, make: Make, store: Store, engine: Engine, clock: Clock) -> None:
        with engine.begin() as connection:
            add_minutes(
                connection,
                [
                    dict.fromkeys(("time_happy", "time_sad", "time_angry", "time_neutral"), 1.0)
                    | {"device_id": device_id, "minute": NOON - days * DAY, "most_people": 1}
                    for device_id in ("a", "b", "c", "Z", "9")
                    for days in (1, 29, 31, 300)
                ],
            )
        commit(store, batch(NOON))

        run(make(people_days=None, history_days=30), clock)

        with engine.connect() as connection:
            left = connection.execute(select(func.count(), func.min(emotion_minute.c.minute))).one()
            check_hours(connection)
        assert tuple(left) == (10 + 1, NOON - 29 * DAY), "and the minute of the batch at noon"

    def test_the_history_goes_by_whole_hours(self, make: Make, store: Store, engine: Engine, clock: Clock) -> None:
        """The limit is 12:05, the time of the pass: the hour of 12:00 is deleted in the pass after 13:00."""
        limit = NOON - 30 * DAY
        values = dict.fromkeys(("time_happy", "time_sad", "time_angry", "time_neutral"), 1.0)
        minutes = [limit + timedelta(minutes=minute) for minute in (-61, -60, -1, 0, 1, 59, 60)]
        with engine.begin() as connection:
            add_minutes(connection, [values | {"device_id": "a", "minute": at, "most_people": 1} for at in minutes])
        commit(store, batch(NOON))

        run(make(people_days=None, history_days=30), clock)

        with engine.connect() as connection:
            left = connection.scalars(select(emotion_minute.c.minute).order_by(emotion_minute.c.minute)).all()
            check_hours(connection)
        assert left == [
            limit,
            limit + timedelta(minutes=1),
            limit + timedelta(minutes=59),
            limit + timedelta(minutes=60),
            NOON,
        ]

    def test_the_covered_time_of_deleted_hours_is_no_longer_known(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        """Device a loses the hour of 10:00. Device b is known since later than all of its deleted hours."""
        limit = NOON - 30 * DAY
        commit(store, batch(NOON))
        values = dict.fromkeys(("time_happy", "time_sad", "time_angry", "time_neutral"), 1.0)
        row = values | {"minute": limit - timedelta(hours=1, minutes=30), "most_people": 1, "covered": 60.0}
        known = {"a": limit - 9 * DAY, "b": limit - timedelta(minutes=5)}
        with engine.begin() as connection:
            add_minutes(connection, [row | {"device_id": device_id} for device_id in known])
            states = [{"device_id": device_id, "covered_since": since} for device_id, since in known.items()]
            connection.execute(insert(device_state), states)

        run(make(people_days=None, history_days=30), clock)

        with engine.connect() as connection:
            query = select(device_state.c.device_id, device_state.c.covered_since).where(
                device_state.c.device_id.in_(known)
            )
            found = {device_id: since for device_id, since in connection.execute(query)}
        assert found == {"a": limit - timedelta(hours=1), "b": known["b"]}

    def test_rejected_messages_go_with_the_people_who_are_in_them(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        for days in (1, 29, 31, 300):
            with store.transaction() as transaction:
                transaction.reject([Rejected("topic", "reason", b"{", NOON - days * DAY)] * 30)
        commit(store, batch(NOON))

        run(make(people_days=None, history_days=30), clock)
        assert rows(engine, "rejected_message") == 120

        run(make(people_days=30, history_days=None), clock)
        assert rows(engine, "rejected_message") == 60

    def test_of_very_many_a_part_at_a_time(self, make: Make, store: Store, engine: Engine, clock: Clock) -> None:
        old = NOON - 40 * DAY
        devices = [f"d{number}" for number in range(12)]
        many = [str(number) for number in range(220)]
        commit(store, *(batch(old, *many, device_id=each) for each in devices))
        commit(store, *(batch(old + timedelta(minutes=90), *many[:1], device_id=each) for each in devices))
        commit(store, *(batch(old + timedelta(minutes=990), "x", device_id=each) for each in devices))
        commit(store, *(batch(NOON, *many[200:], device_id=each) for each in devices))
        with engine.begin() as connection:  # ids have gaps
            connection.execute(person_emotion.delete().where(person_emotion.c.id.between(300, 1_800)))

        steps = run(make(), clock)

        assert steps > 12
        assert people(engine) == {*many[200:]}
        with engine.connect() as connection:
            assert connection.execute(select(func.min(emotion_minute.c.minute))).scalar_one() > NOON - 30 * DAY
            check_hours(connection)

    def test_whoever_has_a_stamp_from_the_future_stays(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        commit(store, batch(NOON + 3_000 * DAY, "anna", device_id="other"), batch(NOON))

        run(make(), clock)

        assert people(engine) == {"anna"}

    def test_the_age_of_people_before_a_camera_whose_clock_is_behind_counts_by_that_clock(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        behind = NOON - 1_000 * DAY
        commit(store, batch(behind - 31 * DAY, "old"), batch(behind - 29 * DAY, "anna"))
        commit(store, batch(behind, "bert", arrived=NOON), batch(NOON, device_id="right"))
        before = rows(engine, "emotion_minute")

        run(make(history_days=2_000), clock)

        assert people(engine) == {"anna", "bert"}
        assert rows(engine, "emotion_minute") == before > 0

    def test_who_is_in_view_of_a_camera_whose_clock_fell_back_stays(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        """Its newest timestamp is from before: it tells nothing about the age of the others."""
        fallen = NOON - 45 * DAY
        commit(store, batch(fallen - 31 * DAY, "old"), batch(NOON - timedelta(hours=3), "before"))
        for second in map(float, range(3)):
            later = timedelta(seconds=second)
            visit = {"visitor": Cumulative(second + 1)}
            commit(store, Batch("jetson_1", fallen + later, visit, NOON + later))
        commit(store, batch(NOON, device_id="right"))
        before = rows(engine, "emotion_minute")

        run(make(history_days=2_000), clock)

        assert people(engine) == {"before", "visitor"}
        assert rows(engine, "emotion_minute") == before

    def test_the_clock_of_a_camera_whose_stamps_are_replaced_does_not_count(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        commit(store, batch(NOON - 31 * DAY, "anna"), batch(NOON, device_id="right"))
        lost = Batch("jetson_1", NOON, {"bert": Cumulative()}, NOON, clock_skew=-20_000 * DAY)
        commit(store, lost)

        run(make(), clock)

        assert people(engine) == {"bert"}


class TestTombstones:
    """Of who was erased: they go a month after their end, also where people and history are kept for ever."""

    def test_those_that_ended_long_ago_go_with_what_is_remembered_of_them(
        self, make: Make, store: Store, engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        erase(engine, "anna", until=NOON - STORED_AFTER_END)
        erase(engine, "bert", until=NOON)
        commit(store, batch(NOON - 31 * DAY, "anna", "bert"))  # and the store has read who was erased
        commit(store, batch(NOON, "carl"))
        before = people(engine)

        run(make(None, None), clock)
        commit(store, batch(NOON - 31 * DAY, "anna", "bert"))

        assert (before, people(engine)) == ({"carl"}, {"carl", "anna"})
        assert rows(engine, "forgotten_person") == 1
        (line,) = (each for each in caplog.messages if each.startswith("deleted for their age"))
        assert "1 tombstones that ended before 2025-10-15T12:05:00Z" in line

    def test_of_very_many_a_part_at_a_time(self, make: Make, store: Store, engine: Engine, clock: Clock) -> None:
        number = 2 * TOMBSTONES_A_STEP
        for each in range(number):
            erase(engine, str(each), until=NOON - STORED_AFTER_END)
        commit(store, batch(NOON, "carl"))

        assert run(make(None, None), clock) == 1 + number / TOMBSTONES_A_STEP + 1
        assert rows(engine, "forgotten_person") == 0

    @pytest.mark.parametrize("wrong_by", [60 * DAY, -60 * DAY])
    def test_not_by_a_clock_that_no_camera_has(
        self, make: Make, store: Store, engine: Engine, clock: Clock, wrong_by: timedelta
    ) -> None:
        erase(engine, "anna", until=NOON)
        clock.set_by = wrong_by
        commit(store, batch(NOON, "carl", arrived=clock.now()))

        run(make(None, None), clock)

        assert rows(engine, "forgotten_person") == 1

    def test_not_while_what_waited_with_the_broker_is_still_coming(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        """Forty days of it: its order is the broker's, so none of it comes behind a batch of now."""
        erase(engine, "anna", until=NOON - 40 * DAY)
        retention = make(None, None)
        clock.seconds = SETTLE_SECONDS
        for days in range(50, 40, -1):
            commit(store, batch(NOON - days * DAY, "anna", arrived=clock.now()))
            retention.step(idle=True)
            clock.seconds += SETTLE_SECONDS
        waiting = rows(engine, "forgotten_person")
        commit(store, batch(clock.now(), "carl"))
        run(retention, clock)

        assert people(engine) == {"carl"}
        assert (waiting, rows(engine, "forgotten_person")) == (1, 0)

    def test_without_any_nothing_is_begun_nor_doubted(
        self, make: Make, store: Store, engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        erase(engine, "anna", until=NOON)
        retention = make(None, None)
        first = run(retention, clock)
        clock.seconds += PASS_SECONDS - 1
        early = retention.is_due
        clock.seconds += 1

        assert (first, early, retention.is_due) == (1, False, True)
        assert not caplog.messages


def erase(engine: Engine, person_id: str, *, until: datetime) -> None:
    salt = b"s" * SALT_BYTES
    row = {"device_id": "jetson_1", "salt": salt, "digest": digest(person_id, salt), "forgotten_at": NOON}
    with engine.begin() as connection:
        connection.execute(insert(forgotten_person), row | {"until": until})


class TestWhatNoticesIt:
    def test_a_pass_that_finds_nothing_writes_nothing(self, sqlite_url: str, clock: Clock) -> None:
        with migrated(sqlite_url) as engine, closing(sqlite3.connect(str(sqlite_path(sqlite_url)))) as other:
            store = Store(engine, now=clock.now)
            commit(store, batch(NOON, "anna"))
            before = revision(engine), other.execute("PRAGMA data_version").fetchone()

            steps = run(retention_of(store, clock), clock)

            assert steps >= 4
            assert (revision(engine), other.execute("PRAGMA data_version").fetchone()) == before

    @pytest.mark.parametrize("kept_for_ever", ["history_days", "people_days"])
    def test_a_deletion_raises_the_revision_of_the_device(
        self, store: Store, engine: Engine, clock: Clock, kept_for_ever: str
    ) -> None:
        commit(store, batch(NOON - 31 * DAY, "anna"))
        commit(store, batch(NOON))
        before = revision(engine)

        run(retention_of(store, clock, **{kept_for_ever: None}), clock)

        assert revision(engine) == before + 1

    def test_who_comes_back_is_new_and_the_others_are_still_known(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        """Anna's counter says 5 s before and after: were she known, she would have shown nothing since."""
        commit(store, batch(NOON - 31 * DAY, "anna"))
        commit(store, batch(NOON + timedelta(seconds=299), "bert"))
        run(make(history_days=None), clock)
        before = shown(engine)

        commit(store, batch(NOON + timedelta(seconds=302), "anna", "bert"))

        assert shown(engine) - before == pytest.approx(3)  # as long as anna is unknown

    def test_only_who_was_deleted_is_read_again(self, sqlite_url: str, clock: Clock) -> None:
        with migrated(sqlite_url) as engine:
            store = Store(engine, now=clock.now)
            commit(store, batch(NOON - 31 * DAY, "anna"))
            commit(store, batch(NOON, "bert"))
            run(retention_of(store, clock), clock)

            assert {person for _, person in store._state._people} == {"bert"}

    def test_it_is_counted_for_the_log(
        self, make: Make, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        commit(store, batch(NOON - 31 * DAY, "anna", "bert"), batch(NOON))
        report = Report(monotonic=clock.monotonic)
        retention = Retention(
            store, report=report, people_days=30, history_days=None, now=clock.now, monotonic=clock.monotonic
        )
        run(retention, clock)
        clock.seconds += 60
        report.turned()

        assert "2 rows of person_emotion deleted for their age" in caplog.messages[-1]


def retention_of(
    store: Store, clock: Clock, *, people_days: float | None = 30, history_days: float | None = 30
) -> Retention:
    return Retention(
        store,
        report=Report(),
        people_days=people_days,
        history_days=history_days,
        now=clock.now,
        monotonic=clock.monotonic,
    )


class TestWhen:
    def test_a_little_after_the_start_and_then_once_an_hour(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        commit(store, batch(NOON - 31 * DAY, "anna"), batch(NOON))
        retention = make()
        clock.seconds = SETTLE_SECONDS - 1
        retention.step(idle=True)
        assert (retention.is_due, people(engine)) == (False, {"anna"})

        run(retention, clock)
        assert (clock.seconds, people(engine)) == (SETTLE_SECONDS, set())

        commit(store, batch(NOON - 31 * DAY, "bert"), batch(NOON + timedelta(hours=1)))
        clock.seconds = SETTLE_SECONDS + PASS_SECONDS - 1
        for _ in range(10):
            retention.step(idle=True)
        assert people(engine) == {"bert"}
        run(retention, clock)
        assert people(engine) == set()

    def test_while_there_are_always_messages_a_step_now_and_then(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        commit(store, batch(NOON - 31 * DAY, "anna"), batch(NOON))
        retention = make()
        clock.seconds = SETTLE_SECONDS
        for _ in range(100):
            retention.step(idle=False)
        assert people(engine) == {"anna"}

        for _ in range(2 * 60):
            clock.seconds += 0.5
            retention.step(idle=False)
        assert people(engine) == set()

    def test_not_while_no_cameras_clock_agrees(
        self, make: Make, store: Store, engine: Engine, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The daemon's clock is 50 years ahead, and the camera's timestamps are right."""
        commit(store, batch(NOON, "anna"))
        clock.set_by = timedelta(days=18_000)
        retention = make()
        for _ in range(10):
            commit(store, batch(NOON + timedelta(seconds=clock.seconds), "anna", arrived=clock.now()))
            run(retention, clock)
        assert people(engine) == {"anna"}
        assert [each for each in caplog.messages if each.startswith("the daemon deletes nothing by age")] == [
            caplog.messages[0]
        ]

        clock.set_by = timedelta()
        run(retention, clock)
        commit(store, batch(clock.now() - 31 * DAY, "bert"), batch(clock.now(), "anna"))
        run(retention, clock)
        assert people(engine) == {"anna"}

    def test_without_any_camera_once_the_clock_has_run_evenly_for_a_day(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        commit(store, batch(NOON - 31 * DAY, "anna"))
        retention = make()
        while clock.seconds < 3_600:
            run(retention, clock)
        clock.set_by = timedelta(minutes=5)
        while clock.seconds < 3_600 + STEADY_SECONDS - 2 * SETTLE_SECONDS:
            run(retention, clock)
        assert people(engine) == {"anna"}

        for _ in range(3):
            run(retention, clock)
        assert people(engine) == set()

    def test_a_clock_that_was_set_has_to_settle_first(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        commit(store, batch(NOON - 29 * DAY, "anna"), batch(NOON))
        retention = make()
        clock.seconds = SETTLE_SECONDS
        retention.step(idle=True)  # a pass has begun, and is given up
        clock.set_by = 2 * DAY
        retention.step(idle=True)
        assert not retention.is_due

        commit(store, batch(clock.now()))
        clock.seconds += SETTLE_SECONDS - 1
        retention.step(idle=True)
        assert people(engine) == {"anna"}
        run(retention, clock)
        assert people(engine) == set()

    def test_a_pass_ends_where_the_clock_that_it_began_by_was_wrong(
        self, make: Make, store: Store, engine: Engine, clock: Clock
    ) -> None:
        """The camera runs on the same machine, and so its clock agreed."""
        clock.set_by = 100 * DAY
        commit(store, batch(clock.now()))
        commit(store, batch(NOON - DAY, "anna", device_id="other"))
        retention = make()
        clock.seconds = SETTLE_SECONDS
        retention.step(idle=True)
        clock.set_by = timedelta()
        for _ in range(5):
            retention.step(idle=True)

        assert people(engine) == {"anna"}


class TestOutage:
    def test_a_database_that_is_locked_is_left_alone_for_a_minute(
        self, sqlite_url: str, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shared.database.BUSY_TIMEOUT_MS", 10)
        with migrated(sqlite_url) as engine, closing(sqlite3.connect(str(sqlite_path(sqlite_url)))) as other:
            store = Store(engine, now=clock.now)
            commit(store, batch(NOON - 31 * DAY, "anna"), batch(NOON))
            retention = retention_of(store, clock)
            other.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                run(retention, clock)
            assert caplog.messages == ["cannot delete rows for their age: database is locked; trying again every 60 s"]
            assert clock.seconds == SETTLE_SECONDS + 2 * RETRY_SECONDS

            other.rollback()
            run(retention, clock)
            assert people(engine) == set()

    def test_what_a_step_could_not_delete_the_next_one_does(
        self, sqlite_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shared.database.BUSY_TIMEOUT_MS", 10)
        with migrated(sqlite_url) as engine, closing(sqlite3.connect(str(sqlite_path(sqlite_url)))) as other:
            store = Store(engine, now=clock.now)
            commit(store, batch(NOON - 31 * DAY, *map(str, range(500))), batch(NOON))
            retention = retention_of(store, clock)
            clock.seconds = SETTLE_SECONDS
            for _ in range(2):
                retention.step(idle=True)
            other.execute("BEGIN IMMEDIATE")
            retention.step(idle=True)
            other.rollback()
            assert len(people(engine)) == 300

            run(retention, clock)
            assert people(engine) == set()

    def test_rows_that_another_daemon_has_locked_are_passed_over(self, postgresql: PostgreSQL, clock: Clock) -> None:
        url = postgresql.new_database()
        with migrated(url) as engine, disposing(writer_engine(url)) as other:
            store = Store(engine, now=clock.now)
            commit(store, batch(NOON - 31 * DAY, "anna"), batch(NOON - 31 * DAY, "bert", device_id="jetson_2"))
            commit(store, batch(NOON), batch(NOON, device_id="jetson_2"))
            retention = retention_of(store, clock)
            with other.begin() as connection:
                connection.execute(
                    update(person_emotion).where(person_emotion.c.person_id == "anna").values(time_happy=7)
                )
                run(retention, clock)
                assert people(engine) == {"anna"}

            commit(store, batch(clock.now() + timedelta(hours=1)))
            run(retention, clock)
            assert people(engine) == set()

    def test_a_daemon_that_adds_to_a_late_hour_waits_at_the_beginning(
        self, postgresql: PostgreSQL, clock: Clock
    ) -> None:
        """If it waited for the hour, it would hold the minute that retention deletes next."""
        url = postgresql.new_database()
        with (
            migrated(url) as engine,
            disposing(writer_engine(url)) as other,
            ThreadPoolExecutor(1) as pool,
        ):
            store, old = Store(engine, now=clock.now), NOON - 40 * DAY
            commit(store, batch(NOON))
            values = {"device_id": "jetson_1", "minute": old, "most_people": 1}
            with engine.begin() as connection:
                add_minutes(connection, [values | {f"time_{emotion}": 1.0 for emotion in EMOTIONS}])
            late: list[Future[None]] = []

            def add_late() -> None:
                statements = Statements(other)
                row = ("jetson_1", statements.timestamp(old), 1.0, 1.0, 1.0, 1.0, 1, 60.0)
                with other.begin() as connection:
                    dialect_of(connection).lock_devices(connection, {"jetson_1"}, new=())
                    statements.add_minute.execute(connection, [row])
                    statements.add_hour.execute(connection, [row])

            def in_the_middle(*parts: Any) -> None:
                if parts[2].startswith("DELETE FROM emotion_minute") and not late:
                    late.append(pool.submit(add_late))
                    wait_until(lambda: waits_for_a_lock(url), seconds=30, what="the other daemon waits")

            event.listen(engine, "before_cursor_execute", in_the_middle)
            retention = retention_of(store, clock)
            clock.seconds = SETTLE_SECONDS
            while retention.is_due:
                retention.step(idle=True)
            late[0].result(timeout=30)

            with engine.connect() as connection:
                found = connection.scalars(select(emotion_minute.c.time_happy).where(emotion_minute.c.minute == old))
                assert found.all() == [1.0], "the late one"
                check_hours(connection)

    def test_two_daemons_prune_one_postgresql_at_once(self, postgresql: PostgreSQL, clock: Clock) -> None:
        url = postgresql.new_database()
        with migrated(url) as engine, disposing(writer_engine(url)) as other:
            stores = [Store(each, now=clock.now) for each in (engine, other)]
            commit(stores[0], batch(NOON - 31 * DAY, *map(str, range(1_000))), batch(NOON))
            both = [retention_of(each, clock) for each in stores]
            clock.seconds = SETTLE_SECONDS
            while any(each.is_due for each in both):
                for each in both:
                    each.step(idle=True)
                commit(stores[1], batch(NOON + timedelta(seconds=1), "1", "2"))

            assert people(engine) == {"1", "2"}


def test_a_year_takes_the_room_of_a_month(tmp_path: Path) -> None:
    """Two cameras, for an hour a day, with new people every day."""
    pruned = _file_sizes(tmp_path / "pruned.db", retention_days=30, days=365)
    kept = _file_sizes(tmp_path / "kept.db", retention_days=None, days=120)

    assert pruned[365] == pytest.approx(pruned[60], rel=0.05)
    assert kept[120][0] > 1.8 * kept[60][0] > 2.5 * pruned[60][0]


def _file_sizes(file: Path, *, retention_days: float | None, days: int) -> dict[int, tuple[int, int]]:
    """At the end of each day the bytes of the database, and of its -wal, which a checkpoint of the daemon's cuts."""
    clock, sizes = Clock(), dict[int, tuple[int, int]]()
    with migrated(f"sqlite:///{file}") as engine:
        with engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA synchronous=OFF")  # no power cut here
            connection.exec_driver_sql("BEGIN")
        store = Store(engine, now=clock.now)
        retention = Retention(
            store,
            report=Report(),
            people_days=retention_days,
            history_days=retention_days,
            now=clock.now,
            monotonic=clock.monotonic,
        )
        for day in range(1, days + 1):
            noon = NOON + day * DAY
            clock.seconds = (noon - NOON).total_seconds() + 3_600
            commit(store, *(batch for camera in ("a", "b") for batch in _a_day(camera, noon)))
            if retention_days is not None:
                run(retention, clock)
            sizes[day] = _size(engine), file.with_name(f"{file.name}-wal").stat().st_size
    return sizes


def _a_day(camera: str, noon: datetime) -> Iterator[Batch]:
    """A batch every ten minutes for an hour, so that each minute has something; every 20 minutes ten new people."""
    for minutes in range(0, 70, 10):
        stamp = noon + timedelta(minutes=minutes)
        seen = {f"{noon:%j} {minutes // 20} {number}": Cumulative(minutes * 60.0) for number in range(10)}
        yield Batch(camera, stamp, seen, stamp)


def _size(engine: Engine) -> int:
    with engine.connect() as connection:
        pages, page_bytes = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
        )
    return int(pages * page_bytes)
