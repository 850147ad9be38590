"""One daemon a file, and no acknowledgement into a file that is gone."""

import os
from pathlib import Path

import pytest

from emotion_daemon.database_file import (
    DatabaseDamagedError,
    DatabaseInUseError,
    DatabaseReplacedError,
    FileWatch,
    LockFileError,
    only_one,
)
from emotion_daemon.migrations import upgrade
from shared.database import writer_engine


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


def test_what_we_wrote_ourselves_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"1234")
    watch = FileWatch(path)
    os.utime(path, ns=(0, 1))
    watch.was_cut()

    assert not watch.was_written()
