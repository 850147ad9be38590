"""One stretch of trouble, as the operator reads it: a line when it begins, one when it is over, little in between."""

import logging

REMINDER_SECONDS = 300.0
"""How often trouble that lasts is mentioned again, for whoever reads only the end of a log."""

MAX_REASONS = 5
"""How many reasons of one trouble get a line: one with a changing number in it would be new each time."""


class Trouble:
    """Counts failed attempts at one thing and writes down what an operator needs of them.

    `then` says what happens next. `now` is monotonic seconds throughout.
    """

    def __init__(self, log: logging.Logger, *, then: str) -> None:
        self._log = log
        self._then = then
        self.began: float | None = None
        """When it began, or None while there is none."""
        self._last_line = 0.0
        self._reasons: set[str] = set()
        self.attempts = 0
        """How many attempts have failed since the trouble began."""

    def failed(self, reason: str, *, now: float) -> float:
        """An attempt failed: a line if that is new, or if the last one was long ago. Returns seconds since it began."""
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
        """It ends; returns the seconds since it began, 0 if there was none."""
        lasted = 0.0 if self.began is None else now - self.began
        self.began = None
        self._reasons.clear()
        self.attempts = 0
        return lasted
