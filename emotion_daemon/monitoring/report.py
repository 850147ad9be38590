"""The loop's report: it takes each event once and passes it to metrics, event log, health and the log of outages."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from emotion_daemon.monitoring.device_rates import NO_LIMIT, DeviceRates, Rate
from emotion_daemon.monitoring.event_log import EventLog
from emotion_daemon.monitoring.group import Group
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.monitoring.outage import Outage, OutageKind

log = logging.getLogger(__name__)


class Report:
    """Receives the events of the loop, on the loop's thread. The HTTP server's threads read `heartbeat` and `metrics`.

    `monotonic` is the clock of durations. A device that sends more than `device_limit` is named; 0 means no limit.
    """

    def __init__(
        self,
        heartbeat: Heartbeat | None = None,
        metrics: Metrics | None = None,
        *,
        device_limit: Rate = NO_LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.heartbeat = heartbeat or Heartbeat(monotonic=monotonic)
        self.metrics = metrics or Metrics(self.heartbeat)
        self._monotonic = monotonic
        self._event_log = EventLog(now=monotonic())
        self._device_rates = DeviceRates(device_limit, now=monotonic())
        self._outage = Outage(log, then="the daemon acknowledges nothing and tries again until it succeeds")

    @property
    def database_fails(self) -> bool:
        """Return True if the last transaction or check failed."""
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
        self._device_rates.count(group.traffic)

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
        """The loop turned once. Every ten seconds the rates of devices are compared with their limit.

        Once a minute the log gets the sums of the minute.
        """
        now = self._monotonic()
        if self._device_rates.is_due(now=now):
            self.metrics.device_rates = self._device_rates.next_window(now=now)
        self._event_log.log_sums(now=now)
