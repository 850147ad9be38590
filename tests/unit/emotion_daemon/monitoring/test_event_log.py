"""What becomes a line in the log: each device's first time for a thing, then sums once a minute."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from emotion_daemon.monitoring import event_log
from emotion_daemon.monitoring.event_log import Notices
from shared.batch import Batch, Cumulative

STAMP = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def batch(
    device_id: str = "jetson_1", *, people: int = 2, skew: timedelta | None = None, ignored: str | None = None
) -> Batch:
    return Batch(device_id, STAMP, {str(number): Cumulative() for number in range(people)}, STAMP, skew, ignored)


def test_the_first_batch_of_a_device_is_a_line_and_later_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    for device_id in ("jetson_1", "jetson_1", "jetson_2", "jetson_1"):
        seen.accepted(batch(device_id))

    assert caplog.messages == [
        "first batch from jetson_1 since the start, with 2 people",
        "first batch from jetson_2 since the start, with 2 people",
    ]


def test_a_wrong_clock_is_a_warning_once_a_device(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    for _ in range(3):
        seen.accepted(batch(skew=timedelta(days=-1)))

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "the clock of jetson_1 is off by -86400 s" in warnings[0]


def test_unknown_fields_are_a_line_once_a_device(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    for _ in range(3):
        seen.accepted(batch(ignored="$.people[...].cumulative"))

    assert sum("sends more than this version knows" in line for line in caplog.messages) == 1
    assert "a field at $.people[...].cumulative." in caplog.text


def test_a_rejected_message_is_a_warning_once_a_topic_and_says_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    for topic in ("emotions/a/batch", "emotions/a/batch", "emotions/b/batch"):
        seen.rejected(topic, "not UTF-8 JSON")

    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "'emotions/a/batch': not UTF-8 JSON" in caplog.messages[0]
    assert "python -m emotion_admin dead-letters" in caplog.messages[0]


def test_a_line_break_in_what_a_device_sent_does_not_make_a_second_line(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    seen.rejected("emotions/a\nb/batch", "reason")

    assert all("\n" not in line for line in caplog.messages)


def test_an_answer_that_goes_nowhere_is_a_warning_once_a_device(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    for _ in range(3):
        seen.not_answered("jetson_1", "other/reply")

    (message,) = caplog.messages
    assert message.startswith("jetson_1 asks for answers on 'other/reply', which is not its reply topic")


def test_sums_are_reported_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=100)
    seen.accepted(batch(people=3))
    seen.accepted(batch(people=1, skew=timedelta(days=1), ignored="x"))
    seen.rejected("emotions/a/batch", "reason")
    caplog.clear()
    seen.report(now=159.9)
    before = list(caplog.messages)
    seen.report(now=160)

    assert before == []
    assert caplog.messages == [
        "in the last 60 s: 3 messages, 4 people, 1 with a wrong clock, 1 with unknown fields, 1 rejected"
    ]


def test_every_report_counts_from_the_last(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    seen.accepted(batch())
    seen.report(now=60)
    seen.accepted(batch())
    seen.accepted(batch())
    caplog.clear()
    seen.report(now=90)
    seen.report(now=121)

    assert caplog.messages == ["in the last 61 s: 2 messages, 4 people"]


def test_a_minute_without_messages_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    Notices(now=0).report(now=1_000)

    assert caplog.messages == []


def test_what_is_remembered_has_a_limit(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_REMEMBERED", 2)
    seen = Notices(now=0)
    for number in range(5):
        seen.accepted(batch(f"camera_{number}"))
    lines = len(caplog.messages)
    seen.report(now=60)

    assert lines == 2
    assert "5 messages" in caplog.text


def test_trouble_with_many_devices_is_some_lines_a_minute_and_the_others_come_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "LINES_A_REPORT", 3)
    seen = Notices(now=0)
    lines = []
    for minute in (1, 2):
        for number in range(5):
            seen.rejected(f"emotions/camera_{number}/batch", "not UTF-8 JSON")
        lines.append([line.split("'")[1] for line in caplog.messages if line.startswith("rejected a message")])
        caplog.clear()
        seen.report(now=60.0 * minute)

    assert lines == [[f"emotions/camera_{number}/batch" for number in shown] for shown in ([0, 1, 2], [3, 4])]


def test_a_long_topic_is_shown_and_remembered_by_its_beginning(caplog: pytest.LogCaptureFixture) -> None:
    seen = Notices(now=0)
    for number in range(3):
        seen.rejected("emotions/" + "x" * 60_000 + f"{number}/batch", "not a device id")

    (line,) = caplog.messages
    assert len(line) < 500
