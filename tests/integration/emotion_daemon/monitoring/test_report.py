"""One event, told once: what metrics, health and log make of it."""

import logging
from datetime import UTC, datetime

import pytest

from emotion_daemon.monitoring.heartbeat import OK
from emotion_daemon.monitoring.report import Report
from shared.batch import Batch
from tests.fakes import Clock
from tests.groups import committed, rejection

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def report(clock: Clock, caplog: pytest.LogCaptureFixture) -> Report:
    """Of a daemon that is subscribed and has an open database."""
    caplog.set_level(logging.INFO)
    report = Report(monotonic=clock)
    report.heartbeat.ready()
    report.heartbeat.broker(None)
    return report


def figure(report: Report, name: str, **labels: str) -> float | None:
    return report.metrics.registry.get_sample_value(f"emotion_{name}", labels)


def test_a_committed_group_is_counted_and_its_news_are_logged(report: Report, caplog: pytest.LogCaptureFixture) -> None:
    report.committed(committed(Batch("jetson_1", NOON, {}, NOON), rejections=[rejection("emotions/a/batch")]))

    assert figure(report, "commits_total") == 1
    assert [line.partition(" since")[0].partition(":")[0] for line in caplog.messages] == [
        "first batch from jetson_1",
        "rejected a message on 'emotions/a/batch'",
    ]


def test_messages_of_a_group_wait_until_it_is_acknowledged(report: Report) -> None:
    report.metrics.waiting = lambda: 7
    report.received(3)
    before = figure(report, "waiting_messages")
    report.acknowledged()

    assert (before, figure(report, "waiting_messages")) == (10, 7)


class TestOutage:
    def test_a_failed_commit_is_told_everywhere(self, report: Report, caplog: pytest.LogCaptureFixture) -> None:
        report.commit_failed("cannot commit: database is locked", "locked")

        assert report.database_fails
        assert report.heartbeat.line == "cannot commit: database is locked"
        assert figure(report, "commit_failures_total", reason="locked") == 1
        assert figure(report, "database_failing", reason="locked") == 1
        assert len(caplog.messages) == 1

    def test_a_failed_check_is_no_failed_commit(self, report: Report) -> None:
        report.database_failed("cannot commit: no answer", "unreachable")

        assert report.heartbeat.line == "cannot commit: no answer"
        assert figure(report, "commit_failures_total", reason="unreachable") == 0
        assert figure(report, "database_failing", reason="unreachable") == 1

    def test_it_lasts_from_its_first_failure(self, report: Report, clock: Clock) -> None:
        lasted = []
        for clock.seconds in (10.0, 12.5):
            lasted.append(report.commit_failed("cannot commit: database is locked", "locked"))

        assert lasted == [0, 2.5]

    def test_a_commit_ends_it(self, report: Report, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        report.received(2)
        report.commit_failed("cannot commit: database is locked", "locked")
        clock.seconds = 3.1
        report.committed(committed())

        assert not report.database_fails
        assert report.heartbeat.line == OK
        assert figure(report, "database_failing", reason="locked") == 0
        assert (
            caplog.messages[-1]
            == "committing again after 3.1 s; 2 messages waited here, and the broker now sends the rest"
        )

    def test_an_answer_to_a_check_ends_it(self, report: Report, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        report.database_failed("cannot commit: no answer", "unreachable")
        clock.seconds = 20
        report.database_answers()

        assert not report.database_fails
        assert report.heartbeat.line == OK
        assert figure(report, "database_failing", reason="unreachable") == 0
        assert caplog.messages[-1] == "the database answers again after 20.0 s"

    def test_without_one_its_end_is_no_line(self, report: Report, caplog: pytest.LogCaptureFixture) -> None:
        report.database_answers()
        report.committed(committed())

        assert caplog.messages == []


def test_rows_that_retention_deletes_are_counted_and_summed_up(
    report: Report, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    report.pruned("person_emotion", 3)
    clock.seconds = 60
    report.turned()

    assert figure(report, "pruned_rows_total", table="person_emotion") == 3
    assert caplog.messages == ["in the last 60 s: 3 rows of person_emotion deleted for their age"]
