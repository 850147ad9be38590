"""What the operator reads in the log: each device's first time for a thing, then only sums, once a minute."""

import logging
from collections import Counter
from datetime import timedelta

from shared.batch import Batch

log = logging.getLogger(__name__)

REPORT_SECONDS = 60.0
MAX_REMEMBERED = 20_000
"""How many (thing, device) pairs are remembered; beyond, new devices are only counted."""


MAX_NAME = 120
"""How much of a topic is remembered and shown: anybody may publish on very long ones."""

WORTH_A_LINE_SECONDS = 10.0
"""How much more than possible a device has to report in one group before the log says so."""

LINES_A_REPORT = 20
"""How many lines about trouble with devices there may be between two reports."""


class Notices:
    """Counts what happens and decides what becomes a line. `now` is monotonic seconds throughout."""

    def __init__(self, *, now: float) -> None:
        self._counts: Counter[str] = Counter()
        self._seen: set[tuple[str, str]] = set()
        self._last_report = now
        self._lines = 0
        self._cut_seconds = 0.0

    def accepted(self, batch: Batch) -> None:
        """A valid batch was decoded."""
        self._counts["messages"] += 1
        self._counts["people"] += len(batch.people)
        if self._first_time("batch", batch.device_id):
            log.info("first batch from %s since the start, with %d people", batch.device_id, len(batch.people))
        if batch.clock_skew is not None:
            self._skewed(batch.device_id, batch.clock_skew)
        if batch.ignored is not None:
            self._counts["with unknown fields"] += 1
            if self._is_news("ignored", batch.device_id):
                log.info(
                    "%s sends more than this version knows, which is ignored: a field at %s. "
                    "`python -m emotion_device validate` names it",
                    batch.device_id,
                    batch.ignored,
                )

    def status(self) -> None:
        """A device said online or offline, or its last will did."""
        self._counts["statuses"] += 1

    def cut(self, device_id: str, seconds: float) -> None:
        """A device reported so many seconds more than can have passed, which the history leaves out."""
        self._cut_seconds += seconds
        if seconds > WORTH_A_LINE_SECONDS and self._is_news("cut", device_id):
            log.info(
                "%s reports %.0f s more than can have passed since its batch before: the history leaves them out. "
                "That is so once where this daemon or its database was away",
                device_id,
                seconds,
            )

    def left_out(self, entries: int) -> None:
        """So many entries of a group were about people who were erased."""
        self._counts["entries of erased people left out"] += entries

    def pruned(self, table: str, count: int) -> None:
        """So many rows of `table` were deleted for their age."""
        self._counts[f"rows of {table} deleted for their age"] += count

    def rejected(self, topic: str, reason: str) -> None:
        """A message was no valid batch."""
        self._counts["messages"] += 1
        self._counts["rejected"] += 1
        if self._is_news("rejected", topic):
            log.warning(
                "rejected a message on %.120r: %s; recorded, see `python -m emotion_admin dead-letters list`; "
                "more of this topic are only counted",
                topic,
                reason,
            )

    def not_answered(self, device_id: str, response_topic: str) -> None:
        """A device asked for an answer on a topic that is not its own."""
        self._counts["not answered"] += 1
        if self._is_news("reply", device_id):
            log.warning(
                "%s asks for answers on %.120r, which is not its reply topic or below it: its batches are stored, "
                "but not answered",
                device_id,
                response_topic,
            )

    def report(self, *, now: float) -> None:
        """Once a minute, a line with the sums of what happened, if anything did."""
        if now - self._last_report < REPORT_SECONDS:
            return
        if self._counts:
            counts = [f"{count} {what}" for what, count in self._counts.items()]
            if self._cut_seconds >= 1:
                counts.append(f"{self._cut_seconds:.0f} s that cannot have been shown")
            sums = ", ".join(counts)
            log.info("in the last %.0f s: %s", now - self._last_report, sums)
        self._counts.clear()
        self._cut_seconds = 0.0
        self._lines = 0
        self._last_report = now

    def _skewed(self, device_id: str, skew: timedelta) -> None:
        self._counts["with a wrong clock"] += 1
        if self._is_news("clock", device_id):
            log.warning(
                "the clock of %s is off by %.0f s; its batches get the time at which they arrive. "
                "Set up time synchronisation on the device",
                device_id,
                skew.total_seconds(),
            )

    def _is_news(self, thing: str, who: str) -> bool:
        """As _first_time, but trouble with devices has only so many lines a minute; the others come later."""
        if self._lines >= LINES_A_REPORT or not self._first_time(thing, who[:MAX_NAME]):
            return False
        self._lines += 1
        return True

    def _first_time(self, thing: str, who: str) -> bool:
        if (thing, who) in self._seen or len(self._seen) >= MAX_REMEMBERED:
            return False
        self._seen.add((thing, who))
        return True
