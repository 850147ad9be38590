"""The log on standard error. If its reader hangs, the daemon drops and counts lines instead of waiting."""

import logging
import select
import time

from shared.settings import Settings

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 4_000
"""Below PIPE_BUF, 4,096: a pipe that has any room has room for a line of this length (pipe(7))."""


class DroppingHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error like its parent, but never waits for a pipe.

    A pager at its first page, or a log shipper that hangs, would otherwise stop all batches once the 64 KiB of the
    pipe are full. Files and terminals get every line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._dropped and self._has_room():
            dropped, self._dropped = self._dropped, 0
            note = "%d lines are missing here: the reader of this log did not keep up"
            super().emit(logging.LogRecord(__name__, logging.WARNING, __file__, 0, note, (dropped,), None))
        if self._has_room():
            super().emit(record)
        else:
            self._dropped += 1

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).encode(errors="backslashreplace")[:MAX_LINE_BYTES].decode(errors="ignore")

    def _has_room(self) -> bool:
        try:
            return bool(select.select([], [self.stream], [], 0)[1])
        except (OSError, ValueError, TypeError):  # the stream is closed or not a file: the parent handles that
            return True


def configure_logging(settings: Settings) -> None:
    """Log to standard error in UTC, and warn of every EMOTION_ variable that is not a setting."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = DroppingHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it logs a traceback for each failed rollback
    for sentence in settings.unknown:
        log.warning("%s", sentence)
