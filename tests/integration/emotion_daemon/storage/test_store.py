"""The effects of one transaction, on SQLite and PostgreSQL."""

import json
import random
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Table, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from emotion_daemon.rules.fold import PersonKey, Report, StoredState, fold
from emotion_daemon.rules.listening import NEVER
from emotion_daemon.rules.outcome import Rejected, Status
from emotion_daemon.storage import dead_letters, state_cache
from emotion_daemon.storage import transaction as transaction_module
from emotion_daemon.storage.dead_letters import STORED_PAYLOAD, STORED_TOPIC
from emotion_daemon.storage.errors import LASTING, is_temporary, reason
from emotion_daemon.storage.migrations import upgrade
from emotion_daemon.storage.statements import raise_revision
from emotion_daemon.storage.store import Store
from shared import database
from shared.batch import EMOTIONS, Batch, Cumulative, DecodeError, decode
from shared.database import sqlite_path, writer_engine
from shared.schema import device, device_state, emotion_hour, emotion_minute, person_emotion, rejected_message
from tests.databases import check_hours, disposing, migrated
from tests.groups import group
from tests.postgresql import PostgreSQL

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
ANNA: PersonKey = ("jetson_1", "anna")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with migrated(database_url) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine)


def write(store: Store, people: dict[PersonKey, Report], devices: dict[str, datetime] | None = None) -> None:
    with store.transaction() as transaction:
        transaction.write(group(people, devices))


def report(seconds: float, happy: float = 0, sad: float = 0, angry: float = 0, neutral: float = 0) -> Report:
    return Report(Cumulative(*map(float, (happy, sad, angry, neutral))), at(seconds))


def batch(seconds: float, *people: str) -> Batch:
    return Batch("jetson_1", at(seconds), dict.fromkeys(people, Cumulative()), at(seconds))


def showing(seconds: float, *, happy: float = 0) -> Batch:
    return Batch("jetson_1", at(seconds), {"anna": Cumulative(happy)}, at(seconds))


def commit(store: Store, batches: list[Batch]) -> None:
    with store.transaction() as transaction:
        transaction.write(fold(batches, transaction.read_state(batches)))


def people(engine: Engine) -> dict[PersonKey, Report]:
    with engine.connect() as connection:
        return {
            (row.device_id, row.person_id): Report(
                Cumulative(row.time_happy, row.time_sad, row.time_angry, row.time_neutral), row.last_seen
            )
            for row in connection.execute(select(person_emotion))
        }


def devices(engine: Engine) -> dict[str, tuple[str | None, datetime | None]]:
    with engine.connect() as connection:
        return {row.device_id: (row.device_name, row.updated_at) for row in connection.execute(select(device))}


class TestPeople:
    def test_a_new_person_is_inserted(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(0, 1.5, 2.5, 3.5, 4.5)})

        assert people(engine) == {ANNA: report(0, 1.5, 2.5, 3.5, 4.5)}

    def test_a_newer_report_replaces_the_row(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(0, 1, 1, 1, 1)})
        write(store, {ANNA: report(1, 2)})

        assert people(engine) == {ANNA: report(1, 2)}

    def test_an_older_report_changes_nothing(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(1, 2)})
        write(store, {ANNA: report(0, 1)})

        assert people(engine) == {ANNA: report(1, 2)}

    def test_a_report_as_old_as_the_row_is_applied_again(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(1, 2)})
        write(store, {ANNA: report(1, 3)})

        assert people(engine) == {ANNA: report(1, 3)}

    def test_an_old_report_of_one_person_does_not_hold_up_another(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(5, 5)})
        write(store, {ANNA: report(4, 4), ("jetson_1", "bert"): report(4, 4)})

        assert people(engine) == {ANNA: report(5, 5), ("jetson_1", "bert"): report(4, 4)}

    def test_a_row_keeps_its_id(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(0), ("jetson_1", "bert"): report(0)})
        with engine.connect() as connection:
            before = connection.execute(select(person_emotion.c.person_id, person_emotion.c.id)).all()
        write(store, {ANNA: report(1)})

        with engine.connect() as connection:
            after = connection.execute(select(person_emotion.c.person_id, person_emotion.c.id)).all()
        assert sorted(before) == sorted(after)

    @pytest.mark.parametrize(
        "value", [0.0, 5e-324, 0.1, 1 / 3, 2.0**53 + 2, 2.0**63, sys.float_info.min, sys.float_info.max]
    )
    def test_seconds_come_back_as_they_went_in(self, store: Store, engine: Engine, value: float) -> None:
        write(store, {ANNA: report(0, value)})

        assert people(engine)[ANNA].cumulative.happy == value

    @pytest.mark.parametrize(
        "person_id", ["é" * 128, "'; DROP TABLE device; --", "%s ? :x", "\U0001f600", "\\", " ", "\uffff"]
    )
    def test_a_person_id_comes_back_as_it_went_in(self, store: Store, engine: Engine, person_id: str) -> None:
        write(store, {("jetson_1", person_id): report(0)})

        assert people(engine).keys() == {("jetson_1", person_id)}

    def test_nothing_to_write_is_fine(self, store: Store, engine: Engine) -> None:
        write(store, {})

        assert people(engine) == {}

    def test_a_hundred_thousand_people_are_stored(self, store: Store, engine: Engine) -> None:
        write(store, {("jetson_1", str(number)): report(0, number) for number in range(100_000)})

        with engine.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM person_emotion")) == 100_000


class TestStamps:
    @pytest.mark.parametrize(
        ("older", "newer"),
        [(0.0, 0.000001), (0.999999, 1.0), (0.5, 0.500001), (-0.000001, 0.0), (9.0, 10.0), (59.9, 60.0)],
    )
    def test_they_compare_right_with_and_without_microseconds(
        self, store: Store, engine: Engine, older: float, newer: float
    ) -> None:
        write(store, {ANNA: report(newer, 2)})
        write(store, {ANNA: report(older, 1)})
        unchanged = people(engine)
        write(store, {("jetson_1", "bert"): report(older, 1)})
        write(store, {("jetson_1", "bert"): report(newer, 2)})

        assert unchanged == {ANNA: report(newer, 2)}
        assert people(engine)["jetson_1", "bert"] == report(newer, 2)

    def test_microseconds_are_kept(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(0.123456)}, {"jetson_1": at(0.654321)})

        assert people(engine)[ANNA].last_seen == at(0.123456)
        assert devices(engine)["jetson_1"][1] == at(0.654321)

    def test_they_are_stored_as_utc(self, store: Store, engine: Engine) -> None:
        india = timezone(timedelta(hours=5, minutes=30))
        write(store, {ANNA: Report(Cumulative(), NOON.astimezone(india))})

        with engine.connect() as connection:
            stored = connection.scalar(text("SELECT CAST(last_seen AS TEXT) FROM person_emotion"))
        assert str(stored).startswith("2025-11-14 12:00:00")
        assert people(engine)[ANNA].last_seen == NOON


class TestStampsFromTheFuture:
    """Stored while the daemon's clock was ahead, and met by a daemon whose clock is right."""

    @pytest.fixture
    def store(self, engine: Engine) -> Store:
        return Store(engine, now=lambda: NOON)

    def test_a_person_stored_with_one_is_replaced(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(61, 1)})
        write(store, {ANNA: report(0, 2)})

        assert people(engine) == {ANNA: report(0, 2)}

    def test_a_device_stored_with_one_is_set_right(self, store: Store, engine: Engine) -> None:
        write(store, {}, {"jetson_1": at(61)})
        write(store, {}, {"jetson_1": at(0)})

        assert devices(engine) == {"jetson_1": (None, at(0))}

    def test_within_the_allowed_skew_the_newer_one_stays(self, store: Store, engine: Engine) -> None:
        write(store, {ANNA: report(60, 1)}, {"jetson_1": at(60)})
        write(store, {ANNA: report(0, 2)}, {"jetson_1": at(0)})

        assert people(engine) == {ANNA: report(60, 1)}
        assert devices(engine) == {"jetson_1": (None, at(60))}

    def test_a_person_stored_with_one_counts_as_new(self, store: Store) -> None:
        write(store, {ANNA: report(61), ("jetson_1", "bert"): report(60)}, {"jetson_1": at(61)})
        with store.transaction() as transaction:
            known = transaction.read_state([batch(0, "anna", "bert")])

        assert known.people == {("jetson_1", "bert"): report(60)}
        assert known.devices == {}


class TestDevices:
    def test_a_device_that_sent_a_batch_has_a_row(self, store: Store, engine: Engine) -> None:
        write(store, {}, {"jetson_1": at(0)})

        assert devices(engine) == {"jetson_1": (None, at(0))}

    def test_its_stamp_only_moves_forward(self, store: Store, engine: Engine) -> None:
        write(store, {}, {"jetson_1": at(5)})
        write(store, {}, {"jetson_1": at(3)})
        back = devices(engine)
        write(store, {}, {"jetson_1": at(7)})

        assert back == {"jetson_1": (None, at(5))}
        assert devices(engine) == {"jetson_1": (None, at(7))}

    def test_an_operators_name_stays(self, store: Store, engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(device.insert().values(device_id="jetson_1", device_name="Hall"))
        write(store, {}, {"jetson_1": at(0)})

        assert devices(engine) == {"jetson_1": ("Hall", at(0))}


def minutes(engine: Engine) -> dict[tuple[str, datetime], tuple[float, ...]]:
    with engine.connect() as connection:
        check_hours(connection)
        rows = connection.execute(select(emotion_minute)).all()
    return {(row.device_id, row.minute): tuple(row)[2:] for row in rows}


_OTHERS = ("revision", "received_by", "info", "covered_since")


def states(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        others = (*_OTHERS, *(f"{prefix}_{emotion}" for prefix in ("time", "now") for emotion in EMOTIONS))
        columns = [column for column in device_state.c if column.name not in others]
        return [tuple(row) for row in connection.execute(select(*columns).order_by(device_state.c.device_id))]


class TestCovered:
    @staticmethod
    def covered(engine: Engine, table: Table) -> list[float | None]:
        with engine.connect() as connection:
            return list(connection.scalars(select(table.c.covered)))

    def test_is_no_more_than_the_minute_or_hour_if_daemons_overlap(self, store: Store, engine: Engine) -> None:
        """The second daemon covers the time of the first one's backlog, too: its batches are 50 s apart."""
        first, second = Store(engine, daemon_id="first"), Store(engine, daemon_id="second")
        commit(first, [batch(0)])
        for begin in range(0, 3_600, 50):
            commit(second, [batch(begin + 50)])
        for begin in range(0, 3_600, 50):
            commit(Store(engine, daemon_id="first"), [batch(begin + second) for second in range(1, 49)])

        minutes, hours = self.covered(engine, emotion_minute), self.covered(engine, emotion_hour)
        assert max(seconds or 0 for seconds in minutes) == 60
        assert max(seconds or 0 for seconds in hours) == 3_600

    def test_adds_to_rows_of_an_earlier_version(self, store: Store, engine: Engine) -> None:
        commit(store, [batch(0, "anna")])
        for table in (emotion_minute, emotion_hour):
            with engine.begin() as connection:
                connection.execute(table.update().values(covered=None))
        commit(store, [batch(2, "anna")])

        assert self.covered(engine, emotion_minute) == self.covered(engine, emotion_hour) == [2.0]

    def test_of_a_new_device_is_known_also_before_its_first_batch(self, store: Store, engine: Engine) -> None:
        commit(store, [batch(0), batch(5)])
        commit(Store(engine), [batch(10)])

        with engine.connect() as connection:
            assert connection.scalars(select(device_state.c.covered_since)).all() == [NEVER]


class TestNow:
    @pytest.mark.parametrize("totals_only", [False, True])
    def test_it_is_stored_with_the_newest_batch(self, engine: Engine, totals_only: bool) -> None:
        store = Store(engine, totals_only=totals_only)
        for second in range(15):
            with store.transaction() as transaction:
                batches = [showing(second, happy=second)]
                transaction.write(store.fold(batches, transaction.read_state(batches)))

        with engine.connect() as connection:
            columns = [device_state.c[f"now_{emotion}"] for emotion in EMOTIONS]
            assert connection.execute(select(*columns)).all() == [(10, 0, 0, 0)]

    def test_the_emotion_of_a_person_is_read_back(self, store: Store, engine: Engine) -> None:
        commit(store, [showing(0), showing(1, happy=1)])
        commit(Store(engine), [showing(2, happy=1)])

        with engine.connect() as connection:
            assert connection.scalars(select(person_emotion.c.emotion_now)).all() == ["happy"]


class TestHistory:
    def test_each_group_adds_to_its_minute(self, store: Store, engine: Engine) -> None:
        for second in (0, 1, 2):
            commit(store, [showing(second, happy=second), showing(second + 0.5, happy=second + 0.5)])

        assert minutes(engine) == {("jetson_1", at(0)): (2.5, 0, 0, 0, 1, 2.5)}

    def test_the_most_people_stay(self, store: Store, engine: Engine) -> None:
        both = {"anna": Cumulative(1.0), "bert": Cumulative(1.0)}
        commit(store, [Batch("jetson_1", at(0), both, at(0))])
        commit(store, [showing(1, happy=1)])

        assert minutes(engine) == {("jetson_1", at(0)): (0, 0, 0, 0, 2, 1)}

    def test_a_daemon_that_starts_again_goes_on_from_what_is_stored(self, store: Store, engine: Engine) -> None:
        commit(store, [showing(0), showing(1, happy=1)])
        commit(Store(engine), [showing(1, happy=1), showing(2, happy=2)])

        assert minutes(engine) == {("jetson_1", at(0)): (2, 0, 0, 0, 1, 2)}

    def test_its_totals_never_fall(self, store: Store, engine: Engine) -> None:
        """The device restarts its counters, one batch comes with DUP, and retention deletes the history."""
        commit(store, [showing(0), showing(10, happy=10)])
        commit(store, [showing(11, happy=1)])
        commit(store, [Batch("jetson_1", at(12), {"anna": Cumulative(2.0)}, None)])
        with engine.begin() as connection:
            connection.execute(emotion_minute.delete())

        with engine.connect() as connection:
            assert connection.scalars(select(device_state.c.time_happy)).all() == [12.0]

    def test_a_group_that_was_rolled_back_adds_nothing(self, store: Store, engine: Engine) -> None:
        commit(store, [showing(0)])
        group = [showing(1, happy=1)]

        def fail() -> None:
            with store.transaction() as transaction:
                transaction.write(fold(group, transaction.read_state(group)))
                raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            fail()
        commit(store, group)

        assert minutes(engine) == {("jetson_1", at(0)): (1, 0, 0, 0, 1, 1)}

    def test_a_day_of_silence_fills_a_day(self, store: Store, engine: Engine) -> None:
        commit(store, [showing(0)])
        commit(store, [showing(86_400, happy=86_400)])

        assert len(minutes(engine)) == 1_440 + 1
        assert sum(row[0] for row in minutes(engine).values()) == pytest.approx(86_400)

    def test_two_daemons_on_one_postgresql_count_a_batch_once(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        with migrated(url) as engine, disposing(writer_engine(url)) as other:
            stores = [Store(engine), Store(other)]
            for second in range(4):
                threads = [
                    threading.Thread(target=commit, args=(each, [showing(second, happy=second)])) for each in stores
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

            assert minutes(engine) == {("jetson_1", at(0)): (3, 0, 0, 0, 1, 3)}

    def test_a_backlog_of_a_device_that_has_moved_is_late_and_counts(self, postgresql: PostgreSQL) -> None:
        """The backlog grows and comes in order, as after a clock that was set back; but another daemon was faster."""
        url = postgresql.new_database()
        with migrated(url) as engine, disposing(writer_engine(url)) as other:
            now = at(60)
            stores = [Store(engine, daemon_id="first"), Store(other, daemon_id="second")]
            commit(stores[0], [Batch("jetson_1", at(0), {"anna": Cumulative()}, at(0))])
            commit(stores[1], [Batch("jetson_1", at(50), {}, now)])
            for second in range(1, 10):
                commit(stores[0], [Batch("jetson_1", at(second), {"anna": Cumulative(float(second))}, now)])

            assert minutes(engine) == {("jetson_1", at(0)): (9, 0, 0, 0, 1, 50)}
            assert people(engine) == {ANNA: report(9, 9)}
            assert states(engine) == [("jetson_1", now, 0, -10, 0, None, None)]


class TestStates:
    def test_the_newest_batch_tells_how_a_device_is_doing(self, store: Store, engine: Engine) -> None:
        commit(store, [Batch("jetson_1", at(1), {"anna": Cumulative(1.0)}, at(1.5))])

        assert states(engine) == [("jetson_1", at(1.5), 1, -0.5, 0, None, None)]

    def test_a_late_batch_changes_nothing(self, store: Store, engine: Engine) -> None:
        commit(store, [Batch("jetson_1", at(2), {}, at(2))])
        commit(store, [Batch("jetson_1", at(1), {"anna": Cumulative(1.0)}, at(2.1))])

        assert states(engine) == [("jetson_1", at(2), 0, 0, 0, None, None)]

    def test_a_clock_that_was_set_back_has_an_offset(self, engine: Engine) -> None:
        """Also for a daemon that starts in between."""
        commit(Store(engine), [Batch("jetson_1", at(3_600), {}, at(3_600))])
        store = Store(engine)
        for second in range(1, 10):
            if second == 5:
                store = Store(engine)
            shown = {"anna": Cumulative(float(second))}
            commit(store, [Batch("jetson_1", at(second), shown, at(3_600 + second))])

        assert states(engine) == [("jetson_1", at(3_609), 1, -3_600, 3_600, None, None)]
        assert devices(engine) == {"jetson_1": (None, at(3_609))}
        assert people(engine) == {ANNA: report(3_609, 9)}

    def test_once_it_is_right_again_the_offset_is_gone(self, store: Store, engine: Engine) -> None:
        commit(store, [Batch("jetson_1", at(3_600), {}, at(3_600))])
        for second in range(1, 5):
            commit(store, [Batch("jetson_1", at(second), {"anna": Cumulative(float(second))}, at(3_600 + second))])
        commit(store, [Batch("jetson_1", at(3_605), {}, at(3_605))])

        assert states(engine) == [("jetson_1", at(3_605), 0, 0, 0, None, None)]

    def test_what_is_stored_already_is_nothing_new(self, store: Store, engine: Engine) -> None:
        commit(store, [Batch("jetson_1", at(1), {}, at(1))])
        commit(store, [Batch("jetson_1", at(1), {}, at(7_200))])

        assert states(engine) == [("jetson_1", at(1), 0, 0, 0, None, None)]

    def test_nobody_knows_when_something_that_is_sent_again_arrived(self, store: Store, engine: Engine) -> None:
        commit(store, [Batch("jetson_1", at(1), {}, at(1))])
        commit(store, [Batch("jetson_1", at(0), {}, None), Batch("jetson_1", at(2), {}, None)])

        assert states(engine) == [("jetson_1", at(1), 0, 0, 0, None, None)]
        assert devices(engine) == {"jetson_1": (None, at(2))}

    def test_a_clock_that_cannot_be_right_is_told_by_how_much(self, store: Store, engine: Engine) -> None:
        commit(store, [Batch("jetson_1", at(1), {}, at(1), clock_skew=timedelta(days=-1))])

        assert states(engine) == [("jetson_1", at(1), 0, -86_400, 0, None, None)]

    def test_a_status_is_kept_beside_it(self, store: Store, engine: Engine) -> None:
        commit(store, [Batch("jetson_1", at(1), {}, at(1))])
        with store.transaction() as transaction:
            transaction.write_presence([Status("jetson_1", "online", at(0)), Status("jetson_1", "offline", at(2))])
            transaction.write_presence([Status("jetson_2", "online", at(3))])

        assert states(engine) == [
            ("jetson_1", at(1), 0, 0, 0, "offline", at(2)),
            ("jetson_2", None, None, None, None, "online", at(3)),
        ]


class TestKnown:
    @pytest.fixture
    def batches(self) -> list[Batch]:
        return [batch(1, "anna")]

    @pytest.fixture
    def selects(self, engine: Engine) -> list[str]:
        """Return the statements that read from the tables."""
        asked: list[str] = []

        def note(*parts: Any) -> None:
            if parts[2].startswith("SELECT"):
                asked.append(parts[2])

        event.listen(engine, "before_cursor_execute", note)
        return asked

    def commit(self, store: Store, batches: list[Batch]) -> StoredState:
        with store.transaction() as transaction:
            known = transaction.read_state(batches)
            before = StoredState(dict(known.people), dict(known.devices))
            transaction.write(fold(batches, known))
        return before

    def test_what_was_committed_is_remembered(self, store: Store, batches: list[Batch], selects: list[str]) -> None:
        """On PostgreSQL the daemon locks the device, and reads its revision."""
        self.commit(store, batches)
        selects.clear()
        known = self.commit(store, [batch(2, "anna")])

        assert known == StoredState({ANNA: report(1)}, {"jetson_1": at(1)})
        assert not [
            each for each in selects if "FOR UPDATE" not in each and "SELECT device_state.device_id" not in each
        ]

    def test_what_was_rolled_back_is_not(self, store: Store, batches: list[Batch]) -> None:
        self.commit(store, batches)

        def fail() -> None:
            with store.transaction() as transaction:
                transaction.write(fold([batch(5, "anna")], transaction.read_state([batch(5, "anna")])))
                raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            fail()

        assert self.commit(store, [batch(6, "anna")]) == StoredState({ANNA: report(1)}, {"jetson_1": at(1)})

    def test_what_another_program_has_written_is_read(
        self, store: Store, database_url: str, batches: list[Batch]
    ) -> None:
        self.commit(store, batches)
        with disposing(writer_engine(database_url)) as other, other.begin() as connection:
            connection.execute(person_emotion.update().values(time_happy=7.0))
            connection.execute(device.update().values(updated_at=at(1.5)))
            raise_revision(connection, "jetson_1")

        assert self.commit(store, [batch(2, "anna")]) == StoredState({ANNA: report(1, 7)}, {"jetson_1": at(1.5)})

    def test_who_was_deleted_is_new(self, store: Store, database_url: str, batches: list[Batch]) -> None:
        self.commit(store, batches)
        with disposing(writer_engine(database_url)) as other, other.begin() as connection:
            connection.execute(person_emotion.delete())
            connection.execute(device.delete())
            raise_revision(connection, "jetson_1")

        assert self.commit(store, [batch(2, "anna")]) == StoredState({}, {})

    def test_a_clock_that_was_set_back_makes_it_read_all_again(self, engine: Engine) -> None:
        now = at(7_200)
        store = Store(engine, now=lambda: now)
        self.commit(store, [batch(7_200, "anna")])
        now = at(0)

        assert self.commit(store, [batch(1, "anna")]) == StoredState({}, {})
        assert people(engine) == {ANNA: report(1)}

    def test_a_group_that_waited_while_the_clock_was_set_back_holds_up_nothing(self, engine: Engine) -> None:
        now = at(500)
        store = Store(engine, now=lambda: now)
        self.commit(store, [batch(1_000, "anna")])
        with store.transaction() as transaction:
            group = [batch(501, "anna")]
            folded = fold(group, transaction.read_state(group))
            transaction.write(folded)

        assert folded.updated_counts == [1]
        assert people(engine) == {ANNA: report(501)}

    def test_people_of_a_device_whose_row_was_deleted_are_known(
        self, store: Store, database_url: str, batches: list[Batch]
    ) -> None:
        self.commit(store, batches)
        with disposing(writer_engine(database_url)) as other, other.begin() as connection:
            connection.execute(device.delete())
            raise_revision(connection, "jetson_1")

        assert self.commit(store, [batch(2, "anna")]) == StoredState({ANNA: report(1)}, {})

    def test_only_so_many_devices_are_remembered(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, selects: list[str]
    ) -> None:
        monkeypatch.setattr(state_cache, "MAX_REMEMBERED", 3)
        for number in range(8):
            self.commit(store, [Batch(f"jetson_{number}", at(0), {}, at(0))])
        with store.transaction() as transaction:
            known = transaction.read_state([])

        assert len(known.devices) <= 3

    def test_time_that_somebody_else_has_given_is_not_given_again(self, store: Store, database_url: str) -> None:
        """Of two processes neither is alone: what one of them has spared is gone when the other has written since."""
        with disposing(writer_engine(database_url)) as engine:
            other = Store(engine)
            commit(store, [showing(0), showing(10)])
            commit(other, [showing(10), showing(12, happy=2)])
            commit(store, [showing(12, happy=2), showing(13, happy=9)])

            assert minutes(engine) == {("jetson_1", at(0)): (3, 0, 0, 0, 1, 13)}

    def test_a_file_that_a_copy_was_put_into_is_read_anew(self, sqlite_url: str, tmp_path: Path) -> None:
        file = sqlite_path(sqlite_url)
        assert file is not None
        with migrated(sqlite_url) as engine:
            store = Store(engine)
            self.commit(store, [batch(1, "anna")])
            with sqlite3.connect(file) as connection, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
                connection.backup(copy)
            connection.close()
            self.commit(store, [batch(2, "anna")])
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            file.write_bytes((tmp_path / "copy.db").read_bytes())

            known = self.commit(store, [batch(3, "anna")])

        assert known == StoredState({ANNA: report(1)}, {"jetson_1": at(1)})

    def test_of_very_many_people_those_in_view_are_remembered(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, engine: Engine, selects: list[str]
    ) -> None:
        monkeypatch.setattr(state_cache, "MAX_REMEMBERED", 10)
        for second in range(9):
            self.commit(store, [batch(second, "anna", str(second))])
        self.commit(store, [batch(9, "anna", "9"), batch(10, "anna", "9")])
        selects.clear()
        known = self.commit(store, [batch(11, "anna", "1")])

        assert (known.people[ANNA].last_seen, known.people[ANNA].spare) == (at(10), 2)
        assert known.people["jetson_1", "1"] == report(1)
        assert len(known.people) < 10

    def test_it_has_what_is_stored_of_those_in_the_group(self, store: Store) -> None:
        write(store, {ANNA: report(1, 5, 6, 7, 8), ("jetson_2", "anna"): report(2)}, {"jetson_1": at(3)})
        with store.transaction() as transaction:
            known = transaction.read_state([batch(4, "anna", "nobody")])

        assert known.people[ANNA] == report(1, 5, 6, 7, 8)
        assert ("jetson_1", "nobody") not in known.people
        assert known.devices == {"jetson_1": at(3)}

    def test_it_takes_more_people_than_one_select(self, store: Store) -> None:
        keys = [("jetson_1", str(number)) for number in range(2_500)]
        write(store, {key: report(1) for key in keys}, {"jetson_1": at(1)})
        with store.transaction() as transaction:
            known = transaction.read_state([batch(2, *(person for _, person in keys))])

        assert known.people == dict.fromkeys(keys, report(1))

    def test_it_takes_more_people_than_a_statement_may_have_variables(self, sqlite_url: str) -> None:
        engine = writer_engine(sqlite_url)
        upgrade(engine)
        with Store(engine).transaction() as transaction:
            known = transaction.read_state([batch(0, *map(str, range(40_000)))])
        engine.dispose()

        assert (known.people, known.devices) == ({}, {})

    def test_nobody_is_known_of_nobody(self, store: Store) -> None:
        with store.transaction() as transaction:
            known = transaction.read_state([])

        assert (known.people, known.devices) == ({}, {})


def test_a_long_write_is_interrupted_now_and_then(
    store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction_module, "_ROWS_A_STATEMENT", 3)
    interruptions: list[None] = []
    people = {("jetson_1", str(number)): report(number) for number in range(7)}
    with store.transaction() as transaction:
        transaction.write(group(people, {"jetson_1": at(6)}), between=lambda: interruptions.append(None))
    with store.transaction() as transaction:
        stored = transaction.read_state([batch(9, *map(str, range(7)))])

    assert len(interruptions) == 2
    assert stored.people.keys() == people.keys()


def rejected(number: int, payload: bytes = b"x") -> Rejected:
    return Rejected("emotions/jetson_1/batch", f"reason {number}", payload, at(number))


class TestRejected:
    def test_a_record_has_everything_that_is_known(self, store: Store, engine: Engine) -> None:
        with store.transaction() as transaction:
            transaction.reject([Rejected("a/topic", "a reason", b"\x00\xff", at(0.5))])

        with engine.connect() as connection:
            (row,) = connection.execute(select(rejected_message)).all()
        assert row[1:] == (at(0.5), "a/topic", "a reason", b"\x00\xff", 2)

    def test_a_payload_is_cut_at_64_kib_and_its_size_is_kept(self, store: Store, engine: Engine) -> None:
        with store.transaction() as transaction:
            transaction.reject([rejected(0, b"x" * (STORED_PAYLOAD + 1)), rejected(1, b"y" * STORED_PAYLOAD)])

        with engine.connect() as connection:
            rows = connection.execute(
                select(rejected_message.c.payload, rejected_message.c.payload_size).order_by(rejected_message.c.id)
            ).all()
        assert STORED_PAYLOAD == 65_536
        assert rows == [(b"x" * 65_536, 65_537), (b"y" * 65_536, 65_536)]

    def test_a_long_topic_is_kept_by_its_beginning_and_known_again(self, store: Store, engine: Engine) -> None:
        message = rejected(0)._replace(topic="emotions/" + "x" * 60_000)
        for sent_again in (False, True):
            with store.transaction() as transaction:
                transaction.reject([message._replace(sent_again=sent_again)])

        with engine.connect() as connection:
            topics = connection.scalars(select(rejected_message.c.topic)).all()
        assert topics == [message.topic[:STORED_TOPIC]]

    def test_what_the_broker_sends_again_is_recorded_once(self, store: Store, engine: Engine) -> None:
        large = b"x" * (STORED_PAYLOAD + 1)
        messages = [rejected(0, b"{"), rejected(1, b"{"), rejected(2, large)]
        with store.transaction() as transaction:
            transaction.reject(messages)
        with store.transaction() as transaction:
            transaction.reject([message._replace(sent_again=True) for message in messages])

        assert reasons(engine) == ["reason 0", "reason 1", "reason 2"]

    def test_what_the_broker_sends_again_and_nobody_recorded_is_recorded(self, store: Store, engine: Engine) -> None:
        with store.transaction() as transaction:
            transaction.reject([rejected(0, b"{")])
        with store.transaction() as transaction:
            transaction.reject([rejected(number, b"[")._replace(sent_again=True) for number in (1, 2)])

        assert reasons(engine) == ["reason 0", "reason 1", "reason 2"]

    def test_the_same_nonsense_sent_twice_is_recorded_twice(self, store: Store, engine: Engine) -> None:
        for number in range(2):
            with store.transaction() as transaction:
                transaction.reject([rejected(number, b"{")])

        assert reasons(engine) == ["reason 0", "reason 1"]

    def test_only_the_newest_are_kept(self, store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dead_letters, "MAX_DEAD_LETTERS", 3)
        for first in (0, 2, 4):
            with store.transaction() as transaction:
                transaction.reject([rejected(first), rejected(first + 1)])

        assert reasons(engine) == ["reason 3", "reason 4", "reason 5"]

    def test_as_many_as_are_kept_are_all_kept(
        self, store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dead_letters, "MAX_DEAD_LETTERS", 3)
        with store.transaction() as transaction:
            transaction.reject([rejected(0), rejected(1), rejected(2)])

        assert reasons(engine) == ["reason 0", "reason 1", "reason 2"]

    def test_a_group_larger_than_the_limit_keeps_its_newest(
        self, store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dead_letters, "MAX_DEAD_LETTERS", 3)
        with store.transaction() as transaction:
            transaction.reject([rejected(number) for number in range(10)])

        assert reasons(engine) == ["reason 7", "reason 8", "reason 9"]

    @pytest.fixture
    def small_quota(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dead_letters, "QUOTA", 3)
        monkeypatch.setattr(dead_letters, "QUOTA_BYTES", 100)

    @pytest.mark.usefixtures("small_quota")
    @pytest.mark.parametrize(("payload", "stored"), [(b"x", 3), (b"x" * 40, 2), (b"x" * 101, 0)])
    def test_within_a_minute_one_topic_gets_no_more_than_its_quota(
        self, payload: bytes, stored: int, store: Store, engine: Engine
    ) -> None:
        other = rejected(9)._replace(topic="emotions/jetson_2/batch")
        omitted = 0
        for first in (0, 2, 4):
            with store.transaction() as transaction:
                omitted += transaction.reject([rejected(first, payload), rejected(first + 1, payload)])
        with store.transaction() as transaction:
            omitted += transaction.reject([other])

        assert omitted == 6 - stored
        assert reasons(engine) == [*(f"reason {number}" for number in range(stored)), "reason 9"]

    @pytest.mark.usefixtures("small_quota")
    @pytest.mark.parametrize("payload", [b"x", b"x" * 33])
    def test_later_the_newest_replace_the_oldest_of_their_topic(
        self, payload: bytes, store: Store, engine: Engine
    ) -> None:
        other = rejected(0)._replace(topic="emotions/jetson_2/batch", reason="of another")
        with store.transaction() as transaction:
            transaction.reject([other, *(rejected(number, payload) for number in range(3))])
        with store.transaction() as transaction:
            assert transaction.reject([rejected(63, payload), rejected(64, payload)]) == 0

        assert reasons(engine) == ["of another", "reason 2", "reason 63", "reason 64"]


def reasons(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(rejected_message.c.reason).order_by(rejected_message.c.id)))


class TestTransaction:
    def test_what_raises_is_rolled_back_as_a_whole(self, store: Store, engine: Engine) -> None:
        def fail() -> None:
            with store.transaction() as transaction:
                transaction.write(group({ANNA: report(0)}, {"jetson_1": at(0)}))
                transaction.reject([rejected(0)])
                raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            fail()

        assert (people(engine), devices(engine), reasons(engine)) == ({}, {}, [])

    def test_a_row_that_the_database_refuses_rolls_back_the_others(self, store: Store, engine: Engine) -> None:
        bad = Report(Cumulative(happy=None), at(0))  # type: ignore[arg-type]
        with pytest.raises(IntegrityError) as caught:
            write(store, {("a", "1"): report(0), ("b", "2"): bad, ("c", "3"): report(0)}, {"a": at(0)})

        assert isinstance(caught.value, LASTING)
        assert not is_temporary(caught.value)
        assert (people(engine), devices(engine)) == ({}, {})

    def test_it_can_be_used_again_after_a_failure(self, store: Store, engine: Engine) -> None:
        with pytest.raises(RuntimeError, match="a bug"), store.transaction():
            raise RuntimeError("a bug")
        write(store, {ANNA: report(0)})

        assert people(engine).keys() == {ANNA}

    def test_a_missing_table_is_not_temporary(self, store: Store, engine: Engine) -> None:
        with engine.begin() as connection:
            person_emotion.drop(connection)
        with pytest.raises((OperationalError, ProgrammingError)) as caught:
            write(store, {ANNA: report(0)})

        assert not is_temporary(caught.value)
        assert not isinstance(caught.value, LASTING)


class TestTemporary:
    def test_another_writers_lock_is_temporary(self, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
        engine = writer_engine(sqlite_url)
        upgrade(engine)
        path = sqlite_path(sqlite_url)
        assert path is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(OperationalError, match="database is locked") as caught:
                write(Store(engine), {ANNA: report(0)})
            other.execute("ROLLBACK")
        write(Store(engine), {ANNA: report(0)})
        stored = people(engine)
        engine.dispose()

        assert is_temporary(caught.value)
        assert stored == {ANNA: report(0)}

    def test_a_full_disk_is_temporary(self, sqlite_url: str) -> None:
        engine = writer_engine(sqlite_url)
        upgrade(engine)
        with engine.connect() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        with pytest.raises(OperationalError, match="full") as caught:
            write(Store(engine), {("jetson_1", str(number)): report(0) for number in range(1_000)})
        with engine.connect() as connection:
            connection.execute(text("PRAGMA max_page_count = 1000000"))
        before = people(engine)
        write(Store(engine), {ANNA: report(0)})
        after = people(engine)
        engine.dispose()

        assert is_temporary(caught.value)
        assert (before, after) == ({}, {ANNA: report(0)})

    def test_a_folder_that_is_not_there_is_temporary(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        engine = writer_engine(f"sqlite:///{tmp_path_factory.mktemp('gone')}/volume/emotion.db")
        with pytest.raises(DBAPIError) as caught:
            write(Store(engine), {ANNA: report(0)})
        engine.dispose()

        assert is_temporary(caught.value)

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR_SHMMAP])
    def test_a_file_system_without_shared_memory_is_named(self, code: int) -> None:
        said = sqlite3.OperationalError("locking protocol")
        said.sqlite_errorcode = code
        error = OperationalError("COMMIT", None, said)

        assert is_temporary(error)
        assert reason(error).startswith("locking protocol. If this repeats, this file system cannot hold the database")

    def test_a_file_that_is_no_database_is_not_temporary(self, sqlite_url: str) -> None:
        path = sqlite_path(sqlite_url)
        assert path is not None
        path.write_bytes(b"not a database" * 1_000)
        engine = writer_engine(sqlite_url)
        with pytest.raises(DBAPIError) as caught:
            write(Store(engine), {ANNA: report(0)})
        engine.dispose()

        assert not is_temporary(caught.value)

    def test_a_server_that_cut_the_connection_is_temporary(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        engine, other = writer_engine(url), writer_engine(url)
        upgrade(engine)
        store = Store(engine)
        everybody_else = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        def write_while_the_server_cuts() -> None:
            with store.transaction() as transaction:
                with other.begin() as connection:
                    connection.execute(everybody_else)
                transaction.write(group({ANNA: report(0)}))

        with pytest.raises(OperationalError) as caught:
            write_while_the_server_cuts()
        write(store, {ANNA: report(1)})
        stored = people(engine)
        engine.dispose()
        other.dispose()

        assert is_temporary(caught.value)
        assert stored == {ANNA: report(1)}

    def test_a_server_that_is_not_there_is_temporary(self) -> None:
        engine = writer_engine("postgresql+psycopg://reader@127.0.0.1:1/none")
        with pytest.raises(OperationalError) as caught, Store(engine).transaction():
            pass
        engine.dispose()

        assert is_temporary(caught.value)


def test_two_stores_that_write_at_once_neither_deadlock_nor_lose_the_newest(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    engines = [writer_engine(url), writer_engine(url)]
    upgrade(engines[0])
    names = [(f"camera_{number % 5}", str(number)) for number in range(60)]
    errors: list[BaseException] = []

    def run(engine: Engine, seed: int) -> None:
        chance = random.Random(seed)
        store = Store(engine)
        try:
            for turn in range(60):
                stamp = 2 * turn + seed
                some = chance.sample(names, 40) if turn < 59 else names
                chance.shuffle(some)
                write(store, {key: report(stamp, stamp) for key in some}, {key[0]: at(stamp) for key in some})
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(engine, seed)) for seed, engine in enumerate(engines)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored, stamps = people(engines[0]), devices(engines[0])
    for engine in engines:
        engine.dispose()

    assert errors == []
    assert stored == dict.fromkeys(names, report(119, 119))
    assert {stamp for _, stamp in stamps.values()} == {at(119)}


def test_a_writers_transaction_takes_the_lock_at_its_start(sqlite_url: str) -> None:
    engine = writer_engine(sqlite_url)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    upgrade(engine)
    path = sqlite_path(sqlite_url)
    assert path is not None
    with (
        Store(engine).transaction(),
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")
    engine.dispose()

    assert "BEGIN IMMEDIATE" in statements


@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2)])
def test_a_commit_is_durable_when_it_returns(sqlite_url: str, pragma: str, value: object) -> None:
    engine = writer_engine(sqlite_url)
    with engine.connect() as connection:
        found = connection.execute(text(f"PRAGMA {pragma}")).scalar_one()
    engine.dispose()

    assert found == value


# --- what decode accepts, the database takes ------------------------------------------------------------------------

_text = st.text(st.characters(codec="utf-8"), max_size=130) | st.text("\x00\n\x7f\x85a", max_size=3)
_numbers = st.floats(min_value=0) | st.integers(0, 2**70) | st.just(-1)
_person = st.fixed_dictionaries(
    {
        "person_id": _text | st.integers(-(2**200), 2**200),
        "cumulative": st.dictionaries(
            st.sampled_from(["happy", "sad", "angry", "neutral"]) | _text, _numbers, max_size=4
        ),
    }
)
_stamp = (
    st.datetimes(timezones=st.just(UTC)).map(lambda stamp: stamp.isoformat())
    | st.datetimes(datetime(2020, 1, 1), datetime(2025, 11, 14)).map(lambda stamp: stamp.isoformat())  # noqa: DTZ001
    | _text
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.program)], scope="module")
def one_engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One database for all examples: what is stored by one is overwritten by the next, or stays."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('any')}/emotion.db"
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        url = server.new_database()
    engine = writer_engine(url)
    upgrade(engine)
    yield engine
    engine.dispose()


@example(stamp="2025-11-14T12:00:00", listed=[{"person_id": "a\x00b", "cumulative": {}}], device_id="a")
@example(stamp="2025-11-14T12:00:00", listed=[{"person_id": "\ud800", "cumulative": {}}], device_id="a")
@example(stamp="0001-01-01T00:00:00+14:00", listed=[{"person_id": 2**63, "cumulative": {"sad": 2**63}}], device_id="a")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    stamp=_stamp,
    listed=st.lists(_person, max_size=3),
    device_id=st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True),
)
def test_what_decode_accepts_can_be_stored(
    one_engine: Engine, stamp: str, listed: list[dict[str, object]], device_id: str
) -> None:
    payload = json.dumps({"device_id": device_id, "timestamp": stamp, "people": listed}).encode()
    try:
        batch = decode(payload, device_id=device_id, received_at=NOON)
    except DecodeError as error:
        refused = Rejected(f"emotions/{device_id}/batch", str(error), payload, NOON)
        with Store(one_engine).transaction() as transaction:
            transaction.reject([refused])
        return
    with one_engine.begin() as connection:
        connection.execute(person_emotion.delete())
    with Store(one_engine).transaction() as transaction:
        transaction.write(fold([batch]))

    assert people(one_engine) == {
        (device_id, person_id): report_of(cumulative, batch.timestamp) for person_id, cumulative in batch.people.items()
    }


def report_of(cumulative: Cumulative, stamp: datetime) -> Report:
    """A report to compare with: `decode` makes a subclass, which is never equal to Cumulative itself."""
    return Report(Cumulative(cumulative.happy, cumulative.sad, cumulative.angry, cumulative.neutral), stamp)
