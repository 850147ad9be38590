"""Batches add to the history: rules one by one, a bound that always holds, a simulated day and its truth."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import fsum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_daemon.rules.clock_fallback import Clocks, Row
from emotion_daemon.rules.fold import Folded, PersonKey, Report, StoredState, fold
from emotion_daemon.rules.history import LONGEST_GAP, SLACK, Minutes
from emotion_daemon.rules.listening import Listened
from emotion_device.workbench.simulator import SimulatedDevice, Troubles
from shared.batch import EMOTIONS, Batch, Cumulative

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
DEVICE = "jetson_1"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def batch(seconds: float, **happy: float) -> Batch:
    """A batch of `seconds` after noon, in which each named person has been happy for so long."""
    return batch_of(seconds, {person: Cumulative(happy=value) for person, value in happy.items()})


def batch_of(seconds: float, people: dict[str, Cumulative]) -> Batch:
    return Batch(DEVICE, at(seconds), people, at(seconds))


def sent_again(each: Batch) -> Batch:
    """The batch as the broker sends it once more: its first arrival is unknown."""
    return msgspec.structs.replace(each, received_at=None)


class Database:
    """The rows that daemons have stored."""

    def __init__(self) -> None:
        self.people: dict[PersonKey, Report] = {}
        self.devices: dict[str, datetime] = {}
        self.offsets: dict[str, timedelta] = {}
        self.arrivals: dict[str, datetime] = {}
        self.received_by: dict[str, Daemon] = {}
        self.minutes: dict[datetime, list[float]] = {}
        self.most_people: dict[datetime, int] = {}
        self.covered: dict[datetime, float] = {}

    @property
    def shown(self) -> float:
        """All seconds of the history."""
        return fsum(fsum(seconds) for seconds in self.minutes.values())


class Daemon:
    """Folds group after group over what the groups before have stored, and keeps the history."""

    def __init__(self, database: Database | None = None) -> None:
        self.database = database or Database()
        self.cut = 0.0
        self._rows: dict[str, Row] = {}
        self._spare: dict[PersonKey, Report] = {}
        self._listened: dict[str, Listened] = {}

    def commit(self, *batches: Batch) -> Folded:
        stored = self.database
        people = {key: self._with_spare(key, report) for key, report in stored.people.items()}
        elsewhere = {device_id for device_id, daemon in stored.received_by.items() if daemon is not self}
        clocks = Clocks(stored.offsets, stored.arrivals, self._rows, elsewhere)
        now = max((each.received_at or each.timestamp for each in batches), default=NOON)
        folded = fold(batches, StoredState(people, stored.devices, {}, clocks, now, listened=self._listened))
        self._listened.update(folded.listened)
        stored.people.update(folded.people)
        self._spare.update(folded.people)
        stored.offsets.update(folded.clocks.offsets)
        self._rows.update(folded.clocks.rows)
        for device_id, (heard, _) in folded.heard.items():
            if heard.received_at is not None:
                stored.arrivals[device_id] = heard.received_at
                stored.received_by[device_id] = self
        stored.devices.update((device_id, newest.timestamp) for device_id, newest in folded.devices.items())
        for _, minute, *seconds, most_people, covered in folded.minutes.rows():
            stored.covered[minute] = min(stored.covered.get(minute, 0.0) + covered, 60.0)
            sums = self.minutes.setdefault(minute, [0.0] * 4)
            self.minutes[minute] = [before + added for before, added in zip(sums, seconds, strict=True)]
            self.most_people[minute] = max(self.most_people.get(minute, 0), most_people)
        check_hours(folded.minutes)
        self.cut += fsum(folded.capped.values())
        return folded

    def restart(self) -> None:
        """A new process: what is stored is known, the time that people may make up for is not."""
        self._spare.clear()
        self._listened.clear()
        self._rows.clear()

    @property
    def minutes(self) -> dict[datetime, list[float]]:
        return self.database.minutes

    @property
    def most_people(self) -> dict[datetime, int]:
        return self.database.most_people

    @property
    def shown(self) -> float:
        """All seconds of the history."""
        return self.database.shown

    def _with_spare(self, key: PersonKey, report: Report) -> Report:
        """The report with the spare seconds that this daemon remembers, if no other one was faster."""
        own = self._spare.get(key)
        spare = own.spare if own is not None and own.last_seen == report.last_seen else 0.0
        return msgspec.structs.replace(report, spare=spare)

    def happy(self) -> dict[float, float]:
        """Minute, as seconds after noon, to happy seconds, where there are any."""
        return {
            (minute - NOON).total_seconds(): round(seconds[0], 6)
            for minute, seconds in self.minutes.items()
            if seconds[0]
        }


def check_hours(minutes: Minutes) -> None:
    """Check that the hours are the sums of the minutes."""
    expected: dict[tuple[str, datetime], list[float]] = {}
    for device_id, minute, *seconds, people, covered in minutes.rows():
        *sums, most_people, heard = expected.get(key := (device_id, minute.replace(minute=0)), [0.0] * 6)
        expected[key] = [
            *(a + b for a, b in zip(sums, seconds, strict=True)),
            max(most_people, people),
            heard + covered,
        ]
    hours = {(device_id, hour): values for device_id, hour, *values in minutes.hours()}
    assert hours == {key: pytest.approx(sums) for key, sums in expected.items()}


def history(*batches: Batch) -> Daemon:
    daemon = Daemon()
    for each in batches:
        daemon.commit(each)
    return daemon


class TestHowMuch:
    def test_what_a_person_has_more_than_in_the_batch_before_is_added(self) -> None:
        assert history(batch(0, anna=0), batch(1, anna=0.4), batch(2, anna=1.1)).happy() == {0: 1.1}

    def test_all_people_count(self) -> None:
        assert history(batch(0, anna=5, bert=7), batch(1, anna=6, bert=7.5)).happy() == {0: 1.5}

    def test_each_emotion_counts_for_itself(self) -> None:
        daemon = history(batch_of(0, {"anna": Cumulative()}), batch_of(2, {"anna": Cumulative(0.1, 0.2, 0.3, 0.4)}))

        assert daemon.minutes[NOON] == pytest.approx([0.1, 0.2, 0.3, 0.4])

    def test_the_first_batch_of_a_device_adds_nothing(self) -> None:
        assert history(batch(0, anna=3_600)).happy() == {}

    def test_who_appears_between_two_batches_has_been_there_since_the_one_before_at_most(self) -> None:
        assert history(batch(0), batch(1, anna=0.3, bert=500)).happy() == {0: 1.3}

    def test_a_counter_that_begins_anew_counts_whole(self) -> None:
        assert history(batch(0, anna=100), batch(1, anna=0.8)).happy() == {0: 0.8}

    def test_if_one_emotion_fell_all_of_them_began_anew(self) -> None:
        before, after = Cumulative(happy=50, sad=1), Cumulative(happy=1, sad=2)
        daemon = history(batch_of(0, {"anna": before}), batch_of(10, {"anna": after}))

        assert daemon.minutes[NOON] == pytest.approx([1, 2, 0, 0])

    def test_a_counter_that_drops_to_zero_and_comes_back_leaves_no_spike(self) -> None:
        daemon = history(batch(0, anna=100), batch(1, anna=0), batch(2, anna=102))

        assert daemon.happy() == {0: 2.0}
        assert daemon.cut == pytest.approx(100)

    def test_a_counter_that_was_rounded_down_did_not_begin_anew(self) -> None:
        assert history(batch(0, anna=100.0004), batch(10, anna=100)).happy() == {}

    def test_more_than_the_time_that_has_passed_is_cut_off(self) -> None:
        daemon = history(batch(0, anna=0), batch(1, anna=1.5), batch(2, anna=3))

        assert daemon.happy() == {0: 2.0}
        assert daemon.cut == pytest.approx(1.0)

    def test_what_is_cut_off_keeps_the_shares_of_the_emotions(self) -> None:
        daemon = history(batch_of(0, {"anna": Cumulative()}), batch_of(1, {"anna": Cumulative(6, 2)}))

        assert daemon.minutes[NOON] == pytest.approx([0.75, 0.25, 0, 0])

    def test_a_stamp_that_came_early_is_made_up_for(self) -> None:
        daemon = history(batch(0, anna=0), batch(1, anna=0.5), batch(1.9, anna=1.5), batch(3, anna=2.5))

        assert daemon.happy() == {0: 2.5}

    def test_two_batches_in_one_second_of_a_clock_without_fractions_both_count(self) -> None:
        daemon = history(batch(0, anna=0), batch(2, anna=1), batch(2, anna=2), batch(3, anna=3))

        assert daemon.happy() == {0: 3.0}

    def test_only_so_much_can_be_made_up_for(self) -> None:
        daemon = history(batch(0, anna=0), batch(30, anna=0), batch(31, anna=31))

        assert daemon.happy() == {0: 1 + SLACK}

    def test_who_comes_back_after_an_hour_has_not_been_there_meanwhile(self) -> None:
        present = [batch(second) for second in range(1, 3_600)]
        daemon = history(batch(0, anna=10), *present, batch(3_600, anna=500))

        assert daemon.shown == 1 + SLACK

    def test_a_device_may_report_its_people_in_turn(self) -> None:
        in_turn = (batch(n / 2, **{("anna", "bert")[n % 2]: n / 2}) for n in range(41))

        assert history(*in_turn).shown == pytest.approx(39, abs=1)

    def test_times_beyond_all_measure_add_what_is_possible(self) -> None:
        daemon = history(batch(0, anna=0), batch_of(1, {"anna": Cumulative(1e308, 1e308, 1e308, 1e308)}))

        assert daemon.shown <= 1


class TestWhichMinute:
    def test_what_was_shown_across_a_full_minute_is_shared_out(self) -> None:
        assert history(batch(50, anna=0), batch(70, anna=10)).happy() == {0: 5, 60: 5}

    def test_the_stamp_of_a_full_minute_belongs_to_the_one_before(self) -> None:
        assert history(batch(59, anna=0), batch(60, anna=1)).happy() == {0: 1}

    def test_a_camera_that_was_offline_for_two_hours_fills_two_hours(self) -> None:
        daemon = history(batch(0, anna=0), batch(7_200, anna=7_200))

        assert daemon.happy() == {minute * 60: 60 for minute in range(120)}

    def test_a_silence_of_more_than_a_day_fills_the_last_day(self) -> None:
        daemon = history(batch(0, anna=0), batch(10 * 86_400, anna=10 * 86_400))

        assert len(daemon.happy()) == 1_440
        assert daemon.shown == pytest.approx(LONGEST_GAP)

    def test_a_silence_in_which_nothing_was_shown_adds_one_row(self) -> None:
        assert list(history(batch(0, anna=1), batch(7_200, anna=1)).minutes) == [at(0), at(7_200)]

    def test_the_most_people_are_those_of_one_batch(self) -> None:
        daemon = history(batch(0, anna=1, bert=1), batch(1, carl=1), batch(61, carl=2))

        assert daemon.most_people == {at(0): 2, at(60): 1}

    def test_people_whose_counters_rest_are_not_in_view(self) -> None:
        daemon = history(batch(0, anna=1, bert=0), batch(9, anna=1, bert=0), batch(60, anna=1, bert=0))

        assert daemon.most_people == {at(0): 1, at(60): 0}

    def test_a_batch_without_people_adds_its_minute_and_no_seconds(self) -> None:
        nothing = [0.0] * 4
        assert history(batch(0), batch(1), batch(61)).minutes == {at(0): nothing, at(60): nothing}


class TestWhatComesTwiceOrLate:
    def test_a_batch_that_comes_twice_adds_nothing(self) -> None:
        daemon = history(batch(0, anna=0), batch(1, anna=1), batch(1, anna=1), batch(0, anna=0), batch(2, anna=2))

        assert daemon.happy() == {0: 2}

    def test_a_group_that_comes_twice_adds_nothing(self) -> None:
        group = [batch(n, anna=n) for n in range(90)]
        daemon = Daemon()
        daemon.commit(*group)
        before = daemon.shown
        daemon.restart()
        daemon.commit(*map(sent_again, group))

        assert daemon.shown == before == pytest.approx(89)

    def test_a_late_batch_adds_nothing_for_who_was_reported_since(self) -> None:
        assert history(batch(0, anna=0), batch(2, anna=2), batch(1, anna=1), batch(3, anna=3)).happy() == {0: 3}

    def test_a_late_batch_counts_for_who_was_not(self) -> None:
        assert history(batch(0, anna=0), batch(2), batch(1, anna=1)).happy() == {0: 1}

    def test_a_daemon_that_was_away_while_the_broker_kept_the_batches_misses_nothing(self) -> None:
        daemon = history(batch(0, anna=0), batch(1, anna=1))
        daemon.restart()
        daemon.commit(*(batch(n, anna=n) for n in range(2, 601)))

        assert daemon.happy() == {minute * 60: 60 for minute in range(10)}

    def test_a_daemon_that_was_away_while_nothing_was_kept_fills_the_time_between(self) -> None:
        daemon = history(batch(0, anna=0), batch(1, anna=1))
        daemon.restart()
        daemon.commit(batch(601, anna=601))

        assert daemon.shown == pytest.approx(601)
        assert max(daemon.happy().values()) <= 60


# --- a bound that always holds --------------------------------------------------------------------------------------

_seconds = st.floats(0, 200) | st.sampled_from([0.0, 1.0, 1e9, 1e308])
_people = st.dictionaries(st.sampled_from("abc"), st.builds(Cumulative, *[_seconds] * 4), max_size=3)
_batches = st.lists(st.tuples(st.floats(0, 400) | st.integers(0, 20), _people), min_size=1, max_size=20)


@given(_batches, st.lists(st.integers(0, 20), max_size=4), st.booleans())
def test_the_sum_of_a_history_never_exceeds_people_times_elapsed_time(
    reported: list[tuple[float, dict[str, Cumulative]]], cuts: list[int], in_order: bool
) -> None:
    """It holds for any reports in any order and grouping, with a new daemon at each `cut`."""
    if in_order:
        reported.sort(key=lambda each: each[0])
    batches = [sent_again(batch_of(seconds, people)) for seconds, people in reported]
    daemon = Daemon()
    for begin, end in pairwise(sorted({0, *cuts, len(batches)})):
        daemon.commit(*batches[begin:end])
        daemon.restart()
    people = {person for one in batches for person in one.people}
    stamps = [one.timestamp for one in batches]

    assert daemon.shown <= len(people) * (max(stamps) - min(stamps)).total_seconds() + 1e-6


@given(_batches, st.integers(0, 20))
def test_where_a_stream_is_cut_into_groups_makes_no_difference(
    reported: list[tuple[float, dict[str, Cumulative]]], cut: int
) -> None:
    batches = [sent_again(batch_of(seconds, people)) for seconds, people in reported]
    whole, parts = Daemon(), Daemon()
    whole.commit(*batches)
    for part in (batches[:cut], batches[cut:]):
        if part:
            parts.commit(*part)

    assert parts.most_people == whole.most_people
    assert parts.minutes.keys() == whole.minutes.keys()
    for minute, seconds in whole.minutes.items():
        assert parts.minutes[minute] == pytest.approx(seconds)


# --- a simulated day ------------------------------------------------------------------------------------------------

DAY = 86_400


def simulated(period: float, troubles: Troubles) -> tuple[SimulatedDevice, Iterable[Batch]]:
    device = SimulatedDevice(DEVICE, seed=7, index=0, most_people=5, troubles=troubles)

    def batches() -> Iterable[Batch]:
        for number in range(1, round(DAY / period) + 1):
            step = device.step(timedelta(seconds=period), now=at(number * period))
            people = {person_id: Cumulative(**shown) for person_id, shown in step.people.items()}
            yield Batch(DEVICE, step.timestamp, people, at(number * period))

    return device, batches()


def replay(daemon: Daemon, batches: Iterable[Batch], *, group: int = 50) -> None:
    waiting: list[Batch] = []
    for each in batches:
        waiting.append(each)
        if len(waiting) == group:
            daemon.commit(*waiting)
            waiting.clear()
    daemon.commit(*waiting)


def sums(daemon: Daemon) -> dict[str, float]:
    columns: Sequence[Iterable[float]] = list(zip(*daemon.minutes.values(), strict=True))
    return {emotion: fsum(column) for emotion, column in zip(EMOTIONS, columns, strict=True)}


@pytest.mark.parametrize(
    "troubles",
    [
        Troubles(),
        Troubles(restart_every=timedelta(minutes=10)),
        Troubles(restart_every=timedelta(seconds=90), clock_skew=timedelta(seconds=-3_000)),
    ],
    ids=["no fault", "restarts", "restarts and a wrong clock"],
)
def test_the_history_of_a_simulated_day_is_its_truth_within_one_percent(troubles: Troubles) -> None:
    device, batches = simulated(1.0, troubles)
    daemon = Daemon()
    replay(daemon, batches)

    assert sums(daemon) == pytest.approx(device.truth, rel=0.01)


def test_a_day_in_which_the_daemon_was_away_for_hours_is_still_its_truth() -> None:
    device, batches = simulated(1.0, Troubles(restart_every=timedelta(minutes=30)))
    daemon = Daemon()
    for number, each in enumerate(batches):
        if number % 7_000 == 0:
            daemon.restart()
        daemon.commit(each)
        if number % 500 == 0:
            daemon.commit(each)  # and again

    assert sums(daemon) == pytest.approx(device.truth, rel=0.01)


def test_no_minute_of_a_simulated_day_has_more_than_its_people_can_show() -> None:
    _, batches = simulated(1.0, Troubles(restart_every=timedelta(minutes=10)))
    daemon = Daemon()
    replay(daemon, batches)

    assert all(fsum(seconds) <= 60 * 5 + 5 * SLACK for seconds in daemon.minutes.values())
