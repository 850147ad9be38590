"""The log of one outage: a line when it begins, a line for each new reason, and a reminder now and then."""

import logging
from typing import Literal

OutageKind = Literal["locked", "full", "unreadable", "unreachable", "other"]
"""Why the database accepts no commit."""

REMINDER_SECONDS = 300.0
"""Seconds between two reminders of a lasting outage, for operators who read only the end of the log."""

MAX_REASONS = 5
"""Most reasons of one outage that get a line: a reason with a changing number in it would be new each time."""


class Outage:
    """Counts failed attempts during an outage and logs those that are news.

    `then` says what the daemon does next. `now` is monotonic seconds throughout.
    """

    def __init__(self, log: logging.Logger, *, then: str) -> None:
        self._log = log
        self._then = then
        self.began: float | None = None
        """Time at which the outage began, None if there is none."""
        self._last_line = 0.0
        self._reasons: set[str] = set()
        self.attempts = 0
        """Number of attempts that have failed since the outage began."""

    def failed(self, reason: str, *, now: float) -> float:
        """Count a failed attempt, and log it if it is news. Returns how many seconds the outage has lasted."""
        if self.began is None:
            self.began = now
        lasted = now - self.began
        self.attempts += 1
        if reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
            self._log.warning("%s; %s", reason, self._then)
        elif now - self._last_line >= REMINDER_SECONDS:
            self._log.warning("%s, for %.0f s and %d attempts now; %s", reason, lasted, self.attempts, self._then)
        else:
            self._log.debug("%s (attempt %d)", reason, self.attempts)
            return lasted
        self._last_line = now
        return lasted

    def over(self, *, now: float) -> float:
        """End the outage. Returns how many seconds it lasted, 0 if there was none."""
        lasted = 0.0 if self.began is None else now - self.began
        self.began = None
        self._reasons.clear()
        self.attempts = 0
        return lasted
