"""Events become lines in the log: each device's first event of a kind, then sums once a minute."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from emotion_daemon.monitoring import event_log
from emotion_daemon.monitoring.event_log import EventLog
from shared.batch import Batch, Cumulative, decode
from tests.groups import committed, rejection

STAMP = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def batch(
    device_id: str = "jetson_1", *, people: int = 2, skew: timedelta | None = None, ignored: str | None = None
) -> Batch:
    return Batch(device_id, STAMP, {str(number): Cumulative() for number in range(people)}, STAMP, skew, ignored)


def test_the_first_batch_of_a_device_is_a_line_and_later_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for device_id in ("jetson_1", "jetson_1", "jetson_2", "jetson_1"):
        events.committed(committed(batch(device_id)))

    assert caplog.messages == [
        "first batch from jetson_1 since the start, with 2 people",
        "first batch from jetson_2 since the start, with 2 people",
    ]


def test_a_wrong_clock_is_a_warning_once_a_device(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for _ in range(3):
        events.committed(committed(batch(skew=timedelta(days=-1))))

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "the clock of jetson_1 is off by -86400 s" in warnings[0]


NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)


def local_time(hours: float, *, seconds: int, offset: str = "") -> EventLog:
    """The log after a batch a second whose timestamps are off by so many hours."""
    events = EventLog(now=0)
    for second in range(seconds):
        received_at = NOON + timedelta(seconds=second)
        text = (received_at + timedelta(hours=hours)).replace(tzinfo=None).isoformat() + offset
        payload = f'{{"device_id":"jetson_1","timestamp":"{text}","people":[]}}'.encode()
        events.committed(committed(decode(payload, device_id="jetson_1", received_at=received_at)))
    return events


@pytest.mark.parametrize("hours", [-5, 2, 5.5])
def test_local_time_without_an_offset_is_named_once(hours: float, caplog: pytest.LogCaptureFixture) -> None:
    local_time(hours, seconds=90)

    lines = [each for each in caplog.messages if "most likely they are local time" in each]
    assert len(lines) == 1
    assert f"off by {hours:+g} hours" in lines[0]


@pytest.mark.parametrize(("hours", "seconds", "offset"), [(-5, 50, ""), (-5, 90, "Z"), (-4.8, 90, ""), (0, 90, "")])
def test_what_may_have_waited_or_has_an_offset_is_no_local_time(
    hours: float, seconds: int, offset: str, caplog: pytest.LogCaptureFixture
) -> None:
    local_time(hours, seconds=seconds, offset=offset)

    assert not [each for each in caplog.messages if "local time" in each]


@pytest.mark.parametrize(("a_timestamp", "names"), [(1, 0), (2, 0), (60, 1), (1_000, 1)])
def test_a_clock_that_stands_still_is_named_once(
    a_timestamp: int, names: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A timestamp changes after so many seconds."""
    events = EventLog(now=0)
    for second in range(200):
        stamp = NOON + timedelta(seconds=second // a_timestamp * a_timestamp)
        events.committed(committed(Batch("jetson_1", stamp, {}, NOON + timedelta(seconds=second))))
        events.committed(committed(Batch("jetson_1", NOON, {}, None)))  # which the broker sends again

    assert sum("jetson_1 sends one timestamp for 10 s and longer" in line for line in caplog.messages) == names


def test_a_clock_that_was_set_back_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for second in range(3):
        group = committed(batch())
        group.folded.clocks.fallen["jetson_1"] = timedelta(seconds=3_000 + second)
        events.committed(group)

    assert [each.partition(".")[0] for each in caplog.messages if "set back" in each] == [
        "the clock of jetson_1 was set back by 3000 s"
    ]


def test_unknown_fields_are_a_line_once_a_device(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for _ in range(3):
        events.committed(committed(batch(ignored="$.people[...].cumulative")))

    assert sum("sends a field that this version does not know" in line for line in caplog.messages) == 1
    assert "ignores, at $.people[...].cumulative." in caplog.text


def test_a_rejected_message_is_a_warning_once_a_topic_and_says_where_to_look(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for topic in ("emotions/a/batch", "emotions/a/batch", "emotions/b/batch"):
        events.committed(committed(rejections=[rejection(topic)]))

    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "'emotions/a/batch': not UTF-8 JSON" in caplog.messages[0]
    assert "scripts/dead-letters list" in caplog.messages[0]


def test_a_line_break_in_what_a_device_sent_does_not_make_a_second_line(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    events.committed(committed(rejections=[rejection("emotions/a\nb/batch")]))

    assert all("\n" not in line for line in caplog.messages)


def test_an_answer_that_goes_nowhere_is_a_warning_once_a_device(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for _ in range(3):
        events.not_answered("jetson_1", "other/reply")

    (message,) = caplog.messages
    assert message.startswith("jetson_1 asks for replies on 'other/reply', which is not its reply topic")


def test_capped_seconds_are_a_line_once_a_device_if_they_are_many(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for _ in range(2):
        events.committed(committed(capped={"jetson_1": 9.9, "jetson_2": 11.2}))

    assert [line.partition(";")[0] for line in caplog.messages] == [
        "jetson_2 reports 11 s more than have passed since its previous batch"
    ]


def test_sums_are_reported_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=100)
    events.committed(committed(batch("jetson_2", people=3), statuses=2))
    odd = batch(people=1, skew=timedelta(days=1), ignored="x")
    events.committed(
        committed(
            odd, rejections=[rejection("emotions/a/batch")], capped={"jetson_1": 1.6, "jetson_2": 9}, suppressed=5
        )
    )
    caplog.clear()
    events.log_sums(now=159.9)
    before = list(caplog.messages)
    events.log_sums(now=160)

    assert before == []
    assert caplog.messages == [
        "in the last 60 s: 3 messages, 4 people, 2 statuses, 1 rejected, 5 entries of erased people suppressed, "
        "1 with a wrong clock, 1 with unknown fields, 11 seconds capped"
    ]


def test_every_report_counts_from_the_last(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    events.committed(committed(batch()))
    events.log_sums(now=60)
    events.committed(committed(batch(), batch()))
    caplog.clear()
    events.log_sums(now=90)
    events.log_sums(now=121)

    assert caplog.messages == ["in the last 61 s: 2 messages, 4 people"]


def test_a_minute_without_messages_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    EventLog(now=0).log_sums(now=1_000)

    assert caplog.messages == []


def test_what_is_remembered_has_a_limit(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_REMEMBERED", 2)
    events = EventLog(now=0)
    for number in range(5):
        events.committed(committed(batch(f"camera_{number}")))
    lines = len(caplog.messages)
    events.log_sums(now=60)

    assert lines == 2
    assert "5 messages" in caplog.text


def test_faults_of_many_devices_are_some_lines_a_minute_and_the_others_come_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MAX_LINES", 3)
    events = EventLog(now=0)
    lines = []
    for minute in (1, 2):
        for number in range(5):
            events.committed(committed(rejections=[rejection(f"emotions/camera_{number}/batch")]))
        lines.append([line.split("'")[1] for line in caplog.messages if line.startswith("rejected a message")])
        caplog.clear()
        events.log_sums(now=60.0 * minute)

    assert lines == [[f"emotions/camera_{number}/batch" for number in shown] for shown in ([0, 1, 2], [3, 4])]


def test_a_long_topic_is_shown_and_remembered_by_its_beginning(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(now=0)
    for number in range(3):
        events.committed(committed(rejections=[rejection("emotions/" + "x" * 60_000 + f"{number}/batch")]))

    (line,) = caplog.messages
    assert len(line) < 500
