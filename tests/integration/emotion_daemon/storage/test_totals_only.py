"""EMOTION_TOTALS_ONLY: no person is stored, and what they have shown is counted all the same, and once."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select

from emotion_admin.__main__ import main
from emotion_api.reading.reader import MANY_PEOPLE
from emotion_daemon.rules.outcome import Rejected
from emotion_daemon.rules.tombstones import digest
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.totals_migration import leave_only_totals
from shared.batch import EMOTIONS, Batch, Cumulative
from shared.database import sqlite_path, writer_engine
from shared.schema import (
    device,
    device_state,
    device_total,
    emotion_minute,
    forgotten_person,
    person_emotion,
    rejected_message,
)
from shared.settings import Settings
from tests.databases import disposing, migrated
from tests.postgresql import PostgreSQL
from tests.web import SUMMARY, served

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def batch(seconds: float, *, device_id: str = "jetson_1", **happy: float) -> Batch:
    people = {person: Cumulative(value) for person, value in happy.items()}
    return Batch(device_id, at(seconds), people, at(seconds))


def commit(store: Store, *batches: Batch) -> list[int]:
    with store.transaction() as transaction:
        folded = store.fold(batches, transaction.read_state(batches))
        transaction.write(folded)
    return folded.updated_counts


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with migrated(database_url) as engine:
        yield engine


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine, totals_only=True)


def totals(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return {device_id: tuple(seconds) for device_id, *seconds in connection.execute(select(device_total))}


def shown(engine: Engine) -> float:
    with engine.connect() as connection:
        return float(connection.scalar(select(func.sum(emotion_minute.c.time_happy))) or 0)


def in_view(engine: Engine) -> int | None:
    with engine.connect() as connection:
        return connection.scalar(select(device_state.c.people))


def count(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


class TestCounting:
    def test_the_totals_are_what_the_history_has_and_nobody_is_stored(self, store: Store, engine: Engine) -> None:
        for second in range(100):
            commit(
                store,
                batch(second, anna=second, bert=1_000 + second / 2),
                batch(second, device_id="other", carl=second),
            )

        assert totals(engine) == {
            "jetson_1": (pytest.approx(99 * 1.5, abs=2), 0, 0, 0),
            "other": (pytest.approx(99), 0, 0, 0),
        }
        assert sum(row[0] for row in totals(engine).values()) == pytest.approx(shown(engine))
        assert count(engine, person_emotion) == 0

    def test_a_day_of_silence_counts_once(self, store: Store, engine: Engine) -> None:
        commit(store, batch(0, anna=0))
        commit(store, batch(7_200, anna=5_000))

        assert totals(engine) == {"jetson_1": (pytest.approx(5_000), 0, 0, 0)}

    def test_a_batch_that_comes_twice_or_late_counts_once(self, store: Store, engine: Engine) -> None:
        assert commit(store, batch(0, anna=0), batch(2, anna=2)) == [1, 1]
        assert commit(store, batch(2, anna=2), batch(1, anna=1), batch(3, anna=3)) == [0, 0, 1]

        assert totals(engine) == {"jetson_1": (pytest.approx(3), 0, 0, 0)}
        assert shown(engine) == pytest.approx(3)

    def test_who_was_erased_is_left_out_of_the_totals_too(self, store: Store, engine: Engine) -> None:
        salt = bytes(16)
        row = {
            "device_id": "jetson_1",
            "salt": salt,
            "digest": digest("anna", salt),
            "forgotten_at": NOON,
            "until": at(5),
        }
        with engine.begin() as connection:
            connection.execute(insert(forgotten_person), row)
        for second in range(5):
            commit(store, batch(second, anna=second, bert=second))

        assert totals(engine) == {"jetson_1": (pytest.approx(4), 0, 0, 0)}

    def test_how_many_are_in_view_is_kept(self, store: Store, engine: Engine) -> None:
        commit(store, batch(0, anna=1, bert=1))
        commit(store, batch(-1, anna=1))

        assert in_view(engine) == 2
        with engine.connect() as connection:
            assert connection.scalar(select(device.c.updated_at)) == at(0)

    def test_after_a_start_the_first_batch_of_a_device_is_where_its_people_begin(
        self, store: Store, engine: Engine
    ) -> None:
        """A device may name people who left hours ago: no stored row tells that their counters have not grown."""
        commit(store, batch(0, anna=500, bert=700), batch(1, anna=501, bert=700))
        again = Store(engine, totals_only=True)
        commit(again, batch(600, anna=502, bert=700))
        assert totals(engine) == {"jetson_1": (pytest.approx(1), 0, 0, 0)}
        assert in_view(engine) == 0

        commit(again, batch(601, anna=503, bert=700, carl=900))
        assert totals(engine) == {"jetson_1": (pytest.approx(3), 0, 0, 0)}
        assert in_view(engine) == 2

    def test_a_transaction_that_failed_makes_nobody_new(self, store: Store, engine: Engine) -> None:
        commit(store, batch(0, anna=500))
        commit(store, batch(1, anna=500))
        with pytest.raises(ZeroDivisionError):
            self._fail(store, batch(2, anna=500))
        commit(store, batch(2, anna=500))

        assert shown(engine) == 0

    @staticmethod
    def _fail(store: Store, batch: Batch) -> None:
        with store.transaction() as transaction:
            transaction.write(store.fold([batch], transaction.read_state([batch])))
            _ = 1 / 0

    def test_one_that_was_committed_all_the_same_counts_once(self, store: Store, engine: Engine) -> None:
        commit(store, batch(0, anna=0))
        commit(store, batch(1, anna=1))
        commit(Store(engine, totals_only=True), batch(2, anna=2))  # as if ours had failed at its very end
        store._state.failed()
        before = shown(engine)
        commit(store, batch(2, anna=2))
        commit(store, batch(3, anna=3))

        assert shown(engine) - before == pytest.approx(1)

    def test_two_daemons_on_one_postgresql_count_a_batch_once(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        with migrated(url) as engine, disposing(writer_engine(url)) as other:
            stores = [Store(each, totals_only=True) for each in (engine, other)]
            for second in range(6):
                threads = [
                    threading.Thread(target=commit, args=(each, batch(second, anna=second, bert=second / 2)))
                    for each in stores
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

            assert totals(engine) == {"jetson_1": (pytest.approx(7.5), 0, 0, 0)}


class TestRejected:
    def test_what_was_rejected_is_recorded_without_its_payload(self, store: Store, engine: Engine) -> None:
        message = Rejected("topic", "reason", b'{"people": "anna"', NOON)
        with store.transaction() as transaction:
            transaction.reject([message])
        with store.transaction() as transaction:
            transaction.reject([message._replace(sent_again=True)])

        with engine.connect() as connection:
            (row,) = connection.execute(select(rejected_message)).all()
        assert (row.payload, row.payload_size) == (b"", 17)

    def test_it_is_listed_as_not_kept_and_passed_over_by_a_replay(
        self,
        store: Store,
        database_url: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with store.transaction() as transaction:
            transaction.reject([Rejected("emotions/jetson_1/batch", "reason", b"{}", NOON)])
        monkeypatch.setenv("EMOTION_DATABASE_URL", database_url)

        assert main(["dead-letters", "list"]) == 0
        assert capsys.readouterr().out.splitlines()[2] == "    payload not stored"
        assert main(["dead-letters", "replay"]) == 0
        assert "still rejected: its payload was not stored" in capsys.readouterr().out

    def test_a_replay_stores_nobody(self, engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        payload = (
            b'{"device_id":"jetson_1","timestamp":"2025-11-14T12:00:00Z","people":[{"person_id":"1","cumulative":{}}]}'
        )
        with Store(engine).transaction() as transaction:
            transaction.reject([Rejected("emotions/jetson_1/batch", "reason", payload, NOON)])
        monkeypatch.setenv("EMOTION_DATABASE_URL", database_url)
        monkeypatch.setenv("EMOTION_TOTALS_ONLY", "true")

        assert main(["dead-letters", "replay"]) == 0
        assert (count(engine, rejected_message), count(engine, device), count(engine, person_emotion)) == (0, 1, 0)


class TestTheStart:
    def test_people_become_totals(self, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
        before = Store(engine)
        commit(before, batch(0, anna=10.0, bert=20.5), batch(0, device_id="other", carl=3.0))
        with before.transaction() as transaction:
            transaction.reject([Rejected("topic", "reason", b"anna", NOON)])

        leave_only_totals(engine)
        leave_only_totals(engine)

        assert totals(engine) == {"jetson_1": (30.5, 0, 0, 0), "other": (3, 0, 0, 0)}
        assert count(engine, person_emotion) == 0
        with engine.connect() as connection:
            (row,) = connection.execute(select(rejected_message)).all()
        assert (row.payload, row.payload_size) == (b"", 4)
        (line,) = caplog.messages
        assert "the daemon has added the seconds of 3 people to the totals of their devices" in line
        assert caplog.records[0].levelno == logging.WARNING

    def test_they_are_added_to_totals_that_are_there(self, store: Store, engine: Engine) -> None:
        commit(store, batch(0, anna=0), batch(2, anna=2))
        commit(Store(engine), batch(3, anna=7))

        leave_only_totals(engine)

        assert totals(engine) == {"jetson_1": (pytest.approx(2 + 7), 0, 0, 0)}

    def test_sums_beyond_what_a_float_holds_are_no_trouble(self, engine: Engine) -> None:
        commit(Store(engine), batch(0, anna=1.7e308, bert=1.7e308))

        leave_only_totals(engine)
        commit(Store(engine, totals_only=True), batch(1, anna=1))

        assert totals(engine)["jetson_1"][0] == 1e300

    def test_on_sqlite_nothing_of_them_is_left_in_the_files(self, sqlite_url: str) -> None:
        file = sqlite_path(sqlite_url)
        assert file is not None
        with migrated(sqlite_url) as engine:
            with engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA secure_delete=ON")
            store = Store(engine)
            commit(store, batch(0, somebody_whom_we_know=10))
            with store.transaction() as transaction:
                transaction.reject([Rejected("topic", "reason", b"somebody_whom_we_know" * 1_000, NOON)])
            assert b"somebody_whom_we_know" in file.with_name(f"{file.name}-wal").read_bytes()

            leave_only_totals(engine)

            assert b"somebody_whom_we_know" not in file.with_name(f"{file.name}-wal").read_bytes()
            assert b"somebody_whom_we_know" not in file.read_bytes()

    def test_on_postgresql_nothing_of_them_is_left_in_the_statistics(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        query = "SELECT histogram_bounds::text FROM pg_stats WHERE tablename = 'person_emotion'"
        with migrated(url) as engine:
            commit(
                Store(engine),
                batch(0, device_id="jetson_1", **dict.fromkeys(["somebody_whom_we_know", *map(str, range(50))], 1.0)),
            )
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("ANALYZE")
                before = str(connection.exec_driver_sql(query).all())
            leave_only_totals(engine)
            with engine.connect() as connection:
                after = str(connection.exec_driver_sql(query).all())
                size = connection.exec_driver_sql("SELECT pg_relation_size('person_emotion')").scalar_one()

        assert "somebody_whom_we_know" in before
        assert "somebody_whom_we_know" not in after
        assert size == 0

    def test_the_first_start_raises_the_revision_and_the_next_changes_nothing(self, engine: Engine) -> None:
        commit(Store(engine), batch(0, anna=10))
        for _ in range(2):
            leave_only_totals(engine)
            with engine.connect() as connection:
                assert connection.execute(select(device_state.c.revision)).scalar_one() == 2

    def test_of_two_daemons_that_start_at_once_one_moves_them(self, postgresql: PostgreSQL) -> None:
        url = postgresql.new_database()
        with migrated(url) as engine, disposing(writer_engine(url)) as other:
            commit(
                Store(engine), *(batch(0, device_id=f"d{n}", **{str(k): 1.0 for k in range(200)}) for n in range(10))
            )
            threads = [threading.Thread(target=leave_only_totals, args=(each,)) for each in (engine, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert set(totals(engine).values()) == {(200, 0, 0, 0)}


def summary(url: str, **query: Any) -> dict[str, Any]:
    with served(Settings(database_url=url)) as client:
        answer = client.get(SUMMARY, query_string=query)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return dict(answer.json)


class TestTheApi:
    def test_the_totals_are_there_and_nobody_is_listed(self, store: Store, database_url: str) -> None:
        commit(store, batch(0, anna=0), batch(2, anna=2))

        answer = summary(database_url)

        assert answer["emotion_totals"] == {"happy": 2, "sad": 0, "angry": 0, "neutral": 0}
        assert answer["current_people"] == []
        assert answer["updated_at"] == "2025-11-14T12:00:02Z"

    @pytest.mark.parametrize("people", [3, MANY_PEOPLE + 1])
    def test_they_are_added_to_those_of_people_who_are_stored(
        self, people: int, engine: Engine, database_url: str
    ) -> None:
        everybody = {str(number): Cumulative(1) for number in range(people)}
        commit(Store(engine), Batch("jetson_1", NOON, everybody, NOON))
        with engine.begin() as connection:
            seconds = {f"time_{name}": 0.5 * place for place, name in enumerate(EMOTIONS)}
            connection.execute(insert(device_total).values(device_id="jetson_1", **seconds))
        expected = {"happy": people, "sad": 0.5, "angry": 1, "neutral": 1.5}

        queries: list[dict[str, Any]] = [{}, {"fields": "totals"}, {"limit": 1}]
        for query in queries:
            assert summary(database_url, **query)["emotion_totals"] == expected

    def test_they_are_there_where_an_operator_has_deleted_the_device(
        self, store: Store, engine: Engine, database_url: str
    ) -> None:
        commit(store, batch(0, anna=0), batch(2, anna=2))
        with engine.begin() as connection:
            connection.execute(device.delete())

        answer = summary(database_url)

        assert (answer["emotion_totals"]["happy"], answer["updated_at"]) == (2, None)

    def test_an_answer_that_was_kept_ends_with_the_next_batch(self, store: Store, database_url: str) -> None:
        commit(store, batch(0, anna=0))
        with served(Settings(database_url=database_url)) as client:
            found = []
            for second in (1, 2, 3):
                commit(store, batch(second, anna=second))
                answer = client.get(SUMMARY).json
                assert answer is not None
                found.append(answer["emotion_totals"]["happy"])

        assert found == pytest.approx([1, 2, 3])
