"""One daemon a file, and no acknowledgement into a file that is gone."""

import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import OperationalError

from emotion_daemon.rules.fold import fold
from emotion_daemon.storage import file_guard
from emotion_daemon.storage.file_guard import (
    MAX_WAL_BYTES,
    QUIET_SECONDS,
    DatabaseDamagedError,
    DatabaseFileError,
    DatabaseInUseError,
    DatabaseReplacedError,
    DatabaseWrittenError,
    FileGuard,
    FileWatch,
    LockFileError,
    only_one,
)
from emotion_daemon.storage.migrations import upgrade
from emotion_daemon.storage.store import Store
from shared.batch import Batch, decode, encode
from shared.database import WAL_LIMIT_BYTES, writer_engine
from shared.schema import rejected_message
from tests.background import repeatedly
from tests.databases import migrated, reading

NOW = datetime(2025, 11, 14, 12, tzinfo=UTC)


def test_a_second_one_on_the_same_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"

    with (
        only_one(path),
        pytest.raises(DatabaseInUseError, match=r"another daemon is running on .*emotion\.db"),
        only_one(path),
    ):
        pass


def test_the_next_one_may_have_the_file_when_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    with only_one(path):
        pass

    with only_one(path):
        held = True

    assert held


def test_two_files_may_each_have_one(tmp_path: Path) -> None:
    with only_one(tmp_path / "a.db"), only_one(tmp_path / "b.db"):
        held = True

    assert held


def test_a_file_that_was_deleted_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"")
    watch = FileWatch(path)
    path.unlink()

    with pytest.raises(DatabaseReplacedError):
        watch.was_cut()


def test_a_file_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "emotion.db", tmp_path / "other.db"
    path.write_bytes(b"same")
    other.write_bytes(b"same")
    watch = FileWatch(path)
    os.replace(other, path)

    with pytest.raises(DatabaseReplacedError):
        watch.was_cut()


def test_a_lock_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "emotion.db.lock").mkdir()

    with (
        pytest.raises(LockFileError, match=r"cannot open .*emotion\.db\.lock: Is a directory"),
        only_one(tmp_path / "emotion.db"),
    ):
        pass


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_deleted_file_beside_the_database_is_noticed(tmp_path: Path, suffix: str) -> None:
    path, beside = tmp_path / "emotion.db", tmp_path / f"emotion.db{suffix}"
    path.write_bytes(b"")
    beside.write_bytes(b"")
    watch = FileWatch(path)
    beside.unlink()

    with pytest.raises(DatabaseReplacedError, match=f"emotion.db{suffix} was deleted or replaced"):
        watch.was_cut()


def test_a_file_that_was_moved_behind_a_link_is_noticed(tmp_path: Path) -> None:
    path, moved = tmp_path / "emotion.db", tmp_path / "moved.db"
    path.write_bytes(b"")
    watch = FileWatch(path)
    path.rename(moved)
    path.symlink_to(moved)

    with pytest.raises(DatabaseReplacedError):
        watch.was_cut()


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    path, first, second = tmp_path / "emotion.db", tmp_path / "first.db", tmp_path / "second.db"
    first.write_bytes(b"")
    second.write_bytes(b"")
    path.symlink_to(first)
    watch = FileWatch(path)
    path.unlink()
    path.symlink_to(second)

    with pytest.raises(DatabaseReplacedError):
        watch.was_cut()


@pytest.mark.parametrize(("before", "after"), [(b"", b"written"), (b"1234", b"12345678")])
def test_a_file_that_grows_was_not_cut(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(before)
    watch = FileWatch(path)
    path.write_bytes(after)

    assert not watch.was_cut()


def test_a_file_that_was_cut_is_noticed_though_it_has_grown_before(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"1234")
    watch = FileWatch(path)
    path.write_bytes(b"12345678")
    watch.was_cut()
    os.truncate(path, 6)

    assert watch.was_cut()


def test_a_file_that_was_cut_and_is_long_again_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"x" * 100_000)
    watch = FileWatch(path)
    os.truncate(path, 6)
    os.truncate(path, 200_000)

    assert watch.was_cut()


def test_a_file_that_was_cut_and_taken_for_right_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"x" * 100_000)
    watch = FileWatch(path)
    os.truncate(path, 6)
    os.truncate(path, 200_000)
    watch.remember()

    assert not watch.was_cut()


def test_a_file_that_is_replaced_during_a_checkpoint_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint may take a second on a busy disk; what is acknowledged behind it would be in the old file."""
    path = tmp_path / "emotion.db"
    checkpoint = file_guard._checkpoint

    def replaced(connection: Connection, mode: str) -> bool:
        monkeypatch.undo()
        (tmp_path / "other").touch()
        (tmp_path / "other").replace(path)
        return checkpoint(connection, mode)

    with migrated(f"sqlite:///{path}") as engine:
        guard = FileGuard(engine)
        with pytest.raises(DatabaseReplacedError), guard.connect() as connection:  # noqa: PT012
            monkeypatch.setattr(file_guard, "_checkpoint", replaced)
            with connection.begin():
                large = {"received_at": NOW, "topic": "t", "reason": "r", "payload_size": 1}
                payload = bytes(WAL_LIMIT_BYTES + 1)
                connection.execute(insert(rejected_message), large | {"payload": payload})


def test_a_database_with_a_broken_page_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    engine = writer_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    with path.open("r+b") as stream:
        stream.seek(2 * 4096)
        stream.write(bytes(4096))

    with pytest.raises(DatabaseDamagedError, match=r"emotion\.db is damaged"):
        upgrade(engine)
    engine.dispose()


def test_what_somebody_else_wrote_into_the_file_is_noticed_once(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"1234")
    watch = FileWatch(path)
    os.utime(path, ns=(0, 1))

    assert watch.was_written()
    assert not watch.was_written()


def test_a_copy_that_comes_during_a_transaction_is_noticed_before_that_counts(tmp_path: Path, sqlite_url: str) -> None:
    """Until 2026-11-25 it was taken for a checkpoint of SQLite's own, and 26 groups were acknowledged into nothing."""
    path = tmp_path / "emotion.db"
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, range(10))
        copy = whole_copy(path)

        with pytest.raises(DatabaseWrittenError):
            store_people(store, [10], after=lambda: path.write_bytes(copy))
        store_people(store, range(10, 20))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM person_emotion").fetchone() == (20,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_copy_that_is_still_being_written_is_waited_for(tmp_path: Path, sqlite_url: str) -> None:
    """In the middle of it the file can be whole, made anew from the -wal file, until the rest of the copy comes."""
    path = tmp_path / "emotion.db"
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, range(10))
        rest = Timer(QUIET_SECONDS / 2, path.write_bytes, [whole_copy(path)])
        path.write_bytes(b"")
        rest.start()
        with pytest.raises(DatabaseDamagedError):  # for this connection, which has found fewer pages
            store_people(store, [10])
        rest.join()
    with migrated(sqlite_url) as engine:
        store_people(Store(engine), range(10, 20))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM person_emotion").fetchone() == (20,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_copy_that_comes_during_a_checkpoint_is_noticed_by_its_length(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "emotion.db"
    checkpoint = file_guard._checkpoint
    with migrated(sqlite_url) as engine:
        copy = whole_copy(path)

        def checkpoint_and_copy(connection: Connection, mode: str = "TRUNCATE") -> bool:
            done = checkpoint(connection, mode)
            if mode == "PASSIVE":
                path.write_bytes(copy)
            return done

        monkeypatch.setattr(file_guard, "_checkpoint", checkpoint_and_copy)
        store = Store(engine)
        with pytest.raises(DatabaseFileError):
            store_people(store, range(60), people=2_000)


def test_the_write_ahead_log_is_brought_into_the_database_now_and_then(tmp_path: Path, sqlite_url: str) -> None:
    """It stays near WAL_LIMIT_BYTES, and what the daemon's own checkpoints write is no news to it."""
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
    """With one of them always there SQLite would never begin it anew."""
    wal, lengths = tmp_path / "emotion.db-wal", list[int]()

    def read_for_a_while() -> None:
        with reading(sqlite_url) as connection:
            connection.execute(text("SELECT count(*) FROM person_emotion")).one()
            time.sleep(0.3)

    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store._connect = FileGuard(engine, monotonic=lambda: 100 * time.monotonic()).connect
        with repeatedly(read_for_a_while, pause=0):
            time.sleep(0.15)
            with repeatedly(read_for_a_while, pause=0):
                for number in range(300):
                    store_people(store, [number], people=2_000)
                    lengths.append(wal.stat().st_size)

    assert max(lengths) < 2 * MAX_WAL_BYTES


def test_a_write_that_nobody_could_look_at_yet_is_looked_at_later(tmp_path: Path, sqlite_url: str) -> None:
    """The look at it needs the lock; while somebody holds that, nothing may be forgotten."""
    path = tmp_path / "emotion.db"
    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, range(20), people=500)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.execute("BEGIN IMMEDIATE")
            with path.open("r+b") as stream:
                stream.seek(10 * 4096)
                stream.write(bytes(20 * 4096))
            with pytest.raises(OperationalError, match="locked"):
                store_people(store, [20])
            other.execute("ROLLBACK")

        with pytest.raises(DatabaseDamagedError):
            store_people(store, [20])


def test_a_write_during_a_transaction_that_fails_is_looked_at_before_the_next(tmp_path: Path, sqlite_url: str) -> None:
    path = tmp_path / "emotion.db"

    def spoil_and_fail() -> None:
        with path.open("r+b") as stream:
            stream.seek(10 * 4096)
            stream.write(bytes(20 * 4096))
        full = sqlite3.OperationalError("database or disk is full")
        full.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise OperationalError("INSERT", {}, full)

    with migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, range(20), people=500)
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store_people(store, [20])
        with pytest.raises(OperationalError, match="full"):
            store_people(store, [21], after=spoil_and_fail)

        with pytest.raises(DatabaseDamagedError):
            store_people(store, [21])


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


def test_a_daemon_without_its_lock_ends(sqlite_url: str, tmp_path: Path) -> None:
    """Or a second one could write beside it."""
    path = tmp_path / "emotion.db"
    with only_one(path), migrated(sqlite_url) as engine:
        store = Store(engine)
        store_people(store, [0])
        Path(f"{path}.lock").unlink()

        with pytest.raises(DatabaseReplacedError, match=r"emotion\.db\.lock was deleted"):
            store_people(store, [1])


def store_people(
    store: Store, numbers: Iterable[int], *, people: int = 1, after: Callable[[], object] = lambda: None
) -> None:
    """A batch and a transaction a number, with people whom no other has; `after` comes between BEGIN and COMMIT."""
    for number in numbers:
        with store.transaction() as transaction:
            transaction.write(fold([batch_of(number, people)]))
            after()


def batch_of(number: int, people: int = 1) -> Batch:
    payload = encode("jetson_1", NOW, {f"{number} {person}": {"happy": 1.0} for person in range(people)})
    return decode(payload, device_id="jetson_1", received_at=NOW)


def whole_copy(path: Path) -> bytes:
    """Of an SQLite database, one that is longer than that itself."""
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("CREATE TABLE padding AS SELECT randomblob(1000000)")
    return copy.read_bytes()


@pytest.mark.parametrize(("cut_to", "noticed"), [(4096, True), (5 * 2**20, False)])
def test_a_log_that_somebody_cut_during_a_large_transaction_has_a_hole(
    tmp_path: Path, cut_to: int, noticed: bool
) -> None:
    """What SQLite cuts itself has none."""
    path, wal = tmp_path / "emotion.db", tmp_path / "emotion.db-wal"
    path.write_bytes(b"")
    wal.write_bytes(b"x" * (6 * 2**20))
    watch = FileWatch(path)
    os.truncate(wal, cut_to)
    os.truncate(wal, 5 * 2**20)

    assert watch.was_cut(committed=True) is noticed


def test_the_daemons_own_large_transactions_are_nobody_elses_writing(tmp_path: Path) -> None:
    """SQLite cuts the -wal file with a commit that begins it anew, to what that one needs where it is more."""
    engine = writer_engine(f"sqlite:///{tmp_path / 'emotion.db'}")
    upgrade(engine)
    written: list[None] = []
    guard = FileGuard(engine, written=lambda: written.append(None))
    row = {
        "received_at": datetime.now(UTC),
        "topic": "t",
        "reason": "r",
        "payload": bytes(2**16),
        "payload_size": 2**16,
    }
    for rows in (160, 140, 120, 100):
        with guard.connect() as connection, connection.begin():
            connection.execute(insert(rejected_message), [row] * rows)
    engine.dispose()

    assert written == []
