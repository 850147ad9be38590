"""The API reads the SQLite file that now has the database's name, also after the file was replaced."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from emotion_api.reading.change_detector import SqliteChangeDetector
from emotion_api.reading.reader import SummaryReader
from emotion_api.reading.source import DatabaseUnavailable, Source
from emotion_api.summary import SummaryRequest
from shared.database import reader_engine, writer_engine
from tests.databases import disposing, migrated
from tests.fakes import Clock

REQUEST = SummaryRequest("jetson_1")


def make(file: Path, name: str) -> Path:
    """A database in which jetson_1 has this name, and the revision that it has in every other."""
    with migrated(f"sqlite:///{file}"):
        pass
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO device (device_id, device_name) VALUES ('jetson_1', ?)", (name,))
        connection.execute("INSERT INTO device_state (device_id, revision) VALUES ('jetson_1', 7)")
    connection.close()
    return file


def rename(file: Path, name: str) -> None:
    """Write as an sqlite3 shell does: it raises no revision."""
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE device SET device_name = ?", (name,))
    connection.close()


def remove(file: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        Path(f"{file}{suffix}").unlink(missing_ok=True)


@pytest.fixture(params=["closed", "open"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A database that no program has open, so that it has no -wal; or one that a daemon has open."""
    file = make(tmp_path / "emotion.db", "Hall")
    with ExitStack() as stack:
        if request.param == "open":
            engine = stack.enter_context(disposing(writer_engine(f"sqlite:///{file}")))
            with engine.connect() as connection:
                connection.execute(text("SELECT 1 FROM device"))
        yield file


@pytest.fixture
def clock() -> Clock:
    """It stands still: a response becomes outdated only by a change, unless a test moves the clock."""
    return Clock()


@pytest.fixture
def reader(file: Path, clock: Clock) -> Iterator[SummaryReader]:
    """Its engine has several connections open, as after requests at the same time."""
    with disposing(reader_engine(f"sqlite:///{file}")) as engine:
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(engine.connect()).execute(text("SELECT * FROM device"))
        yield SummaryReader(Source(engine, file=file, monotonic=clock), device_names={})


def name(reader: SummaryReader) -> str:
    return reader.read(REQUEST).body.decode().partition('"device_name":"')[2].partition('"')[0]


def test_a_file_in_its_place_is_read_at_once_although_the_revision_is_the_same(
    file: Path, reader: SummaryReader, tmp_path: Path
) -> None:
    other = make(tmp_path / "other.db", "Yard")
    names = [name(reader)]
    remove(file, "-wal", "-shm")
    os.replace(other, file)
    names.append(name(reader))

    assert names == ["Hall", "Yard"]


def test_commits_to_a_file_in_its_place_are_noticed(
    file: Path, reader: SummaryReader, clock: Clock, tmp_path: Path
) -> None:
    other = make(tmp_path / "other.db", "Yard")
    name(reader)
    remove(file, "-wal", "-shm")
    os.replace(other, file)
    name(reader)
    rename(file, "Roof")
    clock.seconds += 2

    assert name(reader) == "Roof"


def test_a_copy_that_is_restored_is_read_at_once(file: Path, reader: SummaryReader, tmp_path: Path) -> None:
    copy = shutil.copy(file, tmp_path / "copy.db")
    rename(file, "Yard")
    names = [name(reader)]
    remove(file, "", "-wal", "-shm")
    shutil.copy(copy, file)
    names.append(name(reader))

    assert names == ["Yard", "Hall"]


def test_a_deleted_file_is_unavailable_until_there_is_another(file: Path, reader: SummaryReader) -> None:
    name(reader)
    remove(file, "", "-wal", "-shm")
    with pytest.raises(DatabaseUnavailable):
        name(reader)
    make(file, "Yard")

    assert name(reader) == "Yard"


def test_the_target_of_a_link_may_be_replaced(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(file)
    with disposing(reader_engine(f"sqlite:///{link}")) as engine:
        reader = SummaryReader(Source(engine, file=link, monotonic=Clock()), device_names={})
        names = [name(reader)]
        link.unlink()
        link.symlink_to(make(tmp_path / "other.db", "Yard"))
        names.append(name(reader))

    assert names == ["Hall", "Yard"]


def test_a_file_that_is_moved_behind_a_link_is_read_with_its_new_log(
    file: Path, reader: SummaryReader, tmp_path: Path, clock: Clock
) -> None:
    names = [name(reader)]
    moved = file.rename(tmp_path / "moved.db")
    file.symlink_to(moved)
    rename(file, "Yard")
    clock.seconds += 2
    names.append(name(reader))

    assert names == ["Hall", "Yard"]


def test_a_log_in_place_of_the_one_that_was_deleted_is_read(file: Path, reader: SummaryReader, clock: Clock) -> None:
    """Otherwise a connection to the deleted -wal and -shm misses every commit in the new ones."""
    names = [name(reader)]
    remove(file, "-wal", "-shm")
    rename(file, "Yard")
    clock.seconds += 2
    names.append(name(reader))

    assert names == ["Hall", "Yard"]


def test_a_version_is_the_same_until_a_commit(file: Path) -> None:
    with disposing(reader_engine(f"sqlite:///{file}")) as engine:
        detector = SqliteChangeDetector(engine, file)
        first, second = detector.version(), detector.version()
        rename(file, "Yard")
        third = detector.version()

    assert first == second
    assert third != first
