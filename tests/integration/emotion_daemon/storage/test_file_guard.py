"""No acknowledgement into a file that is gone, and a -wal file that stays short."""

import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from emotion_daemon.storage.errors import DatabaseReplacedError
from emotion_daemon.storage.file_guard import MAX_WAL_BYTES, FileGuard
from emotion_daemon.storage.store import Store
from shared.batch import Batch, decode, encode
from shared.database import WAL_LIMIT_BYTES, reader_engine
from tests.background import repeatedly
from tests.databases import disposing, migrated, reading

NOW = datetime(2025, 11, 14, 12, tzinfo=UTC)


def delete(path: Path) -> None:
    path.unlink()


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def move_behind_a_link(path: Path) -> None:
    moved = path.with_name("moved.db")
    path.rename(moved)
    path.symlink_to(moved)


def delete_the_wal(path: Path) -> None:
    Path(f"{path}-wal").unlink()


@pytest.mark.parametrize("change", [delete, replace_by_a_copy, delete_the_wal])
def test_a_file_that_is_deleted_or_replaced_during_a_transaction_is_noticed_before_the_acknowledgement(
    tmp_path: Path, sqlite_url: str, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "emotion.db"
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, [0])
        with pytest.raises(DatabaseReplacedError, match=r"emotion\.db was deleted or replaced"):
            store_people(store, [1], after=lambda: change(path))


def test_an_idle_daemon_notices_it_too(tmp_path: Path, sqlite_url: str) -> None:
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, [0])
        store.ping()
        replace_by_a_copy(tmp_path / "emotion.db")
        with pytest.raises(DatabaseReplacedError):
            store.ping()


def test_of_a_file_that_is_moved_away_from_an_idle_daemon_nothing_is_lost(tmp_path: Path, sqlite_url: str) -> None:
    with migrated(sqlite_url) as engine, disposing(reader_engine(sqlite_url)) as api, api.connect() as reader:
        reader.execute(text("SELECT 1 FROM person_emotion")).all()
        reader.rollback()
        store = Store(engine)
        store_people(store, [0, 1])
        moved = (tmp_path / "emotion.db").rename(tmp_path / "moved.db")
        with pytest.raises(DatabaseReplacedError):
            store.ping()

    with closing(sqlite3.connect(moved)) as connection:
        assert connection.execute("SELECT count(*) FROM person_emotion").fetchone() == (2,)


def test_a_file_that_is_moved_behind_a_link_goes_on(tmp_path: Path, sqlite_url: str) -> None:
    """Device and inode are those that SQLite has open, and nothing is lost."""
    path = tmp_path / "emotion.db"
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, [0])
        Path(f"{path}-wal").rename(tmp_path / "moved.db-wal")
        move_behind_a_link(path)
        store_people(store, [1])


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    path, first, second = tmp_path / "emotion.db", tmp_path / "first.db", tmp_path / "second.db"
    path.symlink_to(first)
    second.write_bytes(b"")
    with migrated(f"sqlite:///{path}") as engine:
        store = Store(engine)
        store_people(store, [0])
        path.unlink()
        path.symlink_to(second)
        with pytest.raises(DatabaseReplacedError):
            store_people(store, [1])


def test_a_file_that_was_moved_away_has_every_commit_in_it(tmp_path: Path, sqlite_url: str) -> None:
    path, moved = tmp_path / "emotion.db", tmp_path / "elsewhere.db"
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, range(10))
        with pytest.raises(DatabaseReplacedError):
            store_people(store, [10], after=lambda: os.rename(path, moved))
    with reading(f"sqlite:///{moved}") as connection:
        assert connection.scalar(text("SELECT count(*) FROM person_emotion")) == 11


def test_the_write_ahead_log_is_brought_into_the_database_now_and_then(tmp_path: Path, sqlite_url: str) -> None:
    """It stays near WAL_LIMIT_BYTES."""
    path, lengths = tmp_path / "emotion.db", list[int]()
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        for number in range(60):
            store_people(store, [number], people=2_000)
            lengths.append(Path(f"{path}-wal").stat().st_size)
        in_the_file = path.stat().st_size

    assert max(lengths) < 2 * WAL_LIMIT_BYTES
    assert in_the_file > path.stat().st_size / 2


def test_a_write_ahead_log_that_a_reader_held_is_brought_in_when_the_reader_has_gone(
    tmp_path: Path, sqlite_url: str
) -> None:
    wal = tmp_path / "emotion.db-wal"
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, [0])
        with reading(sqlite_url) as connection:
            connection.execute(text("SELECT count(*) FROM person_emotion")).one()
            for number in range(1, 60):
                store_people(store, [number], people=2_000)
            held = wal.stat().st_size
        for number in range(60, 120):
            store_people(store, [number], people=2_000)

        assert held > WAL_LIMIT_BYTES
        assert wal.stat().st_size < 2 * WAL_LIMIT_BYTES


def test_readers_that_take_turns_do_not_let_the_write_ahead_log_grow_for_ever(sqlite_url: str, tmp_path: Path) -> None:
    """If one of them is always there, SQLite never starts the file anew."""
    wal, lengths = tmp_path / "emotion.db-wal", list[int]()

    def read_for_a_while() -> None:
        with reading(sqlite_url) as connection:
            connection.execute(text("SELECT count(*) FROM person_emotion")).one()
            time.sleep(0.3)

    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store._guard = FileGuard(engine, monotonic=lambda: 100 * time.monotonic())
        with repeatedly(read_for_a_while, pause=0):
            time.sleep(0.15)
            with repeatedly(read_for_a_while, pause=0):
                for number in range(300):
                    store_people(store, [number], people=2_000)
                    lengths.append(wal.stat().st_size)

    assert max(lengths) < 2 * MAX_WAL_BYTES


def test_a_full_disk_has_room_for_what_the_write_ahead_log_already_has(sqlite_url: str, tmp_path: Path) -> None:
    """It cannot grow, but it can be brought into the database and begin anew."""
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, range(5), people=500)
        store_people(store, range(5), people=500)
        length = (tmp_path / "emotion.db-wal").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
        try:
            refused = 0
            for _ in range(100):
                try:
                    store_people(store, [0], people=500)
                except OperationalError:
                    refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert 0 < refused < 50


def test_a_file_that_may_be_written_again_is_written_again(sqlite_url: str) -> None:
    """SQLite opens a file for reading where it may not write it, and the connection stays like that."""
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        with engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA query_only=ON")
        with pytest.raises(OperationalError, match="readonly"):
            store_people(store, [0])

        store_people(store, [0])


def store_people(
    store: Store, numbers: Iterable[int], *, people: int = 1, after: Callable[[], object] = lambda: None
) -> None:
    """A batch and a transaction a number, with people of its own; `after` comes between BEGIN and COMMIT."""
    for number in numbers:
        batches = [batch_of(number, people)]
        with store.transaction() as transaction:
            transaction.write(store.fold(batches, transaction.read_state(batches)))
            after()


def batch_of(number: int, people: int = 1) -> Batch:
    payload = encode("jetson_1", NOW, {f"{number} {person}": {"happy": 1.0} for person in range(people)})
    return decode(payload, device_id="jetson_1", received_at=NOW)
