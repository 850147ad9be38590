"""Tell if the database has changed since a response was built.

SQLite's `data_version` and PostgreSQL's snapshots tell whether anything was committed, and `device_state.revision`
whether that changed a response about a device.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event, Lock, RLock
from typing import Any, NamedTuple, TypeAlias, cast

from cachetools import LRUCache
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, TimeoutError

from emotion_api.reading import queries
from emotion_api.reading.queries import Revision
from shared.database import READER_POOL_SECONDS, file_identity

GATHERING_SECONDS = 0.001
"""Seconds that a query waits for more requests to share it, if more shared the query before."""


class Version(NamedTuple):
    """Between two equal versions no transaction was committed. `connection` differs once the file was replaced."""

    connection: int
    data_version: int | str


BEHIND_SECONDS = 10.0
"""Seconds for which a server is refused that has an older state than the one read before.

A standby catches up. A database that was restored from a backup does not, and is then accepted.
"""

REMEMBERED_DEVICES = 10_000


class ServerBehindError(Exception):
    """Raised when PostgreSQL has an older revision than this worker has read before: another server responds now."""


class Now(NamedTuple):
    """The present version, and a function that returns the present revision."""

    version: Version
    revision: Callable[[], Revision]


class Snapshot(NamedTuple):
    """A connection whose next transaction, or present one, reads data that is no older than version and revision."""

    connection: Connection
    version: Version
    revision: Revision


class SqliteChangeDetector:
    """Reads `data_version` and revisions on a connection of its own, with the driver.

    A transaction of SQLAlchemy takes longer than the rest of a request. Both methods raise sqlite3.Error, and what
    SQLAlchemy raises if it cannot connect.
    """

    standby_lag = None

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine = engine
        self._file = file
        self._wal = ""
        self._identities = self._identify()
        self._connection: sqlite3.Connection | None = None
        self._connections = 0
        self._lock = RLock()
        self._revision = str(queries.REVISION.compile(dialect=engine.dialect))
        self._all_revisions = str(queries.ALL_REVISIONS.compile(dialect=engine.dialect))
        event.listen(engine, "engine_disposed", self._close)

    def version(self) -> Version:
        """The database's version now. It closes connections to files that were deleted or replaced since."""
        with self._lock:
            if self._identify() != self._identities:
                self._connection = self._connect()
            (data_version,) = self._first("PRAGMA data_version")
            return Version(self._connections, data_version)

    def revision(self, device_id: str | None) -> Revision:
        """The revision of all responses about the device; of None, about all devices."""
        with self._lock:
            revision: Revision = (
                self._first(self._all_revisions) if device_id is None else self._first(self._revision, device_id)
            )
            return revision

    def now(self, device_id: str | None) -> Now:
        """The present version and revision of all responses about the device; of None, about all devices."""
        return Now(self.version(), lambda: self.revision(device_id))

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to the file that is now in its place."""
        self.version()
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self, device_id: str | None) -> Iterator[Snapshot]:
        """A connection that has not begun its transaction yet, for responses about the device."""
        version, revision = self.version(), self.revision(device_id)
        with self._engine.connect() as connection:
            yield Snapshot(connection, version, revision)

    def _first(self, statement: str, *parameters: str) -> Any:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection.execute(statement, parameters).fetchone()

    def _identify(self) -> tuple[object, ...]:
        """Return a value that differs once the file or its -wal is another one. A file behind a new link is the same.

        Without a -wal only the time of the file's last change shows a commit.
        """
        wal = file_identity(self._wal)
        changed_at = None if wal is not None else _changed_at(self._file)
        return file_identity(self._file, is_link=True), file_identity(self._file), wal, changed_at

    def _connect(self) -> sqlite3.Connection:
        self._engine.dispose()  # its connections would read the replaced files for ever
        self._wal = f"{os.path.realpath(self._file)}-wal"
        self._identities = self._identify()  # before connecting, which depends on -wal
        connection = self._engine.raw_connection()
        driver = cast(sqlite3.Connection, connection.driver_connection)
        connection.detach()  # from the pool
        self._connections += 1
        return driver

    def _close(self, engine: Engine) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _changed_at(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


class _Query:
    """One query for the revisions of the devices that several requests ask for."""

    def __init__(self) -> None:
        self.devices: set[str | None] = set()
        self.requests = 0
        self.done = Event()
        self.version: str | None = None
        self.known: Mapping[str | None, int] = {}
        self.revisions: Mapping[str | None, Revision] = {}
        self.error: BaseException | None = None


class PostgresqlChangeDetector:
    """Reads versions and revisions. On a standby no two versions are equal.

    All requests that come while one query runs share the next one, on a connection that stays open. A worker with many
    clients would spend half of its time on a query for each request.
    """

    def __init__(self, engine: Engine, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.standby_lag: float | None = None
        """The newest `lag` of queries.State: None on a primary."""
        self._engine = engine
        self._without_transactions = engine.execution_options(isolation_level="AUTOCOMMIT")  # saves BEGIN and ROLLBACK
        self._monotonic = monotonic
        self._highest: LRUCache[str | None, tuple[int, float | None]] = LRUCache(REMEMBERED_DEVICES)
        self._versions = count()
        self._lock = Lock()
        self._running, self._next = _Query(), _Query()
        self._running.done.set()
        self._connection: Connection | None = None
        event.listen(engine, "engine_disposed", self._close)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection of the pool. It also reads `standby_lag`."""
        with self._without_transactions.connect() as connection:
            self.standby_lag = queries.standby_lag(connection)
            yield connection

    @contextmanager
    def snapshot(self, device_id: str | None) -> Iterator[Snapshot]:
        """A connection in a transaction. Revision and rows may come from another server than those of `now`."""
        known = self._known({device_id})
        with self._engine.connect() as connection:
            state = queries.state(connection, {device_id})
            revision = self._not_older(device_id, state.revisions[device_id], known[device_id])
            yield Snapshot(connection, self._version_of(state.version), revision)

    def now(self, device_id: str | None) -> Now:
        """The present version and revision of all responses about the device; of None, about all devices.

        Raises what SQLAlchemy raises. The first of the requests that share a query sends it, once the query before is
        answered.
        """
        with self._lock:
            query, before = self._next, self._running
            query.devices.add(device_id)
            query.requests += 1
            is_first = query.requests == 1
        if is_first:
            self._run(query, before)
        else:
            query.done.wait()
        if query.error is not None:
            raise query.error
        return Now(
            self._version_of(query.version),
            lambda: self._not_older(device_id, query.revisions[device_id], query.known[device_id]),
        )

    def _known(self, devices: Collection[str | None]) -> dict[str | None, int]:
        """The highest revisions that were read until now."""
        with self._lock:
            return {device_id: self._highest.get(device_id, (0, None))[0] for device_id in devices}

    def _not_older(self, device_id: str | None, revision: Revision, known: int) -> Revision:
        """Return the revision, which was read when `known` was already known.

        Raises ServerBehindError for BEHIND_SECONDS if it is lower.
        """
        number = int((revision or (0,))[-1] or 0)
        with self._lock:
            highest, behind_since = self._highest.get(device_id, (0, None))
            if number >= known:
                if number >= highest and number:
                    self._highest[device_id] = number, None
                return revision
            now = self._monotonic()
            since = now if behind_since is None else behind_since
            if now < since + BEHIND_SECONDS:
                self._highest[device_id] = highest, since
                raise ServerBehindError("the database server is behind the one that was read before")
            self._highest[device_id] = number, None
        return revision

    def _version_of(self, stored: str | None) -> Version:
        return Version(0, next(self._versions) if stored is None else stored)

    def _run(self, query: _Query, before: _Query) -> None:
        try:
            is_answered = before.done.wait(READER_POOL_SECONDS)
            if query.requests < before.requests:
                time.sleep(GATHERING_SECONDS)  # under gevent the clients of the query before come again meanwhile
            with self._lock:
                self._next = _Query()
                if is_answered:
                    self._running = query
            if not is_answered:
                raise TimeoutError("PostgreSQL has not answered the requests before")
            query.known = self._known(query.devices)
            query.version, self.standby_lag, query.revisions = self._ask(query.devices)
        except BaseException as error:
            query.error = error
            raise
        finally:
            query.done.set()

    def _ask(self, devices: Collection[str | None]) -> queries.State:
        """Read version, lag and revisions, on a new connection if the server has closed the one that was open."""
        was_open = self._connection is not None
        try:
            if self._connection is None:
                self._connection = self._without_transactions.connect()
                self._connection.detach()  # from the pool, whose connections are for builds
            return queries.state(self._connection, devices)
        except BaseException as error:
            self._close()
            if was_open and isinstance(error, DBAPIError) and error.connection_invalidated:
                return self._ask(devices)
            raise

    def _close(self, engine: Engine | None = None) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


ChangeDetector: TypeAlias = SqliteChangeDetector | PostgresqlChangeDetector
