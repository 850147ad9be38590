"""A log that nobody reads must not stop the daemon: lines for which a pipe has no room are dropped, and counted."""

import logging
import select
import time

from shared.settings import Settings

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 4_000
"""Below PIPE_BUF, 4,096: a pipe that has room at all has room for so much (pipe(7))."""


class DroppingHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error like its parent, but never waits for whoever reads there.

    A pager at its first page, or a log shipper that hangs, would otherwise hold up all batches once a pipe's
    64 KiB are full. Into files and terminals all is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._dropped and self._has_room():
            dropped, self._dropped = self._dropped, 0
            note = "%d lines are missing here: nobody read this log"
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
        except (OSError, ValueError, TypeError):  # it is closed, or no file at all: the parent copes with that
            return True


def configure_logging(settings: Settings) -> None:
    """Log to standard error in UTC, and warn of every EMOTION_ variable that is no setting."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = DroppingHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # a traceback where a rollback fails, too
    for sentence in settings.unknown:
        log.warning("%s", sentence)
