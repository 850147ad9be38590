"""Two daemons write one database, each with its own broker, and a device moves between the brokers."""

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_device.workbench.simulator import SimulatedDevice
from shared.batch import Batch, Cumulative
from tests.unit.emotion_daemon.rules.test_history import DEVICE, Daemon, Database, at, batch_of, sent_again

STEPS = 1_500
LONGEST_OUTAGE = 200
"""Steps. A step is the time from one batch to the next."""


class Shard:
    """A broker with the batches that wait there, and its daemon."""

    def __init__(self, database: Database, chance: Random) -> None:
        self.daemon = Daemon(database)
        self._queue: deque[Batch] = deque()
        self._random = chance
        self._away_until = 0

    def publish(self, each: Batch) -> None:
        self._queue.append(each)

    def step(self, number: int, now: datetime) -> None:
        """Begin an outage at times; otherwise receive what waits, in groups of any size."""
        if self._away_until <= number and self._random.random() < 0.01:
            self._away_until = number + self._random.randint(1, LONGEST_OUTAGE)
            if self._random.random() < 0.5:
                self.daemon.restart()
        if self._away_until <= number:
            self.drain(now)

    def drain(self, now: datetime) -> None:
        """The database may be unavailable for some seconds between two groups."""
        while self._queue:
            group = [self._queue.popleft() for _ in range(self._random.randint(1, len(self._queue)))]
            self.daemon.commit(*(msgspec.structs.replace(each, received_at=now) for each in group))
            now += timedelta(seconds=self._random.choice([0, 0, 20]))


def batches(seed: int, period: float) -> Iterator[Batch]:
    device = SimulatedDevice(DEVICE, seed=seed, index=0, most_people=3)
    for number in range(1, STEPS + 1):
        step = device.step(timedelta(seconds=period), now=at(number * period))
        people = {person_id: Cumulative(**shown) for person_id, shown in step.people.items()}
        yield Batch(DEVICE, step.timestamp, people, step.timestamp)


@pytest.mark.parametrize("period", [1.0, 5.0])
@pytest.mark.parametrize("seed", range(25))
def test_a_device_that_moves_between_brokers_has_the_history_of_one_daemon(seed: int, period: float) -> None:
    chance = Random(f"{seed} {period}")
    database, single = Database(), Daemon()
    shards = [Shard(database, chance), Shard(database, chance)]
    home = shards[0]
    for number, each in enumerate(batches(seed, period)):
        single.commit(each)
        if chance.random() < 0.01:
            home = chance.choice(shards)
        home.publish(each)
        for shard in chance.sample(shards, 2):
            shard.step(number, each.timestamp)
    for shard in shards:
        shard.drain(at(STEPS * period))

    expected = single.database
    assert {key: (report.cumulative, report.last_seen) for key, report in database.people.items()} == {
        key: (report.cumulative, report.last_seen) for key, report in expected.people.items()
    }
    assert database.devices == expected.devices
    assert not any(database.offsets.values()), "no clock was set back"
    assert database.shown == pytest.approx(expected.shown, rel=0.001)


_seconds = st.floats(0, 200) | st.sampled_from([0.0, 1.0, 1e9])
_people = st.dictionaries(st.sampled_from("abc"), st.builds(Cumulative, *[_seconds] * 4), max_size=3)
_received = st.tuples(st.floats(0, 400) | st.integers(0, 20), _people, st.integers(0, 1), st.booleans())
"""A batch's time and people, the daemon that receives it, and whether the broker sends it again."""


@given(st.lists(_received, min_size=1, max_size=20))
def test_two_daemons_never_count_more_than_people_times_elapsed_time(
    received: list[tuple[float, dict[str, Cumulative], int, bool]],
) -> None:
    """It holds for any batches that the daemons receive in any order. No clock is set back: all arrive at once."""
    database = Database()
    daemons = [Daemon(database), Daemon(database)]
    for seconds, people, daemon, again in received:
        each = batch_of(seconds, people)
        daemons[daemon].commit(sent_again(each))
        if again:
            daemons[1 - daemon].commit(sent_again(each))
    people_seen = {person for _, people, _, _ in received for person in people}
    times = [seconds for seconds, *_ in received]

    assert database.shown <= len(people_seen) * (max(times) - min(times)) + 1e-6


def test_a_backlog_of_people_who_left_is_counted_after_the_device_has_moved() -> None:
    """Anna stays, bert comes and leaves meanwhile. The first batch of a backlog tells no time before it: 5 s."""
    database = Database()
    first, second = Daemon(database), Daemon(database)
    first.commit(batch_of(0, {"anna": Cumulative(happy=0)}))
    backlog = [batch_of(5 * n, {"anna": Cumulative(happy=5 * n), "bert": Cumulative(sad=5 * n)}) for n in range(1, 100)]
    second.commit(batch_of(500, {"anna": Cumulative(happy=500)}))
    first.restart()
    first.commit(*(msgspec.structs.replace(each, received_at=at(501)) for each in backlog))

    assert [sum(emotion) for emotion in zip(*database.minutes.values(), strict=True)] == pytest.approx([500, 490, 0, 0])


def test_a_backlog_with_a_pause_in_it_is_no_clock_that_was_set_back() -> None:
    """Also if no person of it grows: another daemon has stored newer counters."""
    database = Database()
    first, second = Daemon(database), Daemon(database)
    first.commit(batch_of(100, {"anna": Cumulative(happy=0)}))
    second.commit(batch_of(130, {"anna": Cumulative(happy=30)}))
    backlog = [batch_of(100 + n, {"anna": Cumulative(happy=n)}) for n in range(1, 21)]
    first.commit(msgspec.structs.replace(backlog[0], received_at=at(200)))
    first.commit(*(msgspec.structs.replace(each, received_at=at(209)) for each in backlog[1:]))

    assert database.people[DEVICE, "anna"].cumulative == Cumulative(happy=30)
    assert database.shown == pytest.approx(30)


def test_a_late_batch_does_not_count_from_one_of_another_backlog() -> None:
    database = Database()
    first, second = Daemon(database), Daemon(database)
    second.commit(batch_of(10, {"anna": Cumulative()}))
    first.commit(batch_of(5, {"anna": Cumulative()}))
    second.commit(batch_of(40_000, {"anna": Cumulative()}))
    late = batch_of(39_990, {"anna": Cumulative(), "bert": Cumulative(happy=36_000)})
    first.commit(msgspec.structs.replace(late, received_at=at(40_001)))

    assert database.shown == 0
