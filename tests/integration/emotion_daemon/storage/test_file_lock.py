"""One daemon per SQLite file."""

from pathlib import Path

import pytest

from emotion_daemon.storage.errors import DatabaseInUseError, LockFileError
from emotion_daemon.storage.file_lock import only_one


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


def test_a_lock_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "emotion.db.lock").mkdir()

    with (
        pytest.raises(LockFileError, match=r"cannot open .*emotion\.db\.lock: Is a directory"),
        only_one(tmp_path / "emotion.db"),
    ):
        pass
