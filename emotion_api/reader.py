"""The answer for a device, as JSON: built once, and kept until the database changes.

What was built is kept with the connection that read it, because SQLite's `data_version` counts for one connection.
A worker has one connection (under gevent SQLite's calls do not yield), so this is one cache a process.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from emotion_api import queries
from emotion_api.summary import summarize

MAX_KEPT = 256
"""How many answers are kept a connection; anybody may ask for any device id, and each answer takes memory."""

_TROUBLE = (DBAPIError, PoolTimeoutError, sqlite3.Error)  # the last from data_version, which asks the driver itself

logger = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()


class DatabaseUnavailable(Exception):
    """Raised when the database cannot be read: not made yet, without its tables, locked or unreachable."""


class Answer(NamedTuple):
    """A summary as UTF-8 JSON, and a tag that is equal where the JSON is."""

    body: bytes
    etag: str


class SummaryReader:
    """Reads summaries from one engine.

    `device_names` name the devices that the database gives no name; `file` is the database's file, if it is one.
    """

    def __init__(self, engine: Engine, *, device_names: Mapping[str, str], file: Path | None) -> None:
        self._engine = engine
        self._device_names = device_names
        self._unavailable_since: float | None = None  # monotonic seconds
        self._available_since = 0.0  # the end of the last outage
        if file is not None:
            _watch(engine, file)

    def read(self, device_id: str) -> Answer:
        """The summary of a valid `device_id`, as of now. Raises DatabaseUnavailable."""
        with self._connection() as connection:
            return self._answer(connection, device_id)

    def check(self) -> None:
        """Read from the table of devices, kept answers or not. Raises DatabaseUnavailable."""
        with self._connection() as connection:
            queries.any_device(connection)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection of the engine. What goes wrong with it is noted, and raised as DatabaseUnavailable."""
        began = time.monotonic()
        try:
            with self._engine.connect() as connection:
                yield connection
        except _TROUBLE as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            self._note_failure(began, reason)
            self._engine.dispose()  # whoever keeps SQLite's -shm open after its -wal was cut keeps others out as well
            raise DatabaseUnavailable(reason) from error
        self._note_success()

    def _note_failure(self, began: float, reason: str) -> None:
        # A request that waited since before the end of the last outage says nothing of a new one.
        if self._unavailable_since is None and began >= self._available_since:
            self._unavailable_since = began
            logger.warning("cannot read the database, answering 503 until it can be read: %s", reason)

    def _note_success(self) -> None:
        if self._unavailable_since is not None:
            self._available_since = time.monotonic()
            lasted = self._available_since - self._unavailable_since
            self._unavailable_since = None
            logger.warning("the database can be read again after %.1f s", lasted)

    def _answer(self, connection: Connection, device_id: str) -> Answer:
        version = queries.data_version(connection)
        if version is None:
            return self._build(connection, device_id)
        kept_version, kept = connection.info.get("answers", (None, {}))
        if kept_version != version or len(kept) >= MAX_KEPT:
            kept = {}
            connection.info["answers"] = version, kept
        answer: Answer | None = kept.get(device_id)
        if answer is None:
            answer = kept[device_id] = self._build(connection, device_id)
        return answer

    def _build(self, connection: Connection, device_id: str) -> Answer:
        device_name, updated_at = queries.device_row(connection, device_id)
        if device_name is None:
            device_name = self._device_names.get(device_id, device_id)
        people = queries.people(connection, device_id)
        body = _encoder.encode(summarize(device_id, device_name=device_name, updated_at=updated_at, people=people))
        return Answer(body, blake2b(body, digest_size=16).hexdigest())


def _watch(engine: Engine, file: Path) -> None:
    """Leave connections whose files were deleted or replaced: they would go on reading the old ones for ever."""

    def identities() -> list[tuple[int, int] | None]:
        real = os.path.realpath(file)  # beside it are -wal and -shm, where `file` is a link
        return [_identity(name) for name in (real, f"{real}-wal", f"{real}-shm")]

    def remember(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        assert isinstance(connection, sqlite3.Connection)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # only now are -wal and -shm there
        record.info["files"] = identities()

    def compare(connection: DBAPIConnection, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        if record.info["files"] != identities():
            raise DisconnectionError(f"{file.name} was deleted or replaced")

    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", compare)


def _identity(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino
