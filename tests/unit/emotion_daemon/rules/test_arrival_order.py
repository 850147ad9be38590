"""Batches that arrived in order, of devices whose clock was wrong for a while."""

from datetime import UTC, datetime, timedelta

import pytest

from emotion_daemon.rules import arrival_order
from emotion_daemon.rules.arrival_order import ArrivalOrder
from shared.batch import Batch

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def believed(stamp: datetime, device_id: str = "jetson_1") -> Batch:
    return Batch(device_id, stamp, {}, NOON)


def replaced(arrival: datetime, device_id: str = "jetson_1") -> Batch:
    """A batch of a clock that cannot be right, which got the time of its arrival."""
    return Batch(device_id, arrival, {}, arrival, clock_skew=timedelta(days=-20_000))


def test_a_batch_with_a_right_clock_stays_as_it_is() -> None:
    order = ArrivalOrder()
    batches = [believed(at(2)), believed(at(1))]

    assert [order.settle(batch, received_at=at(200)) for batch in batches] == batches


def test_what_waited_behind_a_wrong_clock_is_no_older_than_that() -> None:
    order = ArrivalOrder()
    settled = [
        order.settle(batch, received_at=at(200)).timestamp
        for batch in (replaced(at(100)), believed(at(5)), believed(at(6)))
    ]

    assert settled == [at(100), at(100), at(100)]


def test_once_the_devices_own_stamps_are_later_they_count_again() -> None:
    order = ArrivalOrder()
    batches = [replaced(at(100)), believed(at(101)), believed(at(50))]

    assert [order.settle(batch, received_at=at(200)).timestamp for batch in batches] == [at(100), at(101), at(50)]


def test_a_stamp_that_was_replaced_under_a_wrong_clock_is_forgotten() -> None:
    order = ArrivalOrder()
    order.settle(replaced(at(100_000)), received_at=at(100_000))

    assert order.settle(believed(at(5)), received_at=at(6)).timestamp == at(5)


def test_a_clock_that_runs_too_far_ahead_goes_on_where_it_was_believed_last() -> None:
    order = ArrivalOrder()
    order.settle(believed(at(160)), received_at=at(100.5))

    settled = [order.settle(replaced(at(seconds)), received_at=at(seconds)).timestamp for seconds in (102, 130, 161)]

    assert settled == [at(160), at(160), at(161)]


def test_late_batches_of_a_clock_that_is_ahead_stay_late() -> None:
    order = ArrivalOrder()
    order.settle(believed(at(160)), received_at=at(100.5))

    assert order.settle(believed(at(150)), received_at=at(101)).timestamp == at(150)


def test_a_clock_here_that_is_set_back_a_little_makes_nothing_older() -> None:
    order = ArrivalOrder()
    order.settle(replaced(at(100)), received_at=at(100))

    assert order.settle(replaced(at(70)), received_at=at(70)).timestamp == at(100)


def test_other_devices_are_not_concerned() -> None:
    order = ArrivalOrder()
    order.settle(replaced(at(100)), received_at=at(200))

    assert order.settle(believed(at(5), "jetson_2"), received_at=at(200)).timestamp == at(5)


def test_how_many_devices_are_remembered_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival_order, "MAX_REMEMBERED", 2)
    order = ArrivalOrder()
    for number in range(3):
        order.settle(replaced(at(100), f"jetson_{number}"), received_at=at(200))
    settled = [order.settle(believed(at(5), f"jetson_{number}"), received_at=at(200)).timestamp for number in range(3)]

    assert settled == [at(100), at(100), at(5)]
