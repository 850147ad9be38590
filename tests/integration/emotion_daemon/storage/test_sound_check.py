"""A damaged SQLite file is found at the start, or soon after it if the file is large."""

import sqlite3
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from benchmarks.people import fill
from emotion_daemon.storage import sound_check
from emotion_daemon.storage.errors import DatabaseDamagedError
from emotion_daemon.storage.sound_check import SoundCheck
from emotion_daemon.storage.store import Store
from shared.database import without_write_lock, writer_engine
from tests.databases import disposing, migrated
from tests.waiting import wait_until


@pytest.fixture
def path(tmp_path: Path, sqlite_url: str) -> Path:
    """A database with a schema."""
    with migrated(sqlite_url):
        pass
    return tmp_path / "emotion.db"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start does not wait, as if the check of the file took long."""
    monkeypatch.setattr(sound_check, "START_SECONDS", 0.0)


SCATTERED = """
WITH RECURSIVE number (value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM number WHERE value < 99)
UPDATE person_emotion SET person_id = person_id || 'long enough to divide pages'
WHERE id IN (SELECT value * 2000 + ? FROM number)
"""


def mark_of(path: Path) -> Path:
    return path.with_name("emotion.db-damaged")


def damage(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(2 * 4096)
        stream.write(bytes(4096))


def test_a_sound_file_may_be_used(path: Path, sqlite_url: str) -> None:
    check = SoundCheck(sqlite_url)

    assert wait_until(check.allows_start)


def test_a_file_that_does_not_exist_yet_is_not_made(tmp_path: Path) -> None:
    assert SoundCheck(f"sqlite:///{tmp_path}/new.db").allows_start()

    assert not list(tmp_path.iterdir())


def test_a_file_with_a_broken_page_is_refused_at_the_start(path: Path, sqlite_url: str) -> None:
    damage(path)
    check = SoundCheck(sqlite_url)

    with pytest.raises(DatabaseDamagedError, match=r"emotion\.db is damaged"):
        wait_until(lambda: check.allows_start() and not check.is_running)


def test_a_file_without_its_end_is_refused_at_the_start(path: Path, sqlite_url: str) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 4096)
    check = SoundCheck(sqlite_url)

    with pytest.raises(DatabaseDamagedError, match=r"emotion\.db is damaged"):
        wait_until(lambda: check.allows_start() and not check.is_running)


@pytest.mark.usefixtures("large")
def test_damage_that_is_found_after_the_start_ends_the_next_transaction(path: Path, sqlite_url: str) -> None:
    damage(path)
    check = SoundCheck(sqlite_url)
    with suppress(DatabaseDamagedError):  # on a fast machine it is found at once
        assert check.allows_start()
    wait_until(mark_of(path).exists, what="the damage is found")
    wait_until(lambda: not check.is_running, what="the check has ended")

    with disposing(writer_engine(sqlite_url)) as engine, pytest.raises(DatabaseDamagedError):
        Store(engine, check=check).ping()


@pytest.mark.usefixtures("large")
def test_the_start_after_it_waits_for_the_whole_check(path: Path, sqlite_url: str) -> None:
    damage(path)
    mark_of(path).touch()
    check = SoundCheck(sqlite_url)

    with pytest.raises(DatabaseDamagedError):
        assert not wait_until(check.allows_start)


def test_a_restored_file_is_no_longer_marked(path: Path, sqlite_url: str) -> None:
    mark_of(path).touch()
    check = SoundCheck(sqlite_url)

    assert wait_until(check.allows_start)
    assert not mark_of(path).exists()


@pytest.mark.usefixtures("large")
def test_a_file_that_is_written_during_the_check_is_sound(path: Path, sqlite_url: str) -> None:
    fill(path, 200_000)
    turns = count()
    for _ in range(3):
        assert not path.with_name("emotion.db-wal").exists(), "the daemon before has ended in order"
        check = SoundCheck(sqlite_url)
        check.allows_start()
        with disposing(writer_engine(sqlite_url)) as engine:
            while check.is_running:
                with engine.begin() as connection:
                    connection.exec_driver_sql(SCATTERED, (next(turns),))
                with without_write_lock(engine.connect()) as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

        check.raise_damage()
        assert not mark_of(path).exists()


def test_a_file_that_cannot_be_read_is_checked_again(path: Path, sqlite_url: str) -> None:
    mark_of(path).touch()
    check = SoundCheck(sqlite_url)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OperationalError, match="locked"):
            wait_until(check.allows_start)
        assert mark_of(path).exists()

    assert wait_until(check.allows_start)
    assert not mark_of(path).exists()
