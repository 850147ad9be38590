"""From frames to seconds: what a detector sees in each frame becomes each person's cumulative seconds.

The time between two frames of a person counts for the emotion of the later one. Pure but for the state file.
"""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Mapping, SupportsFloat

from emotion_device import checks
from emotion_device.labels import LABELS, label_map
from emotion_device.state_file import PersonState, StateFile
from emotion_device.wire import EMOTIONS, People

MAX_REMEMBERED = 1_000
"""Most people who are remembered. Beyond that, those who left first are forgotten, once `people` has dropped them."""

SAVE_SECONDS = 10.0
"""Shortest time between two writes of the state file by `people`: a memory card wears out."""

_MAX_UNKNOWN_LABELS = 20

log = logging.getLogger(__name__)


class _Person:
    """One person: the seconds so far, the time of the last frame, when that was, and the emotion that counts now."""

    __slots__ = (
        "candidate",
        "candidate_since",
        "emotion",
        "frame_at",
        "in_view",
        "moved_at",
        "round",
        "seconds",
        "seen_at",
    )

    def __init__(self, seconds: dict[str, float], seen_at: float) -> None:
        self.seconds = seconds
        self.seen_at = seen_at  # by the clock; frame_at may be the time within a video
        self.frame_at = -math.inf
        self.moved_at = -math.inf  # by the clock: when frame_at changed
        self.round = 0
        self.in_view = False
        self.emotion: str | None = None
        self.candidate: str | None = None
        self.candidate_since = 0.0


class EmotionCounters:
    """Counts how long each person shows each emotion. Usable from any thread, and as a context manager.

        with EmotionCounters(state_file="counters.json") as counters:
            for frame in camera:
                for person_id, label in detect(frame):
                    counters.observe(person_id, label)
                if a_second_has_passed():
                    publisher.publish(counters.people())

    `max_gap`: the most seconds that the time between two frames of a person counts. A longer gap counts nothing if
    other people's frames show that the person was away. `forget_after`: the seconds without a view after which `people`
    leaves a person out; who returns goes on where they left. `min_confidence`: a frame whose best score is lower counts
    for no emotion. `hysteresis`: seconds for which a new emotion must be seen before it replaces the last one; until
    then the time counts for the last one. `labels`: your model's labels as a mapping to the four emotions or None, or
    the name of a model in `labels.MODELS`; upper and lower case are the same.

    `state_file`: the seconds go on after a restart of the program; a damaged file is ignored. Leaving the `with` block
    saves it. `max_state_age`: an older state file is ignored. Give it if your tracker gives the ids of one day to other
    people on the next. `id_prefix="per-run"`: ids get a prefix that is new at each start, for a tracker that begins
    again at 1. `clock` returns seconds that only grow.
    """

    def __init__(
        self,
        max_gap: float = 1.0,
        forget_after: float = 60.0,
        min_confidence: float = 0.0,
        hysteresis: float = 0.0,
        labels: str | Mapping[Any, str | None] = LABELS,
        state_file: str | Path | None = None,
        max_state_age: float = math.inf,
        id_prefix: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, value in (("max_gap", max_gap), ("forget_after", forget_after), ("hysteresis", hysteresis)):
            if not value >= 0:
                raise ValueError(f"{name} is {value}, but it is a number of seconds >= 0")
        if id_prefix not in (None, "per-run"):
            raise ValueError(f"id_prefix is {id_prefix!r:.80}, but it is None or 'per-run'")
        self._max_gap = max_gap
        self._forget_after = forget_after
        self._min_confidence = min_confidence
        self._hysteresis = hysteresis
        self._labels = label_map(labels)
        self._unknown_labels: set[str] = set()
        self._prefix = f"{secrets.token_hex(4)}-" if id_prefix else ""
        self._clock = clock
        self._lock = threading.Lock()
        self._people: dict[str, _Person] = {}  # the one seen last is the last
        self._round = 0  # a new one begins when a person of this one is seen again: each frame has at most one
        self._state_file = None if state_file is None else StateFile(Path(state_file), max_age=max_state_age)
        self._saved_at = clock()
        self._changed = False
        if self._state_file is not None:
            self._restore(self._state_file.load())

    def __enter__(self) -> EmotionCounters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()

    def observe(self, person_id: object, label_or_scores: object, at: SupportsFloat | None = None) -> None:
        """Note what a person shows in a frame: the model's label, or its scores as {label: score}.

        `at` is the time of the frame in seconds, by `clock` unless given; give it always or never. Call this once per
        person and frame: the same person again at the same time, or in a frame that comes late, counts nothing. Raises
        InvalidBatch (a ValueError) for an id that the daemon would reject.
        """
        key = checks.person_id(f"{self._prefix}{checks.person_id(person_id)}")
        emotion = self._emotion(label_or_scores)
        now = self._clock()
        frame_at = now if at is None else float(at)
        if not math.isfinite(frame_at):
            raise ValueError(f"at is {frame_at}, but it is the time of a frame in seconds")
        with self._lock:
            person = self._people.pop(key, None) or _Person(dict.fromkeys(EMOTIONS, 0.0), now)
            self._people[key] = person
            person.seen_at = now
            self._see(person, emotion, frame_at, now)
            self._forget(now)
            self._changed = True

    def people(self) -> People:
        """Return the cumulative seconds of everyone seen in the last `forget_after` seconds, for Publisher.publish.

        Call it about once a second, also while no person is in view: it notes the people who were not seen for
        `max_gap`, so that the time until they return does not count. It also saves the state file, every ten seconds at
        most.
        """
        with self._lock:
            now = self._clock()
            for person in self._people.values():
                if now - person.seen_at > self._max_gap:
                    person.in_view = False
            if self._changed and now - self._saved_at >= SAVE_SECONDS:
                self._save(now)
            return {
                person_id: dict(person.seconds)
                for person_id, person in self._people.items()
                if now - person.seen_at <= self._forget_after
            }

    def save(self) -> None:
        """Write the state file now, if there is one. A disk that fails is logged once, and the counting goes on."""
        with self._lock:
            self._save(self._clock())

    def _forget(self, now: float) -> None:
        while len(self._people) > MAX_REMEMBERED:
            first_id, first = next(iter(self._people.items()))
            if now - first.seen_at <= self._forget_after:
                return
            del self._people[first_id]

    def _see(self, person: _Person, emotion: str | None, at: float, now: float) -> None:
        gap = at - person.frame_at
        if gap <= 0 and abs(now - person.moved_at) <= self._max_gap:
            return  # this frame again, or one that comes late; if no later one comes for so long, the clock was set
        if person.round == self._round:
            self._round += 1
        if gap > self._max_gap and self._round - person.round > 1:
            person.in_view = False  # others were seen again and again meanwhile
        person.round = self._round
        self._decide(person, emotion, at)
        if emotion is not None and person.emotion is not None and person.in_view and gap > 0:
            person.seconds[person.emotion] += min(gap, self._max_gap)
        person.in_view = True
        person.frame_at = at
        person.moved_at = now

    def _decide(self, person: _Person, emotion: str | None, at: float) -> None:
        """Let `emotion` be the one that counts, once it has been seen long enough."""
        if emotion is None:
            return
        if person.emotion is None or emotion == person.emotion or not person.in_view:
            person.emotion, person.candidate = emotion, None
            return
        if emotion != person.candidate:
            person.candidate, person.candidate_since = emotion, at
        if at - person.candidate_since >= self._hysteresis:
            person.emotion, person.candidate = emotion, None

    def _emotion(self, label_or_scores: object) -> str | None:
        if isinstance(label_or_scores, Mapping):
            label, score = _best(label_or_scores)
            if label is None or score < self._min_confidence:
                return None
        else:
            label = label_or_scores
        if label is None:
            return None
        name = (checks.text(label) or str(checks.plain(label))).lower()
        if name not in self._labels:
            self._note_unknown(name)
        return self._labels.get(name)

    def _note_unknown(self, label: str) -> None:
        if label not in self._unknown_labels and len(self._unknown_labels) < _MAX_UNKNOWN_LABELS:
            self._unknown_labels.add(label)
            log.warning("time with the label %r counts for no emotion: `labels` does not contain it", label[:80])

    def _restore(self, people: Mapping[str, PersonState]) -> None:
        now = self._clock()
        for person_id, state in sorted(people.items(), key=lambda item: -item[1].ago):
            self._people[person_id] = _Person(dict(state.seconds), now - state.ago)

    def _save(self, now: float) -> None:
        if self._state_file is None:
            return
        self._saved_at = now
        self._changed = False
        self._state_file.save(
            {
                person_id: PersonState(person.seconds, max(0.0, now - person.seen_at))
                for person_id, person in self._people.items()
            }
        )


def _best(scores: Mapping[Any, Any]) -> tuple[object, float]:
    """Return the label with the highest score; None if no score is a number."""
    best: object = None
    highest = -math.inf
    for label, value in scores.items():
        score = checks.number(value)
        if score is not None and score > highest:
            best, highest = label, score
    return best, highest
