"""SQLite goes on writing a file that was deleted or replaced. The guard notices it before the daemon acknowledges."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR, SQLITE_IOERR_SHORT_READ, SQLITE_NOTADB

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from emotion_daemon.storage.errors import DatabaseDamagedError, DatabaseReplacedError, sqlite_code
from shared.database import file_identity, sqlite_path

MAX_WAL_BYTES = 16 * 2**20
"""SQLite truncates the -wal file to 4 MiB unless readers hold it; doctor warns of a longer file."""

_CHECK_WAL_SECONDS = 30.0


class FileGuard:
    """Compares device and inode of the database file and its -wal file with those that SQLite opened.

    A file that is overwritten in place keeps its inode: `check_sound` finds the damage at the next start. On
    PostgreSQL the guard does nothing.
    """

    def __init__(self, engine: Engine, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._check_wal_at = monotonic() + _CHECK_WAL_SECONDS
        self._path = sqlite_path(engine.url)
        if self._path is not None:
            self._remember()
            event.listen(engine, "connect", self._remember)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for one transaction. Raises DatabaseReplacedError after the block if the file was replaced."""
        with self._engine.connect() as connection:
            try:
                yield connection
                self._check()
                self._truncate_long_wal(connection)
            except DatabaseReplacedError:
                # The file may have been moved: its last commits are in the -wal file, which stayed behind.
                _checkpoint(connection, "TRUNCATE")
                raise
            except DBAPIError as error:
                # On a full disk the -wal file cannot grow. A checkpoint makes room in it.
                if sqlite_code(error) in (SQLITE_FULL, SQLITE_IOERR):
                    _checkpoint(connection, "PASSIVE")
                raise

    def _check(self) -> None:
        if self._path is not None and self._identities() != self._opened:
            raise DatabaseReplacedError(self._path)

    def _truncate_long_wal(self, connection: Connection) -> None:
        """Wait for the readers if the -wal file has grown: if they overlap, SQLite never starts the file anew."""
        if self._path is None or self._monotonic() < self._check_wal_at:
            return
        self._check_wal_at = self._monotonic() + _CHECK_WAL_SECONDS
        with suppress(FileNotFoundError):
            if os.stat(f"{os.path.realpath(self._path)}-wal").st_size > MAX_WAL_BYTES:
                _checkpoint(connection, "TRUNCATE")

    def _remember(self, *_: object) -> None:
        self._opened = self._identities()

    def _identities(self) -> tuple[object, ...]:
        assert self._path is not None
        # SQLite follows a symbolic link when it opens the file: the -wal file lies next to the link's target.
        return file_identity(self._path), file_identity(f"{os.path.realpath(self._path)}-wal")


def check_sound(connection: Connection) -> None:
    """Check the whole SQLite file with `PRAGMA quick_check`: half a second for 500,000 people.

    Otherwise the daemon could write for weeks into a file whose end is missing. Raises DatabaseDamagedError.
    """
    path = Path(connection.engine.url.database or "")
    connection.exec_driver_sql("PRAGMA shrink_memory")  # cached pages would hide missing ones
    try:
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code not in (SQLITE_IOERR_SHORT_READ, SQLITE_CORRUPT, SQLITE_NOTADB):
            raise
        what = "its end is missing" if code == SQLITE_IOERR_SHORT_READ else str(error.orig)
        raise DatabaseDamagedError(path, what) from error
    if found != "ok":
        raise DatabaseDamagedError(path, " ".join(found.split()))


def _checkpoint(connection: Connection, mode: str) -> None:
    with suppress(sqlite3.Error):
        connection.connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
