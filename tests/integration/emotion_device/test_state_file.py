"""Counters survive a restart of the program, if their file is whole and not too old."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from emotion_device import EmotionCounters
from emotion_device.counters import SAVE_SECONDS
from emotion_device.wire import EMOTIONS

DAY_SECONDS = 86_400.0


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "counters.json"


def counted(state_file: Path, **arguments: Any) -> EmotionCounters:
    """Counters in which person 1 was happy for a second."""
    counters = EmotionCounters(state_file=state_file, **arguments)
    counters.observe("1", "happy", at=0)
    counters.observe("1", "happy", at=1)
    return counters


def happy(counters: EmotionCounters) -> dict[str, float]:
    return {person_id: seconds["happy"] for person_id, seconds in counters.people().items()}


def test_the_seconds_go_on_after_a_restart(state_file: Path) -> None:
    with counted(state_file):
        pass

    again = EmotionCounters(state_file=state_file)

    assert happy(again) == {"1": 1.0}
    again.observe("1", "happy", at=0)
    again.observe("1", "happy", at=0.5)
    assert happy(again) == {"1": 1.5}


def test_a_program_that_was_killed_has_saved_within_ten_seconds(state_file: Path) -> None:
    now = 0.0
    counters = EmotionCounters(state_file=state_file, clock=lambda: now)
    for _ in range(31):
        counters.observe("1", "happy")
        counters.people()
        now += 1

    assert 30 - SAVE_SECONDS <= happy(EmotionCounters(state_file=state_file))["1"] <= 30


def test_while_no_person_is_in_view_the_file_is_not_written(state_file: Path) -> None:
    now = 0.0
    counters = counted(state_file, clock=lambda: now)
    counters.save()
    state_file.unlink()
    for _ in range(100):
        now += 1
        counters.people()

    assert not state_file.exists()


def test_who_had_left_long_ago_is_not_in_view_after_a_restart_and_goes_on(state_file: Path) -> None:
    now = 0.0
    with counted(state_file, clock=lambda: now):
        now = 61.0

    again = EmotionCounters(state_file=state_file)

    assert again.people() == {}
    again.observe("1", "neutral")
    assert happy(again) == {"1": 1.0}


def test_an_old_file_is_ignored(state_file: Path) -> None:
    counted(state_file).save()
    state = json.loads(state_file.read_text())
    state_file.write_text(json.dumps({**state, "saved_at": time.time() - 100}))

    assert EmotionCounters(state_file=state_file, max_state_age=99).people() == {}
    assert happy(EmotionCounters(state_file=state_file, forget_after=200)) == {"1": 1.0}


def test_after_a_long_holiday_the_seconds_of_people_with_names_go_on(state_file: Path) -> None:
    counted(state_file).save()
    state = json.loads(state_file.read_text())
    state_file.write_text(json.dumps({**state, "saved_at": time.time() - 30 * DAY_SECONDS}))

    counters = EmotionCounters(state_file=state_file)
    counters.observe("1", "happy")

    assert happy(counters) == {"1": 1.0}


def test_a_file_of_a_clock_that_was_not_set_has_no_age(state_file: Path) -> None:
    counted(state_file).save()
    state = json.loads(state_file.read_text())
    state_file.write_text(json.dumps({**state, "saved_at": 100.0}))

    assert happy(EmotionCounters(state_file=state_file, max_state_age=99)) == {"1": 1.0}


def test_a_file_from_a_clock_that_was_ahead_is_not_old(state_file: Path) -> None:
    counted(state_file).save()
    state = json.loads(state_file.read_text())
    state_file.write_text(json.dumps({**state, "saved_at": time.time() + 1e9}))

    assert happy(EmotionCounters(state_file=state_file)) == {"1": 1.0}


def entry(**changes: Any) -> str:
    person = {**dict.fromkeys(EMOTIONS, 1.0), "ago": 0.0, **changes}
    return json.dumps({"version": 1, "saved_at": time.time(), "people": {"1": person}})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 300,
        b"\xff\xfe",
        entry().encode()[:-9],
        b"[]",
        b'{"version": 1}',
        entry(happy=-1).encode(),
        entry(happy="1").encode(),
        entry(happy=float("nan")).encode(),
        entry(ago=None).encode(),
        entry(happy=10**400).encode(),
        entry().replace('"version": 1', '"version": 2').encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_ignored_and_replaced(
    state_file: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    state_file.write_bytes(content)

    counters = counted(state_file)

    assert happy(counters) == {"1": 1.0}
    assert "is damaged and is ignored" in caplog.text
    counters.save()
    assert happy(EmotionCounters(state_file=state_file)) == {"1": 1.0}


def test_a_disk_that_fails_is_logged_once_and_the_counting_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counters = counted(tmp_path / "missing" / "counters.json")

    counters.save()
    counters.save()

    assert happy(counters) == {"1": 1.0}
    assert caplog.text.count("cannot be written") == 1
