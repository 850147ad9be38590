"""A damaged SQLite file is found at the start, or soon after it if the file is large."""

from pathlib import Path

import pytest

from emotion_daemon.storage import sound_check
from emotion_daemon.storage.errors import DatabaseDamagedError
from emotion_daemon.storage.sound_check import SoundCheck
from emotion_daemon.storage.store import Store
from shared.database import writer_engine
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


def damage(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(2 * 4096)
        stream.write(bytes(4096))


def test_a_sound_file_is_not_complained_of(path: Path, sqlite_url: str) -> None:
    SoundCheck(sqlite_url).wait()


def test_a_file_that_does_not_exist_yet_is_not_made(tmp_path: Path) -> None:
    SoundCheck(f"sqlite:///{tmp_path}/new.db").wait()

    assert not list(tmp_path.iterdir())


def test_a_file_with_a_broken_page_is_refused_at_the_start(path: Path, sqlite_url: str) -> None:
    damage(path)

    with pytest.raises(DatabaseDamagedError, match=r"emotion\.db is damaged"):
        SoundCheck(sqlite_url).wait()


def test_a_file_without_its_end_is_refused_at_the_start(path: Path, sqlite_url: str) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 4096)

    with pytest.raises(DatabaseDamagedError, match=r"emotion\.db is damaged"):
        SoundCheck(sqlite_url).wait()


@pytest.mark.usefixtures("large")
def test_damage_that_is_found_after_the_start_ends_the_next_transaction(path: Path, sqlite_url: str) -> None:
    damage(path)
    check = SoundCheck(sqlite_url)
    mark = path.with_name("emotion.db-damaged")
    wait_until(mark.exists, what="the damage is found")
    with disposing(writer_engine(sqlite_url)) as engine:
        store = Store(engine, check=check)
        with pytest.raises(DatabaseDamagedError):
            wait_until(lambda: store.ping(), what="the store notices it")


@pytest.mark.usefixtures("large")
def test_the_start_after_it_waits_for_the_whole_check(path: Path, sqlite_url: str) -> None:
    damage(path)
    path.with_name("emotion.db-damaged").touch()

    with pytest.raises(DatabaseDamagedError):
        SoundCheck(sqlite_url).wait()


def test_a_restored_file_is_no_longer_marked(path: Path, sqlite_url: str) -> None:
    mark = path.with_name("emotion.db-damaged")
    mark.touch()

    SoundCheck(sqlite_url).wait()

    assert not mark.exists()
