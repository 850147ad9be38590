"""Whether something was committed since one looked last. SQLite tells in microseconds, on a connection kept for it.

What SQLite's `data_version` says counts for one connection, and it says only that something was committed. What the
daemon's commits changed stands in `daemon_commit`, and in the stamps of the devices.
"""

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, cast

from sqlalchemy import Engine, bindparam, event, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from shared.schema import daemon_commit, device

Stamp: TypeAlias = tuple[Any, ...]
"""A device's name and `updated_at`, as the driver has them."""

_STAMP = select(device.c.device_name, device.c.updated_at).where(device.c.device_id == bindparam("device_id"))
_COMMITS = select(daemon_commit.c.stamped, daemon_commit.c.unstamped)


CHECK_SECONDS = 0.1
"""How often -wal and -shm are looked at: a tenth of what a request costs otherwise."""


class Look(NamedTuple):
    """What one look at the database found; the same object for as long as nothing is committed.

    Of two with the same `epoch` nothing was committed in between that the stamps of the devices do not tell, as far as
    that can be known: see `DatabaseWatch`. `version` is SQLite's data_version.
    """

    epoch: int
    version: int


class DatabaseWatch:
    """Looks at the SQLite file behind `engine`, and keeps its connections off files that were deleted or replaced.

    A commit begins a new epoch unless `daemon_commit` says that the daemon made it and what it changed. Where several
    commits came between two looks, and the last was the daemon's, one of another program among them goes unseen.
    """

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine = engine
        self._lock = Lock()
        self._connection: PoolProxiedConnection | None = None
        self._open: tuple[sqlite3.Cursor, _Files] | None = None
        self._look = Look(epoch=0, version=0)
        self._commits: tuple[int, int] | None = None
        self._select_stamp = str(_STAMP.compile(dialect=engine.dialect))
        self._select_commits = str(_COMMITS.compile(dialect=engine.dialect))
        _keep_off_other_files(engine, file)
        event.listen(engine, "engine_disposed", self._disposed)

    def look(self) -> Look:
        """What is there now. Raises sqlite3.Error, and what SQLAlchemy raises where it cannot connect."""
        with self._lock:
            cursor = self._cursor()
            if _value(cursor, "PRAGMA data_version") != self._look.version:
                self._note_commits(cursor)
            return self._look

    def stamp(self, device_id: str) -> Stamp | None:
        """The stamp of a device, None where there is no such device. Raises what `look` raises."""
        with self._lock:
            stamp: Stamp | None = self._cursor().execute(self._select_stamp, (device_id,)).fetchone()
            return stamp

    def _cursor(self) -> sqlite3.Cursor:
        """The driver's own: a transaction of SQLAlchemy's would take longer than all the rest."""
        if self._open is None or not self._open[1].are_there():
            self._open = self._connect()
        return self._open[0]

    def _connect(self) -> tuple[sqlite3.Cursor, "_Files"]:
        self._close()
        self._connection = self._engine.raw_connection()
        self._commits = None  # whatever is found here begins an epoch
        self._look = Look(self._look.epoch, version=-1)
        return cast(sqlite3.Cursor, self._connection.cursor()), self._connection.info["files"]

    def _note_commits(self, cursor: sqlite3.Cursor) -> None:
        cursor.execute("BEGIN")  # version and commits of one snapshot
        try:
            version = _value(cursor, "PRAGMA data_version")
            commits = self._read_commits(cursor)
        finally:
            cursor.execute("COMMIT")
        told = commits and self._commits and commits[0] > self._commits[0] and commits[1] == self._commits[1]
        self._look = Look(self._look.epoch + (not told), version)
        self._commits = commits

    def _read_commits(self, cursor: sqlite3.Cursor) -> tuple[int, int] | None:
        try:
            found: tuple[int, int] | None = cursor.execute(self._select_commits).fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            return None  # no such table: the daemon has not brought the schema up to date yet
        return found

    def _disposed(self, engine: Engine) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._open = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.invalidate()


def _value(cursor: sqlite3.Cursor, statement: str) -> int:
    (value,) = cursor.execute(statement).fetchone()
    return int(value)


class _Files:
    """Which files a database is made of, to be asked whether they still are: of the database, -wal and -shm.

    The last two are looked at every CHECK_SECONDS only: whoever takes them away takes the database away as well, or
    has not long to wait.
    """

    def __init__(self, file: Path) -> None:
        real = os.path.realpath(file)  # beside it are -wal and -shm, where `file` is a link
        self._name, self._others = str(file), (f"{real}-wal", f"{real}-shm")
        self._known = _identity(self._name)
        self._known_others = [_identity(name) for name in self._others]
        self._checked = time.monotonic()

    def are_there(self) -> bool:
        return _identity(self._name) == self._known and (self._were_just_there() or self._others_are_there())

    def _were_just_there(self) -> bool:
        return time.monotonic() - self._checked < CHECK_SECONDS

    def _others_are_there(self) -> bool:
        self._checked = time.monotonic()
        return [_identity(name) for name in self._others] == self._known_others


def _identity(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _keep_off_other_files(engine: Engine, file: Path) -> None:
    """Leave connections whose files were deleted or replaced: they would go on reading the old ones for ever."""

    def remember(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        assert isinstance(connection, sqlite3.Connection)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now are -wal and -shm there
        record.info["files"] = _Files(file)

    def compare(connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        if not record.info["files"].are_there():
            raise DisconnectionError(f"{file.name} was deleted or replaced")

    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", compare)
