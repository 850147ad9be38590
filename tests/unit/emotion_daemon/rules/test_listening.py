"""Covered time and the emotions of the last seconds, against plain models."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from math import fsum
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotion_daemon.rules.fold import Folded, StoredState, fold
from emotion_daemon.rules.listening import LONGEST_COVERED, MOST_SILENCES, NEVER, NOW_SECONDS
from emotion_daemon.rules.totals_fold import fold_totals
from shared.batch import EMOTIONS, Batch, Cumulative
from tests.unit.emotion_daemon.rules import test_clock_fallback as clocks
from tests.unit.emotion_daemon.rules.test_history import DEVICE, Daemon, Database, at, batch, batch_of, sent_again


def covered_minutes(times: Iterable[float]) -> dict[datetime, float]:
    """The model of covered time: all of it between two neighbouring timestamps, in the minutes that it falls into."""
    found: dict[datetime, float] = {}
    for begin, end in pairwise(sorted(times)):
        if end - begin > LONGEST_COVERED:
            continue
        for minute in range(int(begin // 60), int(end // 60) + 1):
            share = min(end, 60 * minute + 60) - max(begin, 60 * minute)
            found[at(60 * minute)] = found.get(at(60 * minute), 0.0) + share
    return without_zeros(found)


def without_zeros(minutes: dict[datetime, float]) -> dict[datetime, float]:
    return {minute: round(seconds, 6) for minute, seconds in minutes.items() if round(seconds, 6)}


def empty(times: Iterable[float]) -> list[Batch]:
    """Batches without people. Their arrivals are unknown, so that no order of them shows a clock that was set back."""
    return [sent_again(batch(seconds)) for seconds in times]


_times = st.lists(st.integers(0, 2_000).map(lambda quarters: quarters / 4), min_size=1, max_size=30)
_cuts = st.lists(st.integers(0, 30), max_size=4)


def groups(batches: Sequence[Batch], cuts: Iterable[int]) -> Iterable[Sequence[Batch]]:
    return (batches[begin:end] for begin, end in pairwise(sorted({0, *cuts, len(batches)})) if begin < end)


class TestCoveredTime:
    @given(_times, _cuts)
    def test_is_the_time_between_neighbours_in_any_order_and_grouping(
        self, times: list[float], cuts: list[int]
    ) -> None:
        daemon = Daemon()
        for group in groups(empty(times), [cut for cut in cuts if cut <= len(times)]):
            daemon.commit(*group)

        since_the_first = (seconds for seconds in times if seconds >= times[0])
        assert without_zeros(daemon.database.covered) == covered_minutes(since_the_first)

    @given(_times, _cuts)
    def test_is_the_same_after_restarts_if_the_batches_come_in_order(self, times: list[float], cuts: list[int]) -> None:
        daemon = Daemon()
        for group in groups(empty(sorted(times)), [cut for cut in cuts if cut <= len(times)]):
            daemon.commit(*group)
            daemon.restart()

        assert without_zeros(daemon.database.covered) == covered_minutes(times)

    @given(_times, _cuts)
    def test_is_never_more_than_that(self, times: list[float], cuts: list[int]) -> None:
        """It is less if the daemon restarts, as it no longer knows the silences of late batches."""
        daemon = Daemon()
        for group in groups(empty(times), [cut for cut in cuts if cut <= len(times)]):
            daemon.commit(*group, *group[:2])
            daemon.restart()
        expected = covered_minutes(times)

        assert all(seconds <= expected[at] for at, seconds in without_zeros(daemon.database.covered).items())

    def test_an_empty_batch_has_a_minute_of_its_own(self) -> None:
        daemon = Daemon()
        daemon.commit(batch(0))
        daemon.commit(batch(3_600))

        assert daemon.database.covered == {at(0): 0.0, at(3_600): 0.0}

    def test_a_new_device_is_known_not_to_have_been_heard_before(self) -> None:
        """Of a device that is stored already, a new process does not know it."""
        daemon = Daemon()
        first = daemon.commit(batch(0)).listened[DEVICE]
        daemon.restart()
        second = daemon.commit(batch(5)).listened[DEVICE]

        assert (first.since, second.since) == (NEVER, at(5))

    def test_of_many_silences_the_newest_are_remembered(self) -> None:
        daemon = Daemon()
        times = [100.0 * number for number in range(MOST_SILENCES + 2)]
        for each in empty(times):
            daemon.commit(each)
        for each in empty([50.0, 6_350.0]):
            daemon.commit(each)

        assert without_zeros(daemon.database.covered) == covered_minutes([6_300.0, 6_350.0, 6_400.0])

    @pytest.mark.parametrize("totals_only", [False, True])
    @pytest.mark.parametrize("step", clocks.STEPS)
    def test_continues_if_a_clock_was_set_back(self, step: float, totals_only: bool) -> None:
        daemon = clocks.after_ten_seconds(totals_only=totals_only)
        for second in range(11, 131):
            daemon.hear(second - step, {"anna": second}, arrival=second)

        assert without_zeros(daemon.covered) == {at(0): 60, at(60): 60, at(120): 10}

    def test_has_the_backlog_of_another_broker_once(self) -> None:
        """The device moved at 0 s, and at 500 s. The first daemon restarts before it gets the backlog."""
        database = Database()
        first, second = Daemon(database), Daemon(database)
        first.commit(batch(0))
        second.commit(batch(500))
        first.restart()
        for seconds in range(5, 440, 5):
            first.commit(msgspec.structs.replace(batch(seconds), received_at=at(501)))

        assert without_zeros(database.covered) == covered_minutes(range(5, 440, 5))


Shown = tuple[float, float, Sequence[float]]
"""Two timestamps, and the seconds of each emotion that the people showed between them."""


def shown_now(shown: Sequence[Shown]) -> list[float]:
    """The model of `now`: of all that was shown the share of the last seconds."""
    end = shown[-1][1] if shown else 0.0
    sums = [0.0] * len(EMOTIONS)
    for since, until, seconds in shown:
        begin = max(since, end - NOW_SECONDS)
        share = (until - begin) / (until - since) if until > since else float(until > end - NOW_SECONDS)
        sums = [before + more * max(share, 0.0) for before, more in zip(sums, seconds, strict=True)]
    return sums


_steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.25, 1.0, 1.0, 1.0, 4.0, 15.0, 60.0, 61.0]),
        st.dictionaries(st.sampled_from("abc"), st.sampled_from(EMOTIONS), max_size=3),
        st.sampled_from([False] * 9 + [True]),
    ),
    min_size=1,
    max_size=40,
)
"""Seconds since the batch before, what each person shows meanwhile, and whether the daemon restarts before it."""


class TestNow:
    @given(_steps, st.sampled_from([fold, fold_totals]))
    def test_is_the_sliding_sum_of_what_the_history_counts(
        self, steps: list[tuple[float, dict[str, str], bool]], folding: Callable[..., Folded]
    ) -> None:
        state = StoredState()
        counters: dict[str, dict[str, float]] = {}
        shown: list[Shown] = []
        now = 0.0
        for passed, people, restarts in steps:
            if restarts:
                state, shown = state._replace(listened={}), []
            for person, emotion in people.items():
                seconds = counters.setdefault(person, dict.fromkeys(EMOTIONS, 0.0))
                seconds[emotion] += passed
            reported = {person: Cumulative(**counters[person]) for person in people}
            folded = folding([batch_of(now + passed, reported)], state)
            added = [fsum(column) for column in zip(*(row[2:6] for row in folded.minutes.rows()), strict=True)]
            known = bool(state.devices) and passed <= LONGEST_COVERED
            shown = [*shown, (now, now + passed, added)] if known else []
            now += passed

            assert folded.listened[DEVICE].now == pytest.approx(shown_now(shown))
            state = StoredState(
                {**state.people, **folded.people}, {DEVICE: at(now)}, listened={**state.listened, **folded.listened}
            )

    @given(_steps, _cuts)
    def test_is_the_same_in_any_grouping(
        self, steps: list[tuple[float, dict[str, str], bool]], cuts: list[int]
    ) -> None:
        batches, now = [], 0.0
        for passed, people, _ in steps:
            now += passed
            batches.append(batch_of(now, {person: Cumulative(happy=now) for person in people}))
        whole, parts = Daemon(), Daemon()
        expected = whole.commit(*batches).listened[DEVICE]
        for group in groups(batches, [cut for cut in cuts if cut <= len(batches)]):
            found = parts.commit(*group).listened[DEVICE]

        assert found.now == pytest.approx(expected.now)
        assert (found.until, found.since, found.silences) == (expected.until, expected.since, expected.silences)

    def test_of_many_batches_a_second_few_parts_are_remembered(self) -> None:
        """It differs from the exact sum by the end of one part at most."""
        daemon, chance = Daemon(), Random(7)
        now = 0.0
        for _ in range(2_000):
            now += chance.uniform(0.001, 0.04)
            listened = daemon.commit(batch(now, anna=now)).listened[DEVICE]

        assert len(listened.parts) <= 201
        assert listened.now == pytest.approx((10, 0, 0, 0), abs=0.1)

    def test_a_late_batch_adds_nothing(self) -> None:
        daemon = Daemon()
        daemon.commit(batch(0, anna=0), batch(5, anna=5))
        folded = daemon.commit(batch(4, bert=4))

        assert folded.listened[DEVICE].now == (5, 0, 0, 0)

    def test_begins_anew_if_another_daemon_received_the_batch_before(self) -> None:
        database = Database()
        first, second = Daemon(database), Daemon(database)
        for seconds in range(6):
            first.commit(batch(seconds, anna=seconds))
        second.commit(batch(6, anna=6))

        assert first.commit(batch(8, anna=8)).listened[DEVICE].now == (2, 0, 0, 0)


class TestEmotionOfAPerson:
    @pytest.mark.parametrize(
        ("before", "after", "now"),
        [
            (None, Cumulative(1, 0, 0, 2), "neutral"),
            (Cumulative(100), Cumulative(100.5, 1), "sad"),
            (Cumulative(100), Cumulative(101, 1, 1, 1), "happy"),
            (Cumulative(1), Cumulative(1, 0, 2, 2), "angry"),
            (Cumulative(100, 50), Cumulative(0, 3), "sad"),
            (Cumulative(1), Cumulative(1), None),
            (None, Cumulative(), None),
        ],
    )
    def test_is_the_one_that_grew_most(self, before: Cumulative | None, after: Cumulative, now: str | None) -> None:
        daemon = Daemon()
        daemon.commit(batch_of(0, {} if before is None else {"anna": before}))
        stored = daemon.database.people.get((DEVICE, "anna"))
        if stored is not None:
            daemon.database.people[DEVICE, "anna"] = msgspec.structs.replace(stored, emotion_now=None)
        daemon.commit(batch_of(10, {"anna": after}))

        assert daemon.database.people[DEVICE, "anna"].emotion_now == now

    def test_stays_while_nothing_grows_and_over_a_restart(self) -> None:
        daemon = Daemon()
        daemon.commit(batch(0, anna=0), batch(1, anna=1))
        daemon.restart()
        daemon.commit(batch(2, anna=1))
        daemon.commit(batch(1.5, anna=9))

        assert daemon.database.people[DEVICE, "anna"].emotion_now == "happy"
