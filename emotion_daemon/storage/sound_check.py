"""Check the whole SQLite file at the daemon's start, in a thread: a large file does not delay the first commit."""

import logging
import threading
from contextlib import suppress
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, SQLITE_IOERR_SHORT_READ, SQLITE_NOTADB

from sqlalchemy.exc import DBAPIError

from emotion_daemon.storage.errors import DatabaseDamagedError, sqlite_code
from shared.database import reader_engine, sqlite_path

log = logging.getLogger(__name__)

START_SECONDS = 0.5
"""Seconds that `wait` waits: SQLite checks a file of 500,000 people in this time."""


class SoundCheck:
    """`PRAGMA quick_check`: without it the daemon could write for weeks into a file whose end is missing.

    If the check finds damage after the start, it leaves a file called like the database with `-damaged` behind it. The
    next start then waits for the whole check, so that the daemon acknowledges nothing. PostgreSQL is not checked.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._path = sqlite_path(url)
        self._damage: DatabaseDamagedError | None = None
        self._thread = threading.Thread(target=self._run, name="quick_check", daemon=True)
        if self._path is not None and self._path.exists():
            self._thread.start()

    def wait(self) -> None:
        """Wait for the check, for half a second at most unless the last check found damage. Raises as raise_damage."""
        if self._path is not None and self._thread.ident is not None:
            self._thread.join(None if _mark(self._path).exists() else START_SECONDS)
        self.raise_damage()

    def raise_damage(self) -> None:
        """Raises DatabaseDamagedError if the check has found damage."""
        if self._damage is not None:
            raise self._damage

    def _run(self) -> None:
        assert self._path is not None
        engine = reader_engine(self._url)
        try:
            with engine.connect() as connection:
                found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        except DBAPIError as error:
            code = sqlite_code(error)
            if code not in (SQLITE_IOERR_SHORT_READ, SQLITE_CORRUPT, SQLITE_NOTADB):
                log.warning("the database file was not checked for damage: %s", error.orig)
                return
            found = "its end is missing" if code == SQLITE_IOERR_SHORT_READ else str(error.orig)
        finally:
            engine.dispose()
        mark = _mark(self._path)
        with suppress(OSError):
            if found == "ok":
                mark.unlink(missing_ok=True)
            else:
                mark.touch()
        if found != "ok":
            self._damage = DatabaseDamagedError(self._path, " ".join(found.split()))


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}-damaged")
