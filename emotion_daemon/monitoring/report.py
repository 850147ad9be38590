"""What the loop tells: each event once. Metrics, event log, health and the log of outages stand behind it."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from emotion_daemon.monitoring.event_log import EventLog
from emotion_daemon.monitoring.group import Group
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.monitoring.outage import Outage, OutageKind

log = logging.getLogger(__name__)


class Report:
    """Receives the events of the loop, on the loop's thread. The HTTP server's threads read `heartbeat` and `metrics`.

    `monotonic` is the clock of durations.
    """

    def __init__(
        self,
        heartbeat: Heartbeat | None = None,
        metrics: Metrics | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.heartbeat = heartbeat or Heartbeat(monotonic=monotonic)
        self.metrics = metrics or Metrics(self.heartbeat)
        self._monotonic = monotonic
        self._event_log = EventLog(now=monotonic())
        self._outage = Outage(log, then="the daemon acknowledges nothing and tries again until it succeeds")

    @property
    def database_fails(self) -> bool:
        """Whether the last transaction or check failed."""
        return self._outage.began is not None

    def received(self, messages: int) -> None:
        """A group of so many messages begins."""
        self.metrics.in_hand = messages

    def committed(self, group: Group) -> None:
        """A group is committed, and can be acknowledged. This ends an outage of the database."""
        waited = "; %d messages waited here, and the broker now sends the rest"
        self._recovered("committing again after %.1f s" + waited, self.metrics.waiting_messages)
        self.metrics.committed(group)
        self._event_log.committed(group)

    def acknowledged(self) -> None:
        """The group that began with `received` ends."""
        self.metrics.in_hand = 0

    def commit_failed(self, sentence: str, kind: OutageKind) -> float:
        """An attempt to commit failed in an outage of this kind.

        Returns how many seconds the outage has lasted.
        """
        self.metrics.commit_failed(kind)
        return self.database_failed(sentence, kind)

    def database_failed(self, sentence: str, kind: OutageKind) -> float:
        """As `commit_failed`, but only a check failed."""
        self.metrics.database_failed(kind)
        self.heartbeat.database(sentence)
        return self._outage.failed(sentence, now=self._monotonic())

    def database_answers(self) -> None:
        """A check succeeded. This ends an outage of the database."""
        self._recovered("the database answers again after %.1f s")
        self.metrics.database_answers()

    def _recovered(self, line: str, *arguments: int) -> None:
        if self.database_fails:
            log.warning(line, self._outage.over(now=self._monotonic()), *arguments)
            self.heartbeat.database(None)

    def waiting_for_database(self) -> AbstractContextManager[None]:
        """During the block the loop waits for the database: a loop that hangs says so."""
        return self.heartbeat.waiting_for("the database")

    def not_answered(self, device_id: str, response_topic: str) -> None:
        """A device asked for a reply on a topic that is not its own."""
        self._event_log.not_answered(device_id, response_topic)

    def pruned(self, table: str, rows: int) -> None:
        """Retention deleted so many rows of `table`."""
        self.metrics.pruned(table, rows)
        self._event_log.pruned(table, rows)

    def turned(self) -> None:
        """The loop turned once. Once a minute the log gets the sums of the minute."""
        self._event_log.log_sums(now=self._monotonic())
