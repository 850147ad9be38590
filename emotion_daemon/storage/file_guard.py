"""SQLite goes on writing a file that was deleted or replaced. The guard notices it before the daemon acknowledges."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from sqlite3 import SQLITE_FULL, SQLITE_IOERR

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from emotion_daemon.storage.errors import DatabaseReplacedError, sqlite_code
from emotion_daemon.storage.sound_check import SoundCheck
from shared.database import file_identity, sqlite_path

MAX_WAL_BYTES = 16 * 2**20
"""SQLite truncates the -wal file to 4 MiB unless readers hold it; doctor warns of a longer file."""

_CHECK_WAL_SECONDS = 30.0


class FileGuard:
    """Compares device and inode of the database file and its -wal file with those that SQLite opened.

    A file that is overwritten in place keeps its inode: a SoundCheck finds the damage at the next start. On PostgreSQL
    the guard does nothing.
    """

    def __init__(
        self, engine: Engine, check: SoundCheck | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._sound = check
        self._engine = engine
        self._monotonic = monotonic
        self._check_wal_at = monotonic() + _CHECK_WAL_SECONDS
        self._path = sqlite_path(engine.url)
        if self._path is not None:
            self._remember()
            event.listen(engine, "connect", self._remember)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for one transaction.

        After the block it raises DatabaseReplacedError if the file was replaced, and DatabaseDamagedError if the check
        of the file has found damage.
        """
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
        if self._sound is not None:
            self._sound.raise_damage()
        if self._path is not None and self._identities() != self._opened:
            raise DatabaseReplacedError(self._path)

    def _truncate_long_wal(self, connection: Connection) -> None:
        """Wait for the readers if the -wal file has grown: if they overlap, SQLite never starts the file anew."""
        if self._path is None or self._monotonic() < self._check_wal_at:
            return
        if self._sound is not None and self._sound.is_running:
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


def _checkpoint(connection: Connection, mode: str) -> None:
    with suppress(sqlite3.Error):
        connection.connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
