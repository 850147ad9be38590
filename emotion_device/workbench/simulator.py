"""Devices that exist only here: people come, stay, change their mood and leave. No I/O, no clock.

The same seed, device index and steps give the same batches, and every device draws from a stream of its own. All time
is counted in whole microseconds, so that the reported seconds add up exactly to the time that was lived.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from shared.batch import EMOTIONS

MEAN_STAY_SECONDS = 45.0
"""Seconds for which a person stays in view on average."""

_OCCUPANCY = 0.6
"""The share of the places in view that is taken on average, roughly."""

_MEAN_MOOD_SECONDS = {"happy": 6.0, "sad": 5.0, "angry": 3.0, "neutral": 8.0}
_NEXT_MOOD = {
    "happy": {"neutral": 0.8, "sad": 0.1, "angry": 0.1},
    "sad": {"neutral": 0.6, "angry": 0.25, "happy": 0.15},
    "angry": {"neutral": 0.6, "sad": 0.3, "happy": 0.1},
    "neutral": {"happy": 0.6, "sad": 0.25, "angry": 0.15},
}
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """The faults of a device. The default is none.

    `restart_every`: its program starts again after this much time; the people in view get new ids, counted from 1,
    and counters from 0. `clock_skew`: how far its clock is ahead. `malformed`: the share of its batches, 0 to 1, after
    which it also sends a message that is no batch.
    """

    restart_every: timedelta | None = None
    clock_skew: timedelta = timedelta(0)
    malformed: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulatedBatch:
    """The messages that a device sends after one step.

    `people` maps person id to cumulative seconds per emotion, as `Publisher.publish` takes it; `timestamp` is what
    the device's clock says; `malformed` is a further payload that no daemon accepts, or None.
    """

    timestamp: datetime
    people: dict[str, dict[str, float]]
    malformed: bytes | None = None


@dataclass(slots=True)
class _Person:
    person_id: str
    mood: str
    mood_until: int
    leaves_at: int
    shown: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EMOTIONS, 0))


class SimulatedDevice:
    """One camera and the people before it, at most `most_people` of them at a time.

    People come and leave between two batches only: the first batch without a person follows one with all their time.
    """

    def __init__(
        self, device_id: str, *, seed: int, index: int, most_people: int, troubles: Troubles | None = None
    ) -> None:
        self.device_id = device_id
        self._most_people = most_people
        self._troubles = troubles or Troubles()
        self._random = Random(f"{seed}/{index}")
        # Of its own: the same people do the same, with malformed messages and without.
        self._malformed_random = Random(f"{seed}/{index}/malformed")
        self._lived = 0
        self._last_id = 0
        self._truth = dict.fromkeys(EMOTIONS, 0)
        self._next_restart = self._restart_after(0)
        self._in_view = [self._arrival() for _ in range(round(most_people * _OCCUPANCY))]
        self._next_arrival = self._draw_arrival(0)

    @property
    def people_in_view(self) -> int:
        return len(self._in_view)

    @property
    def truth(self) -> dict[str, float]:
        """Return the seconds per emotion that all people have shown, including those lost by restarts."""
        return {emotion: shown / 1e6 for emotion, shown in self._truth.items()}

    def step(self, elapsed: timedelta, *, now: datetime) -> SimulatedBatch:
        """Let `elapsed` pass before the camera and report it at `now`, the right time as aware UTC."""
        until = self._lived + elapsed // _MICROSECOND
        for person in self._in_view:
            self._live(person, until)
        self._lived = until
        timestamp = now + self._troubles.clock_skew
        people = {person.person_id: _seconds(person.shown) for person in self._in_view}
        malformed = None
        if self._malformed_random.random() < self._troubles.malformed:
            malformed = self._malform(timestamp)
        self._come_and_go()
        return SimulatedBatch(timestamp, people, malformed)

    def _live(self, person: _Person, until: int) -> None:
        at = self._lived
        while person.mood_until < until:
            self._show(person, person.mood_until - at)
            at = person.mood_until
            person.mood = _draw(self._random, _NEXT_MOOD[person.mood])
            person.mood_until = at + self._duration(_MEAN_MOOD_SECONDS[person.mood])
        self._show(person, until - at)

    def _show(self, person: _Person, microseconds: int) -> None:
        person.shown[person.mood] += microseconds
        self._truth[person.mood] += microseconds

    def _come_and_go(self) -> None:
        self._in_view = [person for person in self._in_view if person.leaves_at > self._lived]
        if self._next_restart is not None and self._next_restart <= self._lived:
            self._restart()
        while self._next_arrival <= self._lived:
            if len(self._in_view) < self._most_people:
                self._in_view.append(self._arrival())
            self._next_arrival = self._draw_arrival(self._next_arrival)

    def _restart(self) -> None:
        self._last_id = 0
        for person in self._in_view:
            person.person_id = self._new_id()
            person.shown = dict.fromkeys(EMOTIONS, 0)
        self._next_restart = self._restart_after(self._lived)

    def _restart_after(self, lived: int) -> int | None:
        every = self._troubles.restart_every
        return None if every is None else lived + every // _MICROSECOND

    def _arrival(self) -> _Person:
        mood = _draw(self._random, dict.fromkeys(EMOTIONS, 1.0))
        return _Person(
            person_id=self._new_id(),
            mood=mood,
            mood_until=self._lived + self._duration(_MEAN_MOOD_SECONDS[mood]),
            leaves_at=self._lived + self._duration(MEAN_STAY_SECONDS),
        )

    def _new_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)

    def _draw_arrival(self, after: int) -> int:
        return after + self._duration(MEAN_STAY_SECONDS / (_OCCUPANCY * max(self._most_people, 1)))

    def _duration(self, mean_seconds: float) -> int:
        """Microseconds, drawn so that the past does not matter, and never none: every loop over them ends."""
        return 1 + round(self._random.expovariate(1 / mean_seconds) * 1e6)

    def _malform(self, timestamp: datetime) -> bytes:
        return self._malformed_random.choice(MALFORMATIONS)(self.device_id, timestamp)


def _seconds(shown: dict[str, int]) -> dict[str, float]:
    return {emotion: microseconds / 1e6 for emotion, microseconds in shown.items()}


def _draw(random: Random, weights: dict[str, float]) -> str:
    return random.choices(list(weights), list(weights.values()))[0]


def _payload(device_id: object, timestamp: object, people: object) -> bytes:
    return json.dumps({"device_id": device_id, "timestamp": timestamp, "people": people}).encode()


def _one_person(device_id: str, timestamp: datetime, person_id: object, happy: object) -> bytes:
    return _payload(device_id, timestamp.isoformat(), [{"person_id": person_id, "cumulative": {"happy": happy}}])


MALFORMATIONS: tuple[Callable[[str, datetime], bytes], ...] = (
    lambda device_id, timestamp: b"",
    lambda device_id, timestamp: b"hello",
    lambda device_id, timestamp: b"\xff\xfe\x00",
    lambda device_id, timestamp: b"[]",
    lambda device_id, timestamp: _one_person(device_id, timestamp, "1", 1.0)[:-10],
    lambda device_id, timestamp: _one_person(device_id, timestamp, "1", -1.0),
    lambda device_id, timestamp: _one_person(device_id, timestamp, "1", "12.5"),
    lambda device_id, timestamp: _one_person(device_id, timestamp, "1", float("nan")),
    lambda device_id, timestamp: _one_person(device_id, timestamp, "1", 2**1100),
    lambda device_id, timestamp: _one_person(device_id, timestamp, "a\x00b", 1.0),
    lambda device_id, timestamp: _one_person(device_id, timestamp, None, 1.0),
    lambda device_id, timestamp: _one_person(f"not-{device_id}", timestamp, "1", 1.0),
    lambda device_id, timestamp: _payload(device_id, "yesterday", []),
    lambda device_id, timestamp: _payload(device_id, None, []),
    lambda device_id, timestamp: _payload(device_id, timestamp.isoformat(), {}),
)
"""Payloads that are no batch, each wrong in its own way: called with the device id and the timestamp."""
