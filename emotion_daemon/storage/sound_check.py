"""Check the whole SQLite file at the daemon's start, in a thread: a large file does not delay the first commit."""

import logging
import threading
from contextlib import suppress
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, SQLITE_IOERR_SHORT_READ, SQLITE_NOTADB

from sqlalchemy.exc import DBAPIError

from emotion_daemon.storage.errors import DatabaseDamagedError
from shared.database import sqlite_path, without_write_lock, writer_engine

log = logging.getLogger(__name__)

START_SECONDS = 0.5
"""Seconds that the start waits for the check: SQLite checks a file of 500,000 people in this time."""


class SoundCheck:
    """`PRAGMA quick_check`: without it the daemon could write for weeks into a file whose end is missing.

    If the check finds damage after the start, it leaves a file called like the database with `-damaged` behind it. The
    next start then waits for the whole check, so that the daemon acknowledges nothing. PostgreSQL is not checked.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._path = sqlite_path(url)
        self._thread: threading.Thread | None = None
        self._damage: DatabaseDamagedError | None = None
        self._error: DBAPIError | None = None

    @property
    def is_running(self) -> bool:
        """Return True while the check reads: SQLite cannot start its -wal file anew."""
        return self._thread is not None and self._thread.is_alive()

    def allows_start(self) -> bool:
        """Start the check, wait for half a second, and return True if the daemon may start.

        Raises DatabaseDamagedError, and what SQLAlchemy raises if the file cannot be read: the next call checks again.
        """
        if self._path is None or not self._path.exists():
            return True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(self._path,), name="quick_check", daemon=True)
            self._thread.start()
        self._thread.join(START_SECONDS)
        self.raise_damage()
        if self._error is not None:
            error, self._error, self._thread = self._error, None, None
            raise error
        return not (self.is_running and _mark(self._path).exists())

    def raise_damage(self) -> None:
        """Raises DatabaseDamagedError if the check has found damage."""
        if self._damage is not None:
            raise self._damage

    def _run(self, path: Path) -> None:
        engine = writer_engine(self._url)  # a reader of a file without -wal would not see that the file changes
        try:
            with engine.connect() as connection, without_write_lock(connection).begin():
                found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        except DBAPIError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0)
            if code not in (SQLITE_IOERR_SHORT_READ, SQLITE_CORRUPT, SQLITE_NOTADB):
                log.warning("the database file was not checked for damage: %s", error.orig)
                self._error = error
                return
            found = "its end is missing" if code == SQLITE_IOERR_SHORT_READ else str(error.orig)
        finally:
            engine.dispose()
        with suppress(OSError):
            if found == "ok":
                _mark(path).unlink(missing_ok=True)
            else:
                _mark(path).touch()
        if found != "ok":
            self._damage = DatabaseDamagedError(path, " ".join(found.split()))


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}-damaged")
