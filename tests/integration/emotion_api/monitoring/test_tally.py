"""Counts in memory that processes share: sums, those who have ended, and what is half there."""

import errno
import os
from pathlib import Path

import pytest

from emotion_api.monitoring.tally import ROOM, Tally

BUCKETS = (0.1, 1.0)


def add(tally: Tally, label: str, *numbers: float) -> None:
    counts = tally.counts(label)
    for index, number in enumerate(numbers):
        counts[index] += number


def test_what_is_added_is_told() -> None:
    tally = Tally(BUCKETS, None)

    add(tally, "summary 200", 1, 2, 3, 0.5)
    add(tally, "summary 200", 1, 0, 0, 0.25)
    add(tally, "none 404", 0, 0, 1, 9)

    assert tally.all() == {"summary 200": [2, 2, 3, 0.75], "none 404": [0, 0, 1, 9]}


def test_two_without_a_file_know_nothing_of_each_other() -> None:
    add(Tally(BUCKETS, None), "summary 200", 1)

    assert Tally(BUCKETS, None).all() == {}


def test_those_in_a_folder_add_up(tmp_path: Path) -> None:
    first, second = (Tally(BUCKETS, tmp_path / f"{number}.tally") for number in (0, 1))

    add(first, "summary 200", 1, 0, 0, 0.5)
    add(second, "none 404", 1)
    add(second, "summary 200", 1, 2, 0, 0.25)

    assert first.all() == second.all() == {"summary 200": [2, 2, 0, 0.75], "none 404": [1, 0, 0, 0]}


def test_the_next_in_a_file_goes_on(tmp_path: Path) -> None:
    add(Tally(BUCKETS, tmp_path / "0.tally"), "summary 200", 1, 0, 0, 0.5)

    after = Tally(BUCKETS, tmp_path / "0.tally")
    add(after, "summary 304", 1)
    add(after, "summary 200", 1)

    assert after.all() == {"summary 200": [2, 0, 0, 0.5], "summary 304": [1, 0, 0, 0]}


def test_a_label_that_another_begins_with_is_its_own() -> None:
    tally = Tally(BUCKETS, None)

    add(tally, "health 2001", 1)
    add(tally, "health 200", 2)

    assert tally.all() == {"health 2001": [1, 0, 0, 0], "health 200": [2, 0, 0, 0]}


def test_there_is_room_for_hundreds_of_labels(tmp_path: Path) -> None:
    tally = Tally(BUCKETS, tmp_path / "0.tally")
    labels = [f"dashboard.with_slash_{number:03} 200" for number in range(900)]

    for label in labels:
        add(tally, label, 1)

    assert list(tally.all()) == labels


def test_all_of_the_room_is_taken_at_once(tmp_path: Path) -> None:
    Tally(BUCKETS, tmp_path / "0.tally")

    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == ROOM
    assert file.stat().st_blocks * 512 >= ROOM


def test_where_there_is_no_room_the_others_are_told_of_and_no_file_is_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    other = Tally(BUCKETS, tmp_path / "1.tally")
    add(other, "summary 200", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        without = Tally(BUCKETS, tmp_path / "0.tally")
        add(without, "summary 200", 5)

    assert without.all() == {"summary 200": [1, 0, 0, 0]}
    assert other.all() == {"summary 200": [1, 0, 0, 0]}
    assert Tally(BUCKETS, tmp_path / "0.tally").all() == {"summary 200": [1, 0, 0, 0]}
