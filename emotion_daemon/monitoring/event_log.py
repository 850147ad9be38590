"""The log of what devices do: a line for each device's first event of a kind, then sums, once a minute."""

import logging
from collections import defaultdict
from datetime import datetime, timedelta

from emotion_daemon.monitoring.group import Group
from emotion_daemon.rules.outcome import Rejected
from shared.batch import MAX_CLOCK_SKEW, Batch

log = logging.getLogger(__name__)

SUMS_SECONDS = 60.0

MAX_REMEMBERED = 20_000
"""Most pairs of event and device that are remembered. Further devices are only counted."""

MAX_NAME = 120
"""Most characters of a topic that are remembered: any client may publish on very long ones."""

CAPPED_SECONDS = 10.0
"""Capped seconds of a device in one group from which on the log mentions it."""

HALF_HOUR = timedelta(minutes=30)
LOCAL_SECONDS = 60.0
"""Seconds for which timestamps without an offset have to be off by the same half hours. Queued batches are not."""

STANDSTILL_SECONDS = 10.0
"""Seconds for which a device has to send one timestamp again and again."""

MAX_LINES = 20
"""Most lines about faults of devices between two lines of sums."""


class EventLog:
    """Counts events of devices and logs those that are news. `now` is monotonic seconds throughout."""

    def __init__(self, *, now: float) -> None:
        self._counts: defaultdict[str, float] = defaultdict(float)
        self._seen: set[tuple[str, str]] = set()
        self._last_sums = now
        self._lines = 0
        self._values: dict[tuple[str, str], tuple[object, datetime]] = {}

    def committed(self, group: Group) -> None:
        """Count the messages of a committed group, and log the news among them."""
        counts, folded = self._counts, group.folded
        counts["messages"] += len(group.batches) + len(group.rejected)
        counts["people"] += group.people
        counts["statuses"] += group.statuses
        counts["rejected"] += len(group.rejected)
        counts["dead letters omitted, because their topic has too many"] += group.omitted
        counts["entries of erased people suppressed"] += folded.suppressed
        for batch in group.batches:
            self._batch(batch)
        for rejection in group.rejected:
            self._rejection(rejection)
        for device_id, seconds in folded.capped.items():
            self._capped(device_id, seconds)
        for device_id, fallen in folded.clocks.fallen.items():
            self._fallen(device_id, fallen)

    def pruned(self, table: str, rows: int) -> None:
        """Count rows of `table` that retention deleted."""
        self._counts[f"rows of {table} deleted for their age"] += rows

    def not_answered(self, device_id: str, response_topic: str) -> None:
        """Count a reply that a device asked for on a topic that is not its own."""
        self._counts["not answered"] += 1
        if self._is_news("reply", device_id):
            log.warning(
                "%s asks for replies on %.120r, which is not its reply topic or below it. "
                "The daemon stores its batches and does not reply",
                device_id,
                response_topic,
            )

    def log_sums(self, *, now: float) -> None:
        """Log the sums of the events since the last sums, once a minute, if there were any."""
        seconds = now - self._last_sums
        if seconds < SUMS_SECONDS:
            return
        sums = ", ".join(f"{count:.0f} {what}" for what, count in self._counts.items() if round(count))
        if sums:
            log.info("in the last %.0f s: %s", seconds, sums)
        self._counts.clear()
        self._lines = 0
        self._last_sums = now

    def _batch(self, batch: Batch) -> None:
        device_id = batch.device_id
        if self._is_first("batch", device_id):
            log.info("first batch from %s since the start, with %d people", device_id, len(batch.people))
        if batch.received_at is not None:
            self._standstill(device_id, batch.timestamp, batch.received_at)
        if batch.clock_skew is not None:
            self._counts["with a wrong clock"] += 1
            if self._is_news("clock", device_id):
                log.warning(
                    "the clock of %s is off by %.0f s; its batches get the time at which they arrive. "
                    "Set up time synchronisation on the device",
                    device_id,
                    batch.clock_skew.total_seconds(),
                )
        if batch.is_local and batch.received_at is not None:
            self._local_time(device_id, batch.received_at, batch.clock_skew or batch.timestamp - batch.received_at)
        if batch.ignored is not None:
            self._counts["with unknown fields"] += 1
            if self._is_news("ignored", device_id):
                log.info(
                    "%s sends a field that this version does not know and ignores, at %s. "
                    "See docs/troubleshooting.md#sends-a-field-that-this-version-does-not-know",
                    device_id,
                    batch.ignored,
                )

    def _standstill(self, device_id: str, timestamp: datetime, received_at: datetime) -> None:
        """Say once that a device sends the same timestamp for STANDSTILL_SECONDS."""
        lasted = self._lasted("standstill", device_id, timestamp, received_at)
        if lasted >= STANDSTILL_SECONDS and self._is_news("standstill", device_id):
            log.warning(
                "%s sends one timestamp for %.0f s and longer. The history gets no time meanwhile: put into each batch "
                "the time when it is made",
                device_id,
                STANDSTILL_SECONDS,
            )

    def _local_time(self, device_id: str, received_at: datetime, skew: timedelta) -> None:
        """Say once that a device sends local time, if it is off by the same half hours for LOCAL_SECONDS."""
        half_hours = round(skew / HALF_HOUR)
        if abs(skew - half_hours * HALF_HOUR) > MAX_CLOCK_SKEW:
            half_hours = 0
        lasted = self._lasted("local time", device_id, half_hours, received_at)
        if half_hours and lasted >= LOCAL_SECONDS and self._is_news("local time", device_id):
            log.warning(
                "%s sends timestamps without an offset, which are off by %+g hours: most likely they are local time. "
                "Send UTC with a Z, or add the offset",
                device_id,
                half_hours / 2,
            )

    def _lasted(self, event: str, device_id: str, value: object, received_at: datetime) -> float:
        """Return the seconds for which a device has had the same value. At most 2 * MAX_REMEMBERED are remembered."""
        key = event, device_id
        known = self._values.get(key)
        if known is not None and known[0] == value:
            return (received_at - known[1]).total_seconds()
        if known is not None or len(self._values) < 2 * MAX_REMEMBERED:
            self._values[key] = value, received_at
        return 0.0

    def _rejection(self, rejection: Rejected) -> None:
        if self._is_news("rejected", rejection.topic):
            log.warning(
                "rejected a message on %.120r: %s; `scripts/dead-letters list` shows it. "
                "The log only counts the next ones on this topic",
                rejection.topic,
                rejection.reason,
            )

    def _fallen(self, device_id: str, fallen: timedelta) -> None:
        self._counts["clocks of devices set back"] += 1
        if self._is_news("fallback", device_id):
            log.warning(
                "the clock of %s was set back by %.0f s. The daemon adds an offset to its timestamps until they are "
                "newer than before. Set up time synchronisation on the device, and send UTC",
                device_id,
                fallen.total_seconds(),
            )

    def _capped(self, device_id: str, seconds: float) -> None:
        self._counts["seconds capped"] += seconds
        if seconds > CAPPED_SECONDS and self._is_news("capped", device_id):
            log.info(
                "%s reports %.0f s more than have passed since its previous batch; the history gets no more than have. "
                "This is expected once after an outage of the daemon or its database",
                device_id,
                seconds,
            )

    def _is_news(self, event: str, name: str) -> bool:
        """As `_is_first`, but limited to MAX_LINES between two lines of sums: the others get their line later."""
        if self._lines >= MAX_LINES or not self._is_first(event, name[:MAX_NAME]):
            return False
        self._lines += 1
        return True

    def _is_first(self, event: str, name: str) -> bool:
        if (event, name) in self._seen or len(self._seen) >= MAX_REMEMBERED:
            return False
        self._seen.add((event, name))
        return True
