"""A device program's day: frames, EmotionCounters, Publisher, broker, daemon, and what the API answers."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import fsum
from pathlib import Path

import pytest

from emotion_device import EmotionCounters, Publisher
from emotion_device.wire import EMOTIONS
from tests.brokers import Broker
from tests.processes import Daemon
from tests.waiting import wait_until
from tests.web import Api

DAY = 86_400.0
FRAME = 0.8
LABELS = {"happy": "Happiness", "sad": "Sadness", "angry": "Anger", "neutral": "Neutral", "other": "Surprise"}


@pytest.fixture
def api(broker: Broker, sqlite_url: str, tmp_path: Path) -> Iterator[Api]:
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(broker, sqlite_url, tmp_path / "daemon.log"))
        daemon.wait_for_log("subscribed to")
        yield stack.enter_context(Api(sqlite_url, tmp_path / "api.log"))


@dataclass
class Visit:
    """A person before the camera from `begin` to `end`, with moods that follow one another."""

    person_id: int
    begin: float
    end: float
    moods: list[tuple[float, str]]  # until when, which

    def mood_at(self, time: float) -> str:
        while len(self.moods) > 1 and self.moods[0][0] < time:
            self.moods.pop(0)
        return self.moods[0][1]


def visits(chance: random.Random, truth: dict[str, float]) -> Iterator[Visit]:
    """Visits of a day, by their begin; each adds to the true seconds of each mood. Ids 1 to 5 come again and again."""
    begin, newcomer = 0.0, 100
    while (begin := begin + chance.expovariate(1 / 100)) < DAY:
        newcomer += 1
        end = at = min(begin + 10 + chance.expovariate(1 / 150), DAY)
        at, moods = begin, []
        while at < end:
            mood, until = chance.choice(list(LABELS)), min(end, at + 1 + chance.expovariate(1 / 20))
            truth[mood] += until - at
            moods.append((until, mood))
            at = until
        regular = newcomer % 400 < 5
        yield Visit(newcomer % 400 if regular else newcomer, begin, end, moods)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_day_of_frames_is_in_the_totals_within_one_percent(broker: Broker, api: Api, tmp_path: Path) -> None:
    """Five frames in four seconds, of which one in twenty misses a person, and a new start every three hours."""
    chance, clock, midnight = random.Random(5), Clock(), datetime.now(UTC) - timedelta(seconds=DAY)
    truth = dict.fromkeys(LABELS, 0.0)
    coming = list(visits(chance, truth))[::-1]
    in_view: list[Visit] = []
    with Publisher("jetson_1", host=broker.host, port=broker.port) as publisher:
        while clock.now < DAY:
            with EmotionCounters(
                max_gap=4, labels="HSEmotion", forget_after=600, state_file=tmp_path / "counters.json", clock=clock
            ) as counters:
                restart, publish = clock.now + 10_800, clock.now + 300
                while clock.now < restart:
                    clock.now += FRAME
                    while coming and coming[-1].begin <= clock.now:
                        in_view.append(coming.pop())
                    in_view = [visit for visit in in_view if visit.end > clock.now]
                    for visit in in_view:
                        if chance.random() < 0.95:
                            counters.observe(visit.person_id, LABELS[visit.mood_at(clock.now)])
                    if clock.now >= publish:
                        publish += 300
                        publisher.publish(counters.people(), midnight + timedelta(seconds=clock.now))

    wait_until(lambda: api.summary()["updated_at"] is not None, what="the day is in the summary")
    summary = api.summary()
    expected = {emotion: pytest.approx(truth[emotion], rel=0.01) for emotion in EMOTIONS}
    assert summary["emotion_totals"] == expected
    assert fsum(person[f"time_{emotion}"] for person in summary["current_people"] for emotion in EMOTIONS) <= fsum(
        truth.values()
    )
