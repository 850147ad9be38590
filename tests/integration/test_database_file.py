"""One daemon a file, and no acknowledgement into a file that is gone."""

import os
from pathlib import Path

import pytest

from emotion_daemon.database_file import DatabaseInUseError, DatabaseReplacedError, FileWatch, only_one


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


def test_a_file_that_stays_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"")
    watch = FileWatch(path)
    path.write_bytes(b"written")

    watch.check()


def test_a_file_that_was_deleted_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "emotion.db"
    path.write_bytes(b"")
    watch = FileWatch(path)
    path.unlink()

    with pytest.raises(DatabaseReplacedError):
        watch.check()


def test_a_file_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "emotion.db", tmp_path / "other.db"
    path.write_bytes(b"same")
    other.write_bytes(b"same")
    watch = FileWatch(path)
    os.replace(other, path)

    with pytest.raises(DatabaseReplacedError):
        watch.check()
