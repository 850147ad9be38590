"""The simulated devices: what they report adds up, and the same seed tells the same story."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion_device.workbench.simulator import MALFORMATIONS, SimulatedBatch, SimulatedDevice, Troubles
from shared.batch import EMOTIONS, DecodeError, decode, encode

START = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

untimed = settings(deadline=None)  # the machine may be busy
seeds = st.integers(min_value=0, max_value=2**32)
steps = st.lists(st.timedeltas(min_value=timedelta(0), max_value=timedelta(seconds=90)), max_size=30)


def device(*, seed: int = 1, index: int = 0, most_people: int = 8, troubles: Troubles | None = None) -> SimulatedDevice:
    return SimulatedDevice("jetson_1", seed=seed, index=index, most_people=most_people, troubles=troubles)


def play(simulated: SimulatedDevice, elapsed: list[timedelta]) -> list[SimulatedBatch]:
    now, batches = START, []
    for step in elapsed:
        now += step
        batches.append(simulated.step(step, now=now))
    return batches


def microseconds(seconds: dict[str, float]) -> int:
    return sum(round(value * 1e6) for value in seconds.values())


@untimed
@given(seed=seeds, elapsed=steps)
def test_seconds_grow_by_exactly_the_time_that_passed(seed: int, elapsed: list[timedelta]) -> None:
    batches = play(device(seed=seed), elapsed)

    for step, (before, after) in zip(elapsed[1:], pairwise(batches), strict=True):
        for person_id in before.people.keys() & after.people.keys():
            grown = microseconds(after.people[person_id]) - microseconds(before.people[person_id])
            assert grown == step // timedelta(microseconds=1)


@untimed
@given(seed=seeds, elapsed=steps)
def test_seconds_of_an_emotion_never_decrease(seed: int, elapsed: list[timedelta]) -> None:
    batches = play(device(seed=seed), elapsed)

    for before, after in pairwise(batches):
        for person_id in before.people.keys() & after.people.keys():
            assert all(after.people[person_id][mood] >= before.people[person_id][mood] for mood in EMOTIONS)


@untimed
@given(seed=seeds, elapsed=steps)
def test_the_truth_is_the_sum_of_everyones_last_report(seed: int, elapsed: list[timedelta]) -> None:
    simulated = device(seed=seed)

    last: dict[str, dict[str, float]] = {}
    for batch in play(simulated, elapsed):
        last |= batch.people

    for emotion in EMOTIONS:
        assert simulated.truth[emotion] == pytest.approx(sum(person[emotion] for person in last.values()), abs=1e-3)


@untimed
@given(seed=seeds, elapsed=steps)
def test_the_same_seed_plays_the_same_lives(seed: int, elapsed: list[timedelta]) -> None:
    assert play(device(seed=seed), elapsed) == play(device(seed=seed), elapsed)


@untimed
@given(seed=seeds)
def test_every_device_has_a_stream_of_its_own(seed: int) -> None:
    first = play(device(seed=seed, index=0), [SECOND] * 60)
    second = play(device(seed=seed, index=1), [SECOND] * 60)

    assert first != second


@untimed
@given(seed=seeds, most_people=st.integers(0, 12))
def test_no_more_people_are_in_view_than_asked_for(seed: int, most_people: int) -> None:
    batches = play(device(seed=seed, most_people=most_people), [SECOND] * 120)

    assert all(len(batch.people) <= most_people for batch in batches)


def test_people_come_and_leave_and_change_their_mood() -> None:
    batches = play(device(), [SECOND] * 300)

    seen = {person_id for batch in batches for person_id in batch.people}
    moods = {mood for person in batches[-1].people.values() for mood, seconds in person.items() if seconds > 0}
    assert len(seen) > 10
    assert "1" not in batches[-1].people
    assert len(moods) > 1


@untimed
@given(seed=seeds)
def test_a_restart_counts_ids_from_1_and_seconds_from_0(seed: int) -> None:
    troubles = Troubles(restart_every=timedelta(seconds=10))

    batches = play(device(seed=seed, troubles=troubles), [SECOND] * 11)

    in_view = batches[10].people
    assert list(in_view) == [str(number) for number in range(1, len(in_view) + 1)]
    assert all(microseconds(seconds) == 1_000_000 for seconds in in_view.values())


@untimed
@given(seed=seeds)
def test_the_truth_outlives_a_restart(seed: int) -> None:
    troubles = Troubles(restart_every=timedelta(seconds=10))
    simulated = device(seed=seed, troubles=troubles)

    lived = sum(len(batch.people) for batch in play(simulated, [SECOND] * 60))

    assert sum(simulated.truth.values()) == pytest.approx(lived)


def test_a_skewed_clock_shows_in_the_stamps_only() -> None:
    skew = timedelta(hours=-1)

    right = play(device(), [SECOND] * 20)
    skewed = play(device(troubles=Troubles(clock_skew=skew)), [SECOND] * 20)

    assert [batch.timestamp + skew for batch in right] == [batch.timestamp for batch in skewed]
    assert [batch.people for batch in right] == [batch.people for batch in skewed]


def test_malformed_messages_come_in_their_share_and_change_no_life() -> None:
    well = play(device(), [SECOND] * 1_000)
    troubled = play(device(troubles=Troubles(malformed=0.1)), [SECOND] * 1_000)

    assert [batch.people for batch in well] == [batch.people for batch in troubled]
    assert all(batch.malformed is None for batch in well)
    assert 50 < sum(batch.malformed is not None for batch in troubled) < 150


@pytest.mark.parametrize("number", range(len(MALFORMATIONS)))
def test_no_malformed_message_is_a_batch(number: int) -> None:
    payload = MALFORMATIONS[number]("jetson_1", START)

    with pytest.raises(DecodeError):
        decode(payload, device_id="jetson_1", received_at=START)


@untimed
@given(seed=seeds)
def test_the_daemon_takes_what_a_device_reports(seed: int) -> None:
    for batch in play(device(seed=seed), [SECOND] * 30):
        payload = encode("jetson_1", batch.timestamp, batch.people)
        decoded = decode(payload, device_id="jetson_1", received_at=batch.timestamp)

        assert decoded.people.keys() == batch.people.keys()
        assert decoded.ignored is None
