"""A device whose clock was set back is followed. Late, repeated and reordered batches still change nothing."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import fsum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_daemon.rules.clock_fallback import Clocks, Row
from emotion_daemon.rules.fold import Folded, PersonKey, Report, StoredState, fold
from emotion_daemon.rules.listening import Listened
from emotion_daemon.rules.totals_fold import fold_totals
from shared.batch import EARLIEST_TIMESTAMP, EMOTIONS, MAX_CLOCK_SKEW, Batch, Cumulative

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
DEVICE = "jetson_1"
ANNA, BERT = (DEVICE, "anna"), (DEVICE, "bert")

STEPS = [5, 59, 61, 3_000, 3_600, 5 * 365 * 86_400]
"""Seconds by which a clock is set back: a correction, a daylight saving time, a board without a battery."""


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Daemon:
    """Folds each batch as it arrives over what the ones before have stored."""

    def __init__(self, *, totals_only: bool = False) -> None:
        self._fold = fold_totals if totals_only else fold
        self.people: dict[PersonKey, Report] = {}
        self.newest: datetime | None = None
        self.offsets: dict[str, timedelta] = {}
        self.fallen: list[float] = []
        self.shown = [0.0] * 4
        self.minutes: dict[datetime, float] = {}
        self.covered: dict[datetime, float] = {}
        self._listened: dict[str, Listened] = {}
        self._arrivals: dict[str, datetime] = {}
        self._rows: dict[str, Row] = {}

    def hear(self, stamp: float, people: dict[str, float], *, arrival: float, again: bool = False) -> Folded:
        """A batch with the timestamp `stamp` arrives; of each person it has the happy seconds."""
        return self.commit(
            Batch(
                DEVICE,
                at(stamp),
                {person_id: Cumulative(happy=seconds) for person_id, seconds in people.items()},
                None if again else at(arrival),
            ),
            now=at(arrival),
        )

    def commit(self, *batches: Batch, now: datetime) -> Folded:
        clocks = Clocks(self.offsets, self._arrivals, self._rows)
        newest = {} if self.newest is None else {DEVICE: self.newest}
        folded = self._fold(batches, StoredState(self.people, newest, {}, clocks, now, listened=self._listened))
        self._listened.update(folded.listened)
        self.people.update(folded.people)
        self.newest = next((each.timestamp for each in folded.devices.values()), self.newest)
        self.offsets.update(folded.clocks.offsets)
        self._rows.update(folded.clocks.rows)
        for batch, _ in folded.heard.values():
            assert batch.received_at is not None
            self._arrivals[DEVICE] = batch.received_at
        self.fallen += [step.total_seconds() for step in folded.clocks.fallen.values()]
        for _, minute, *seconds, _, covered in folded.minutes.rows():
            self.covered[minute] = self.covered.get(minute, 0.0) + covered
            self.shown = [before + more for before, more in zip(self.shown, seconds, strict=True)]
            self.minutes[minute] = self.minutes.get(minute, 0.0) + fsum(seconds)
        return folded

    def restart(self) -> None:
        """A new process knows what is stored."""
        self.people = {key: msgspec.structs.replace(report, spare=0.0) for key, report in self.people.items()}
        self._rows.clear()
        self._listened.clear()

    def happy(self, person: PersonKey) -> float:
        return self.people[person].cumulative.happy


def after_ten_seconds(**options: bool) -> Daemon:
    """Anna and Bert were happy for ten seconds, and Bert left."""
    daemon = Daemon(**options)
    for second in range(11):
        daemon.hear(second, {"anna": second, "bert": second} if second < 10 else {"anna": second}, arrival=second)
    return daemon


class TestAClockThatWasSetBack:
    @pytest.mark.parametrize("step", STEPS)
    def test_is_followed_after_three_batches(self, step: float) -> None:
        daemon = after_ten_seconds()
        for second in (11, 12, 13):
            daemon.hear(second - step, {"anna": second}, arrival=second)

        assert daemon.happy(ANNA) == 13
        assert daemon.newest == daemon.people[ANNA].last_seen == at(13)
        assert daemon.fallen == [step]

    @pytest.mark.parametrize("step", STEPS[1:])
    def test_is_followed_within_ten_seconds_if_the_counters_began_anew(self, step: float) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 21):
            daemon.hear(second - step, {"anna": second - 11}, arrival=second)

        assert daemon.happy(ANNA) == 9
        assert daemon.newest == at(20)

    def test_is_followed_within_ten_seconds_if_nobody_is_in_view(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 21):
            daemon.hear(second - 3_000, {}, arrival=second)

        assert daemon.newest == at(20)

    @pytest.mark.parametrize("totals_only", [False, True])
    @pytest.mark.parametrize("step", STEPS)
    def test_adds_to_the_history_what_has_passed(self, step: float, totals_only: bool) -> None:
        daemon = after_ten_seconds(totals_only=totals_only)
        before = fsum(daemon.shown)
        for second in range(11, 101):
            daemon.hear(second - step, {"anna": second}, arrival=second)

        assert fsum(daemon.shown) - before == pytest.approx(90)
        assert max(daemon.minutes.values()) <= 2 * 60 + 2

    @pytest.mark.parametrize("totals_only", [False, True])
    @pytest.mark.parametrize("rate", [2, 5, 10])
    @pytest.mark.parametrize("step", [5.0, 3_000.0, 2_400 * 86_400.0])
    def test_is_followed_if_the_device_sends_whole_seconds_and_several_batches_a_second(
        self, step: float, rate: int, totals_only: bool
    ) -> None:
        daemon = Daemon(totals_only=totals_only)
        for batch in range(10 * rate + 1):
            daemon.hear(batch // rate, {"anna": batch / rate}, arrival=batch / rate)
        before = fsum(daemon.shown)
        for batch in range(10 * rate + 1, 130 * rate + 1):
            daemon.hear(batch // rate - step, {"anna": batch / rate}, arrival=batch / rate)

        assert fsum(daemon.shown) - before == pytest.approx(120, rel=0.01)
        assert daemon.fallen == [pytest.approx(step, abs=2)]
        assert max(daemon.minutes.values()) <= 60 + 2

    def test_is_followed_within_ten_seconds_if_whole_seconds_come_several_times_and_nobody_is_in_view(self) -> None:
        daemon = after_ten_seconds()
        for batch in range(55, 105):
            daemon.hear(batch // 5 - 3_000, {}, arrival=batch / 5)

        assert daemon.newest is not None
        assert daemon.newest >= at(19)

    def test_shows_newcomers_and_not_who_has_left(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 21):
            folded = daemon.hear(second - 3_000, {"carl": second - 10}, arrival=second)

        assert daemon.people[DEVICE, "carl"].active_at == at(20)
        assert daemon.people[ANNA].active_at == at(10)
        assert [in_view for _, in_view in folded.heard.values()] == [1]

    def test_is_followed_again_if_it_falls_again(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 31):
            daemon.hear(second - (3_000 if second < 20 else 90_000), {"anna": second}, arrival=second)

        assert (daemon.happy(ANNA), daemon.newest) == (30, at(30))
        assert daemon.fallen == [3_000, 87_000]

    def test_is_believed_again_once_its_timestamps_are_newer(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 31):
            daemon.hear(second - (3_000 if second < 20 else 0), {"anna": second}, arrival=second)

        assert daemon.offsets == {DEVICE: timedelta()}
        assert daemon.newest == at(30)
        assert daemon.shown[0] == pytest.approx(30 + 9)

    def test_leaves_no_spike_when_it_is_set_right_after_years(self) -> None:
        daemon, years = after_ten_seconds(), STEPS[-1]
        for second in range(11, 21):
            daemon.hear(second - years, {"anna": second}, arrival=second)
        before = fsum(daemon.shown)
        daemon.hear(21, {"anna": 21, "carl": 7_200}, arrival=21)

        assert fsum(daemon.shown) - before <= 2 * 3

    def test_says_how_far_it_is_off(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 15):
            folded = daemon.hear(second - 3_000, {"anna": second}, arrival=second)

        assert [batch.clock_skew for batch, _ in folded.heard.values()] == [timedelta(seconds=-3_000)]

    def test_is_followed_after_a_restart_of_the_daemon(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 31):
            if second == 20:
                daemon.restart()
            daemon.hear(second - 3_000, {"anna": second}, arrival=second)

        assert (daemon.happy(ANNA), daemon.newest, daemon.fallen) == (30, at(30), [3_000])


class TestWhatIsOnlyLate:
    def test_two_reordered_batches_change_nothing(self) -> None:
        daemon = after_ten_seconds()
        daemon.hear(13, {"anna": 13}, arrival=11)
        for stamp in (11, 12):
            daemon.hear(stamp, {"anna": stamp}, arrival=11.1)

        assert (daemon.happy(ANNA), daemon.newest, daemon.fallen) == (13, at(13), [])

    def test_a_message_that_the_broker_sends_again_is_never_a_fallback(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 41):
            daemon.hear(second - 3_000, {"anna": second}, arrival=second, again=True)

        assert (daemon.newest, daemon.fallen) == (at(10), [])

    def test_batches_that_a_device_publishes_again_change_nothing(self) -> None:
        """The broker's copies of them have no DUP: the device lost a connection before the PUBACKs."""
        daemon = after_ten_seconds()
        for stamp in range(11):
            daemon.hear(stamp, {"anna": stamp}, arrival=12)

        assert (daemon.happy(ANNA), daemon.newest, daemon.fallen) == (10, at(10), [])

    def test_the_copies_of_a_second_broker_change_nothing(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 61):
            daemon.hear(second, {"anna": second}, arrival=second)
            daemon.hear(second - 5, {"anna": second - 5}, arrival=second + 0.1)

        assert (daemon.happy(ANNA), daemon.newest, daemon.fallen) == (60, at(60), [])
        assert daemon.shown[0] == pytest.approx(69)

    def test_a_message_from_before_the_fallback_changes_nothing(self) -> None:
        daemon = after_ten_seconds()
        for second in range(11, 21):
            daemon.hear(second - 3_000, {"anna": second}, arrival=second)
        before = fsum(daemon.shown)
        for stamp in (8, 9, 10):
            daemon.hear(stamp, {"anna": stamp}, arrival=21, again=True)
        for stamp in (18, 19, 20):
            daemon.hear(stamp - 3_000, {"anna": stamp}, arrival=21, again=True)
        daemon.hear(21 - 3_000, {"anna": 21}, arrival=21)

        assert (daemon.happy(ANNA), daemon.newest) == (21, at(21))
        assert fsum(daemon.shown) - before == pytest.approx(1)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.sets(st.integers(0, 39)), st.data())
def test_a_group_that_is_tried_twice_is_folded_the_same(steps: list[int], cuts: set[int], data: st.DataObject) -> None:
    """A commit that failed is tried again: a fold changes nothing but its result."""
    batches, second = [], 0
    for number, step in enumerate(steps):
        second += step
        back = data.draw(st.sampled_from([0, 0, 0, 3_000]), label=f"clock {number}")
        batches.append(Batch(DEVICE, at(second - back), {"anna": Cumulative(happy=second)}, at(second)))
    once, twice = Daemon(), Daemon()
    for batch in batches:
        assert batch.received_at is not None
        once.commit(batch, now=batch.received_at)
        state = StoredState(twice.people, {} if twice.newest is None else {DEVICE: twice.newest})
        fold([batch], state)
        twice.commit(batch, now=batch.received_at)

    assert (once.newest, once.offsets, once.shown) == (twice.newest, twice.offsets, twice.shown)


# --- a simulated week -----------------------------------------------------------------------------------------------

PERIOD = 5.0
WEEK = 7 * 86_400


class FaultyClock:
    """A device's clock: it drifts, steps back and forward, repeats an hour, and starts at a fixed date at a reboot."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._error = 0.0
        self._drift = chance.uniform(-1e-4, 1e-4)

    def stamp(self, second: float) -> float:
        """Seconds after noon that the clock shows."""
        self._error += self._drift * PERIOD
        fate = self._chance.random() * 86_400 / PERIOD / 6  # six faults a day
        if fate < 1:
            self._error = self._chance.choice(
                [
                    0.0,
                    self._error - self._chance.uniform(2, 50),
                    self._error - 3_600,
                    self._error + 3_600,
                    (datetime(2020, 2, 7, tzinfo=UTC) - at(second)).total_seconds(),
                    self._error - self._chance.uniform(2, 1e6),
                ]
            )
        return second + self._error


def faulty_week(seed: int) -> Iterator[tuple[Batch, dict[str, float], bool]]:
    """Batches of a week with up to four people, the truth so far, and whether the daemon restarts before the batch."""
    chance = random.Random(seed)
    clock = FaultyClock(chance)
    truth = dict.fromkeys(EMOTIONS, 0.0)
    people: dict[str, list[float]] = {}
    for number in range(1, round(WEEK / PERIOD) + 1):
        second = number * PERIOD
        if chance.random() < PERIOD / 60:
            people[f"p{number}"] = [0.0] * 4
        if people and (len(people) > 4 or chance.random() < PERIOD / 60):
            del people[next(iter(people))]
        if chance.random() < PERIOD / 43_200:
            people = {person_id: [0.0] * 4 for person_id in people}  # the device program restarts its counters
        for counters in people.values():
            index = int(second / 600) % 4
            counters[index] += PERIOD
            truth[EMOTIONS[index]] += PERIOD
        stamp, arrival = at(clock.stamp(second)), at(second)
        skew = None
        if not EARLIEST_TIMESTAMP <= stamp <= arrival + MAX_CLOCK_SKEW:
            stamp, skew = arrival, stamp - arrival
        shown = {person_id: Cumulative(*counters) for person_id, counters in people.items()}
        yield Batch(DEVICE, stamp, shown, arrival, skew), truth, chance.random() < PERIOD / 86_400


@pytest.mark.parametrize(("seed", "totals_only"), [(0, False), (1, True)])
def test_a_week_with_a_faulty_clock_has_its_truth_within_one_percent(seed: int, totals_only: bool) -> None:
    daemon = Daemon(totals_only=totals_only)
    truth: dict[str, float] = {}
    for batch, so_far, restarts in faulty_week(seed):
        truth = so_far
        assert batch.received_at is not None
        if restarts:
            daemon.restart()
        daemon.commit(batch, now=batch.received_at)
        if len(daemon.people) > 100:
            daemon.people = dict(list(daemon.people.items())[-20:])

    assert len(daemon.fallen) > 5
    assert max(daemon.covered.values()) <= 60 + 1e-6
    assert dict(zip(EMOTIONS, daemon.shown, strict=True)) == pytest.approx(truth, rel=0.01)
