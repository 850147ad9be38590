"""The API's engine reads an SQLite database whose files and folder it may not write."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from emotion_api.reading.change_detector import SqliteChangeDetector
from shared.database import reader_engine
from tests.databases import disposing, migrated

OTHER_USER = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:  # the parents of tmp_path let no other user pass
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def without_rights_to_write(folder: Path) -> Iterator[None]:
    """Act as another user if the tests run as root; otherwise take the write permission from all files."""
    if os.geteuid() == 0:
        os.seteuid(OTHER_USER)
    else:
        folder.chmod(0o555)
        for path in folder.iterdir():
            path.chmod(0o444)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o755)
        for path in folder.iterdir():
            path.chmod(0o644)


def add(writer: Engine, device_id: str) -> None:
    with writer.begin() as connection:
        connection.execute(text("INSERT INTO device (device_id) VALUES (:device_id)"), {"device_id": device_id})


def count(reader: Engine) -> int:
    with reader.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM device")) or 0)


def test_beside_a_daemon_it_sees_each_commit(folder: Path) -> None:
    url = f"sqlite:///{folder}/emotion.db"
    with migrated(url) as writer, disposing(reader_engine(url)) as reader:
        detector = SqliteChangeDetector(reader, folder / "emotion.db")
        add(writer, "jetson_1")
        with without_rights_to_write(folder):
            first = (detector.version(), count(reader))
        add(writer, "jetson_2")
        with without_rights_to_write(folder):
            second = (detector.version(), count(reader))
            with pytest.raises(OperationalError), reader.connect() as connection:
                connection.execute(text("DELETE FROM device"))

    assert (first[1], second[1]) == (1, 2)
    assert first[0] != second[0]


def test_without_a_daemon_it_makes_no_files_and_notices_the_next_one(folder: Path) -> None:
    url = f"sqlite:///{folder}/emotion.db"
    with migrated(url) as writer:
        add(writer, "jetson_1")
    with disposing(reader_engine(url)) as reader:
        detector = SqliteChangeDetector(reader, folder / "emotion.db")
        with without_rights_to_write(folder):
            alone = (detector.version(), count(reader))
            files = [path.name for path in folder.iterdir()]
        with migrated(url) as writer:
            add(writer, "jetson_2")
            with without_rights_to_write(folder):
                with_daemon = (detector.version(), count(reader))

    assert (alone[1], with_daemon[1]) == (1, 2)
    assert files == ["emotion.db"]
    assert alone[0].connection != with_daemon[0].connection
