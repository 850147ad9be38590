"""The operator reads about an outage that fails again and again."""

import logging

import pytest

from emotion_daemon.monitoring.outage import MAX_REASONS, REMINDER_SECONDS, Outage

log = logging.getLogger("test")


@pytest.fixture
def outage(caplog: pytest.LogCaptureFixture) -> Outage:
    caplog.set_level(logging.INFO)
    return Outage(log, then="trying again")


def test_it_is_one_line_however_often_it_is_tried(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    for second in range(100):
        outage.failed("no broker", now=float(second))

    assert caplog.messages == ["no broker; trying again"]


def test_another_reason_is_a_line_of_its_own(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    for second in range(100):
        outage.failed("no broker" if second % 2 else "not authorized", now=float(second))

    assert caplog.messages == ["not authorized; trying again", "no broker; trying again"]


def test_reasons_that_are_new_each_time_are_not_a_line_each(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    for second in range(100):
        outage.failed(f"no answer to request {second}", now=float(second))

    assert len(caplog.messages) == MAX_REASONS


def test_outage_that_lasts_is_mentioned_again(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    for minute in range(11):
        outage.failed("no broker", now=minute * REMINDER_SECONDS / 5)

    assert caplog.messages == [
        "no broker; trying again",
        "no broker, for 300 s and 6 attempts now; trying again",
        "no broker, for 600 s and 11 attempts now; trying again",
    ]


def test_its_end_says_how_long_it_was(outage: Outage) -> None:
    outage.failed("no broker", now=10.0)
    outage.failed("no broker", now=11.0)

    assert outage.over(now=12.5) == 2.5


def test_where_there_was_none_there_is_no_end(outage: Outage) -> None:
    assert outage.began is None
    assert outage.over(now=1.0) == 0


def test_the_next_one_is_new(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    outage.failed("no broker", now=0.0)
    outage.over(now=1.0)
    outage.failed("no broker", now=2.0)

    assert caplog.messages == ["no broker; trying again"] * 2
    assert outage.attempts == 1
    assert outage.over(now=2.5) == 0.5
