"""The check takes what programs of cameras have, makes plain values of it, and refuses the rest with a sentence."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from emotion_device.checks import check
from emotion_device.errors import InvalidBatch

NOW = datetime(2025, 11, 14, 12, 34, 56, tzinfo=timezone.utc)


class Emotion(Enum):
    HAPPY = "happy"
    SAD = 1


class Tensor:
    """Has no dimensions, like a track's id as a tracker hands it over; `value` is a float."""

    shape = ()

    def __init__(self, value: float) -> None:
        self._value = value

    def item(self) -> float:
        return self._value


class Floatish:
    def __float__(self) -> float:
        return 1.0


def checked(batch: Any) -> Any:
    return check(batch, NOW)[0].people


@pytest.mark.parametrize(
    "person_id",
    [7, "7", np.int64(7), np.uint8(7), np.str_("7"), np.float32(7), 7.0, Decimal(7), Tensor(7.0)],
)
def test_an_id_may_be_text_or_a_whole_number_of_any_type(person_id: Any) -> None:
    people = checked({person_id: {}})

    assert people == {"7": {}}
    assert type(next(iter(people))) is str


@pytest.mark.parametrize(
    "seconds",
    [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), Tensor(0.5), Decimal("0.5"), Fraction(1, 2)],
)
def test_seconds_may_be_of_any_real_type(seconds: Any) -> None:
    value = checked({"1": {"happy": seconds}})["1"]["happy"]

    assert value == 0.5
    assert type(value) is float


def test_emotions_may_be_enums_and_numpy_strings() -> None:
    batch = {"1": {Emotion.HAPPY: 1, Emotion.SAD: np.int32(2), np.str_("angry"): 3}}

    assert checked(batch) == {"1": {"happy": 1.0, "sad": 2.0, "angry": 3.0}}


def test_unknown_emotions_are_left_out_and_named() -> None:
    batch = {"1": {"happy": 1, "unknown": 5, "surprise": None}, "2": {"unknown": 1}}

    pending, unknown = check(batch, NOW)

    assert pending.people == {"1": {"happy": 1.0}, "2": {}}
    assert unknown == ["unknown", "surprise"]


def test_the_last_entry_wins_if_two_ids_are_the_same_text() -> None:
    assert checked({1: {"happy": 1}, "1": {"happy": 2}}) == {"1": {"happy": 2.0}}


def test_a_later_change_by_the_caller_does_not_reach_the_batch() -> None:
    batch = {"1": {"happy": 1.0}}
    people = checked(batch)

    batch["1"]["happy"] = -1.0

    assert people == {"1": {"happy": 1.0}}


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ({"1": {"happy": -0.5}}, "person 1 of 1, happy: -0.5 is not a finite number of seconds >= 0"),
        ({"1": {"happy": math.nan}}, "person 1 of 1, happy: nan is not a finite number of seconds >= 0"),
        ({"1": {"happy": np.float32("inf")}}, "person 1 of 1, happy: inf is not a finite number of seconds >= 0"),
        ({"1": {"happy": Decimal("sNaN")}}, "person 1 of 1, happy: nan is not a finite number of seconds >= 0"),
        ({"1": {"happy": 10**400}}, "person 1 of 1, happy: inf is not a finite number of seconds >= 0"),
        ({"1": {"happy": "12"}}, "person 1 of 1, happy: '12' is not a number of seconds"),
        ({"1": {"happy": True}}, "person 1 of 1, happy: True is not a number of seconds"),
        ({"1": {"happy": np.bool_(True)}}, "is not a number of seconds"),
        ({"1": {"happy": None}}, "person 1 of 1, happy: None is not a number of seconds"),
        ({"1": {"happy": Floatish()}}, "person 1 of 1, happy: a Floatish is not a number of seconds"),
        ({"1": {"happy": np.array([1.0])}}, "person 1 of 1, happy: a ndarray is not a number of seconds"),
        ({"1": {"happy": 1j}}, "person 1 of 1, happy: a complex is not a number of seconds"),
        ({"1": {1: 1.0}}, "person 1 of 1 has an emotion that is an int, not text"),
        ({"1": 12.0}, "person 1 of 1 has 12.0, but it maps emotions to seconds"),
        ({"1": {}, "": {}}, "person 2 of 2 has an id of 0 characters, but 1 to 128 are allowed"),
        ({"x" * 129: {}}, "an id of 129 characters, but 1 to 128 are allowed"),
        ({10**200: {}}, "an id of 129 characters, but 1 to 128 are allowed"),
        ({-(10**200): {}}, "an id of 129 characters, but 1 to 128 are allowed"),
        ({"a\x00b": {}}, "an id with a control character"),
        ({"a\x9fb": {}}, "an id with a control character"),
        ({"\ud800": {}}, "half of a surrogate pair"),
        ({1.5: {}}, "has an id that is a float, neither text nor a whole number"),
        ({math.inf: {}}, "has an id that is a float, neither text nor a whole number"),
        ({True: {}}, "has an id that is a bool, neither text nor a whole number"),
        ({None: {}}, "has an id that is a NoneType, neither text nor a whole number"),
        ({b"1": {}}, "has an id that is a bytes, neither text nor a whole number"),
        (["1"], "people is a list, but it maps person ids to seconds per emotion"),
        ({number: {} for number in range(100_001)}, "people has 100001 entries, but the daemon takes 100000"),
    ],
)
def test_a_bad_value_is_refused_with_a_sentence(batch: Any, sentence: str) -> None:
    with pytest.raises(InvalidBatch) as caught:
        check(batch, NOW)

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("person_id", "seconds"), [("anna\n", {}), ("anna" * 40, {}), ("anna", 12.0), ("anna", {"sad": -1})]
)
def test_the_sentence_names_no_person(person_id: str, seconds: Any) -> None:
    with pytest.raises(InvalidBatch) as caught:
        check({person_id: seconds}, NOW)

    assert "anna" not in str(caught.value)


@pytest.mark.parametrize(
    ("timestamp", "sentence"),
    [
        (NOW.replace(tzinfo=None), "time zone"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), "calendar"),
        (1763123696.0, "timestamp is a float"),
    ],
)
def test_a_timestamp_that_is_no_time_with_a_zone_is_refused(timestamp: Any, sentence: str) -> None:
    with pytest.raises(InvalidBatch, match=sentence):
        check({}, timestamp)
