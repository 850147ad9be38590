"""EmotionCounters counts the seconds of each person's emotion, and never more than the person was in view."""

from __future__ import annotations

import math
from collections import Counter
from enum import Enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_device.counters import MAX_REMEMBERED, EmotionCounters
from emotion_device.errors import InvalidBatch
from emotion_device.labels import LABELS, MODELS
from emotion_device.wire import EMOTIONS


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seconds_of(counters: EmotionCounters, person_id: str = "1") -> dict[str, float]:
    """Return the seconds that are not 0, to a millisecond."""
    return {emotion: round(value, 3) for emotion, value in counters.people()[person_id].items() if value}


def show(counters: EmotionCounters, clock: Clock, label: Any, seconds: float, person_id: Any = "1") -> None:
    """Let a person show `label` in ten frames a second."""
    for _ in range(round(seconds * 10)):
        clock.wait(0.1)
        counters.observe(person_id, label)


def test_the_time_between_two_frames_counts_for_what_the_later_one_shows(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)

    counters.observe("1", "happy")
    show(counters, clock, "happy", 2)
    show(counters, clock, "sad", 3)

    assert seconds_of(counters) == {"happy": 2.0, "sad": 3.0}


def test_everyone_has_all_four_emotions_in_plain_floats(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)

    counters.observe(np.int64(1), "happy", at=np.float32(1))
    counters.observe(np.int64(1), "happy", at=np.float32(1.5))

    assert counters.people() == {"1": {"happy": 0.5, "sad": 0.0, "angry": 0.0, "neutral": 0.0}}
    assert all(type(value) is float for value in counters.people()["1"].values())


def test_a_program_that_stalls_counts_the_longest_gap_only(clock: Clock) -> None:
    counters = EmotionCounters(max_gap=1.0, clock=clock)
    counters.observe("1", "happy")
    clock.wait(300)

    counters.observe("1", "happy")

    assert seconds_of(counters) == {"happy": 1.0}


def test_frames_further_apart_than_the_gap_still_count_the_gap(clock: Clock) -> None:
    counters = EmotionCounters(max_gap=1.0, clock=clock)
    for _ in range(11):
        counters.observe("1", "happy")
        counters.people()
        clock.wait(1.5)

    assert seconds_of(counters) == {"happy": 10.0}


def test_time_away_does_not_count_and_the_seconds_go_on(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    counters.observe("1", "happy")
    show(counters, clock, "happy", 2)
    for _ in range(30):
        clock.wait(1)
        counters.people()

    show(counters, clock, "happy", 1.1)

    assert seconds_of(counters) == {"happy": 3.0}


def test_a_person_who_left_is_dropped_and_goes_on_when_they_return(clock: Clock) -> None:
    counters = EmotionCounters(forget_after=60, clock=clock)
    counters.observe("1", "happy")
    show(counters, clock, "happy", 2)

    clock.wait(60)
    assert "1" in counters.people()
    clock.wait(1)
    assert counters.people() == {}

    counters.observe("1", "happy")
    assert seconds_of(counters) == {"happy": 2.0}


def test_of_too_many_people_those_who_left_first_are_forgotten(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    for number in range(MAX_REMEMBERED + 1):
        counters.observe(number, "happy")
    assert len(counters.people()) == MAX_REMEMBERED + 1  # all of them are in view
    show(counters, clock, "happy", 61, person_id="0")

    for number in range(MAX_REMEMBERED):
        counters.observe(number, "happy")
        counters.observe(number, "happy", at=clock.now + 0.5)

    people = counters.people()
    assert people["0"]["happy"] == pytest.approx(61.5)
    assert people["1"]["happy"] == 0.5


def test_a_person_twice_in_a_frame_counts_once(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    for at in (1.0, 1.0, 1.5, 1.5, 1.5):
        counters.observe("1", "happy", at=at)
        counters.observe(1, "sad", at=at)

    assert seconds_of(counters) == {"happy": 0.5}


def test_a_frame_that_comes_late_counts_nothing(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    for at in (1.0, 1.8, 1.4, 2.0):
        counters.observe("1", "happy", at=at)

    assert seconds_of(counters) == {"happy": 1.0}


def test_a_clock_that_is_set_back_only_loses_the_gap(clock: Clock) -> None:
    counters = EmotionCounters(max_gap=1.0, clock=clock)
    for at in (5_000.0, 5_001.0, 1_000.0, 1_001.0, 1_002.0):
        counters.observe("1", "happy", at=at)
        clock.wait(1)

    assert seconds_of(counters) == {"happy": 2.0}


def test_of_two_sources_the_one_behind_counts_nothing(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    for _ in range(101):
        counters.observe("1", "happy", at=clock.now)
        counters.observe("1", "happy", at=clock.now - 2)
        clock.wait(0.1)

    assert seconds_of(counters) == {"happy": 10.0}


@pytest.mark.parametrize("order", [1, -1])
def test_absences_do_not_count_while_another_person_is_in_view(clock: Clock, order: int) -> None:
    counters = EmotionCounters(clock=clock)
    for frame in range(1_000):
        clock.wait(0.1)
        people = ["1", "other"] if frame % 20 <= 5 else ["other"]
        for person_id in people[::order]:
            counters.observe(person_id, "happy")
        if frame % 10 == 0:
            counters.people()

    assert seconds_of(counters) == {"happy": 25.0}  # 50 times half a second


def test_a_face_that_the_detector_misses_for_less_than_the_gap_counts(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    for frame in range(101):
        counters.observe("other", "happy")
        if frame % 5 == 0:
            counters.observe("1", "happy")
        clock.wait(0.1)

    assert seconds_of(counters) == {"happy": 10.0}


def test_slow_frames_with_a_model_that_needs_long_for_each_face_still_count_the_gap(clock: Clock) -> None:
    counters = EmotionCounters(max_gap=1.0, clock=clock)
    for _ in range(11):
        for person_id in "123":
            clock.wait(0.5)
            counters.observe(person_id, "happy")

    assert [seconds_of(counters, person_id) for person_id in "123"] == [{"happy": 10.0}] * 3


def test_labels_outside_the_four_count_for_nothing(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    counters.observe("1", "happy")
    show(counters, clock, "surprise", 5)
    show(counters, clock, None, 5)
    show(counters, clock, "happy", 1)

    assert seconds_of(counters) == {"happy": 1.0}


def test_a_label_that_the_map_does_not_know_is_named_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    counters = EmotionCounters(clock=clock)
    show(counters, clock, "Happy_Face", 1)
    show(counters, clock, "surprise", 1)

    assert [record.message for record in caplog.records] == [
        "time with the label 'happy_face' counts for no emotion: `labels` does not contain it"
    ]


def test_labels_may_be_mapped(clock: Clock) -> None:
    counters = EmotionCounters(labels={"Disgust": "angry", 3: "sad", "joy": "happy", "fear": None}, clock=clock)
    counters.observe("1", "joy")
    show(counters, clock, "DISGUST", 1)
    show(counters, clock, np.int64(3), 2)
    show(counters, clock, "fear", 4)

    assert seconds_of(counters) == {"angry": 1.0, "sad": 2.0}


class Label(Enum):
    HAPPINESS = 3
    ANGER = "anger"


@pytest.mark.parametrize(
    ("model", "label", "emotion"),
    [
        ("ferplus", "happiness", "happy"),
        ("HSEmotion", "Sadness", "sad"),
        ("uniface", "Angry", "angry"),
        ("DeepFace", "neutral", "neutral"),
        ("fer", "angry", "angry"),
        ("tao", "happy", "happy"),
        (LABELS, np.str_("ANGER"), "angry"),
        (LABELS, Label.HAPPINESS, "happy"),
        (LABELS, Label.ANGER, "angry"),
    ],
)
def test_the_labels_of_common_models_are_known(clock: Clock, model: Any, label: Any, emotion: str) -> None:
    counters = EmotionCounters(labels=model, clock=clock)
    counters.observe("1", label)
    show(counters, clock, label, 1)

    assert seconds_of(counters) == {emotion: 1.0}


def test_all_models_agree_with_the_default_map() -> None:
    for model in MODELS.values():
        assert model.items() <= LABELS.items()


def test_of_scores_the_highest_counts(clock: Clock) -> None:
    counters = EmotionCounters(clock=clock)
    scores = {"happy": np.float32(0.4), "surprise": 0.2, "sad": math.nan}
    counters.observe("1", scores)
    show(counters, clock, scores, 1)
    show(counters, clock, {"happy": 0.1, "surprise": 0.9}, 1)
    show(counters, clock, {}, 1)

    assert seconds_of(counters) == {"happy": 1.0}


def test_scores_below_the_confidence_count_for_nothing(clock: Clock) -> None:
    counters = EmotionCounters(min_confidence=0.5, clock=clock)
    counters.observe("1", "happy")
    show(counters, clock, {"happy": 0.5}, 1)
    show(counters, clock, {"happy": 0.49}, 1)

    assert seconds_of(counters) == {"happy": 1.0}


def test_with_hysteresis_a_short_flicker_counts_for_the_emotion_before(clock: Clock) -> None:
    counters = EmotionCounters(hysteresis=0.5, clock=clock)
    counters.observe("1", "happy")
    for _ in range(10):
        show(counters, clock, "happy", 0.4)
        show(counters, clock, "sad", 0.3)

    assert seconds_of(counters) == {"happy": 7.0}


def test_with_hysteresis_a_lasting_emotion_counts_from_then_on(clock: Clock) -> None:
    counters = EmotionCounters(hysteresis=0.5, clock=clock)
    counters.observe("1", "happy")
    show(counters, clock, "happy", 1)
    show(counters, clock, "sad", 2)

    assert seconds_of(counters) == {"happy": 1.5, "sad": 1.5}


def test_a_prefix_per_run_keeps_two_runs_apart(clock: Clock) -> None:
    runs = [EmotionCounters(id_prefix="per-run", clock=clock) for _ in range(2)]
    for counters in runs:
        counters.observe(1, "happy")

    (first,), (second,) = (counters.people() for counters in runs)

    assert first != second
    assert first.endswith("-1")
    assert second.endswith("-1")


@pytest.mark.parametrize("person_id", [None, 1.5, "", "a\n", "x" * 129])
def test_an_id_that_the_daemon_would_reject_is_refused(clock: Clock, person_id: Any) -> None:
    with pytest.raises(InvalidBatch):
        EmotionCounters(clock=clock).observe(person_id, "happy")


def test_a_time_that_is_no_number_is_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="at is nan"):
        EmotionCounters(clock=clock).observe("1", "happy", at=math.nan)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"max_gap": -1}, "max_gap is -1"),
        ({"forget_after": math.nan}, "forget_after is nan"),
        ({"labels": "resnet"}, "labels is 'resnet', but the models are ferplus,"),
        ({"labels": {"joy": "joyful"}}, "labels maps to 'joyful'"),
        ({"id_prefix": "cam"}, "id_prefix is 'cam'"),
    ],
)
def test_an_argument_that_cannot_work_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        EmotionCounters(**arguments)


frames = st.lists(
    st.tuples(
        st.floats(min_value=0, max_value=5),  # seconds since the frame before
        st.dictionaries(st.sampled_from("abc"), st.sampled_from([*EMOTIONS, "surprise", None])),  # who shows what
        st.booleans(),  # does the program call people() before this frame?
    ),
    max_size=60,
)


class View:
    """The most time that a person can have been in view, by what the program has told."""

    def __init__(self, max_gap: float) -> None:
        self.max_gap = max_gap
        self.seconds = 0.0
        self.seen_at: float | None = None
        self.left = False
        self.others: Counter[str] = Counter()

    def asked(self, now: float) -> None:
        self.left = self.left or (self.seen_at is not None and now - self.seen_at > self.max_gap)

    def seen(self, now: float) -> None:
        gap = now - (now if self.seen_at is None else self.seen_at)
        away = self.left or max(self.others.values(), default=0) >= 3
        self.seconds += gap if gap <= self.max_gap else 0.0 if away else self.max_gap
        self.seen_at, self.left = now, False
        self.others.clear()


@settings(deadline=None)  # the machine may be busy
@given(
    frames=frames,
    max_gap=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    hysteresis=st.sampled_from([0.0, 1.0]),
    delivered=st.randoms(use_true_random=False),
)
def test_seconds_never_exceed_the_time_in_view(frames: Any, max_gap: float, hysteresis: float, delivered: Any) -> None:
    """A longer gap counts `max_gap`, unless `people` was called in it or another person was in three frames of it."""
    clock = Clock()
    counters = EmotionCounters(max_gap=max_gap, hysteresis=hysteresis, forget_after=math.inf, clock=clock)
    views = {person: View(max_gap) for person in "abc"}
    for gap, people, asks in frames:
        clock.wait(gap)
        if asks:
            counters.people()
            for view in views.values():
                view.asked(clock.now)
        for person, label in delivered.sample(sorted(people.items()), len(people)):
            counters.observe(person, label)
            counters.observe(person, "sad")
            if views[person].seen_at != clock.now:
                views[person].seen(clock.now)
                for other in views.keys() - {person}:
                    views[other].others[person] += 1

    for person, seconds in counters.people().items():
        assert all(value >= 0 for value in seconds.values())
        assert math.fsum(seconds.values()) <= views[person].seconds + 1e-6


@settings(deadline=None)
@given(
    frames=st.lists(st.tuples(st.floats(min_value=0, max_value=3), st.booleans()), max_size=60),
    behind=st.floats(min_value=0, max_value=10),
    max_gap=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_two_sources_never_count_more_than_the_time_that_has_passed(frames: Any, behind: float, max_gap: float) -> None:
    """The first frame may be a late one, so the time before it counts once."""
    clock = Clock()
    counters = EmotionCounters(max_gap=max_gap, forget_after=math.inf, clock=clock)
    began = clock.now
    for gap, late in frames:
        clock.wait(gap)
        counters.observe("a", "happy", at=clock.now - behind * late)

    for seconds in counters.people().values():
        assert seconds["happy"] <= clock.now - began + max_gap + 1e-6
