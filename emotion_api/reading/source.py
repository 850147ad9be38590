"""Take responses from the cache, or build them from the database. It also reports outages of the database."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event, Lock
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from emotion_api.reading import queries
from emotion_api.reading.cache import MAX_BYTES, Request, ResponseCache
from emotion_api.reading.change_detector import (
    ChangeDetector,
    PostgresqlChangeDetector,
    ServerBehindError,
    SqliteChangeDetector,
)
from emotion_api.reading.cooperative_yield import CooperativeYield
from emotion_api.reading.response import CachedResponse

_OUTAGE = (
    DBAPIError,
    PoolTimeoutError,
    ServerBehindError,
    sqlite3.Error,
)  # the change detector uses SQLite's driver itself

LONGEST_WAIT_SECONDS = 2.0
"""Seconds that a long build waits for its turn: one is built at a time, and requests that wait hold connections."""

_RequestT = TypeVar("_RequestT", bound=Request)

logger = logging.getLogger(__name__)


class DatabaseUnavailable(Exception):
    """Raised when the database cannot be read: missing, without tables, of an older version, locked, unreachable."""


class Busy(Exception):
    """Raised when other long builds keep the process busy for LONGEST_WAIT_SECONDS."""


class _NotAlone(Exception):
    """Raised by a build that has turned out to be long."""


def _no_pause() -> None:
    """The pause of a short build, which takes a few milliseconds."""


class Build(NamedTuple):
    """The means of one build: one snapshot for all its selects, and its pauses."""

    connection: Connection
    pause: Callable[[], None]
    is_alone: bool

    def must_be_alone(self) -> None:
        """To be called by a long build before it reads much. One is built at a time, so it may be started again."""
        if not self.is_alone:
            raise _NotAlone


class _Building:
    """A build under way. Other requests for the same response wait for it, and raise what it has raised."""

    def __init__(self) -> None:
        self.done = Event()
        self.response: CachedResponse | None = None
        self.error: BaseException | None = None

    def wait(self) -> CachedResponse:
        self.done.wait()
        if self.error is not None:
            raise self.error
        assert self.response is not None
        return self.response


class Source:
    """One engine, and the responses that were built from it. `file` is the database's file if it is SQLite's."""

    def __init__(
        self,
        engine: Engine,
        *,
        file: Path | None,
        max_bytes: int = MAX_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._monotonic = monotonic
        self._is_file = file is not None
        self._changes: ChangeDetector = (
            PostgresqlChangeDetector(engine, monotonic=monotonic)
            if file is None
            else SqliteChangeDetector(engine, file)
        )
        self._cache = ResponseCache(self._changes, max_bytes=max_bytes, monotonic=monotonic)
        self._building: dict[Request, _Building] = {}
        self._long_build = Lock()
        self._unavailable_since: float | None = None  # monotonic seconds
        self._available_since = 0.0  # the end of the last outage

    def respond(
        self, request: _RequestT, read: Callable[[_RequestT, Build], Iterable[bytes]], *, gzip: bool
    ) -> CachedResponse:
        """The response to the request from the cache, or built anew; with `gzip` compressed if it is long.

        `read` makes all selects before it returns, and the response's pieces come after the transaction has ended: an
        open transaction holds back SQLite's checkpoint. Raises DatabaseUnavailable, Busy, and what else `read` raises.
        """
        began = time.monotonic()
        try:
            response = self._cache.get(request) or self._build(request, read)
        except _OUTAGE as error:
            raise self._unavailable(error, began) from error
        self._note_success()
        return response.compressed(pause=CooperativeYield()) if gzip else response

    @property
    def standby_lag(self) -> float | None:
        """Seconds since the newest transaction that a PostgreSQL standby has replayed, as read last; else None."""
        return self._changes.standby_lag

    def check(self) -> None:
        """Read one device from the database, never from the cache. Raises DatabaseUnavailable."""
        began = time.monotonic()
        self._cache.empty_if_due()  # in a worker that gets no other requests
        try:
            with self._changes.connect() as connection:
                queries.any_device(connection)
        except _OUTAGE as error:
            raise self._unavailable(error, began) from error
        self._note_success()

    def _build(self, request: _RequestT, read: Callable[[_RequestT, Build], Iterable[bytes]]) -> CachedResponse:
        """Build the response, or wait for another request that builds the same one.

        A build that began before this request may have missed a commit. Its response counts only if it is current.
        """
        other = self._building.get(request)
        if other is not None:
            other.wait()
            current = self._cache.get(request)
            if current is not None:
                return current
            other = self._building.get(request)  # began after this request
            if other is not None:
                return other.wait()
        own = self._building[request] = _Building()
        try:
            own.response = self._build_alone_if_long(request, read)
        except BaseException as error:
            own.error = error
            raise
        finally:
            self._building.pop(request, None)
            own.done.set()
        return own.response

    def _build_alone_if_long(
        self, request: _RequestT, read: Callable[[_RequestT, Build], Iterable[bytes]]
    ) -> CachedResponse:
        try:
            return self._build_once(request, read, is_alone=False)
        except _NotAlone:
            if not self._long_build.acquire(timeout=LONGEST_WAIT_SECONDS):
                raise Busy from None
            try:
                return self._build_once(request, read, is_alone=True)
            finally:
                self._long_build.release()

    def _build_once(
        self, request: _RequestT, read: Callable[[_RequestT, Build], Iterable[bytes]], *, is_alone: bool
    ) -> CachedResponse:
        pause = CooperativeYield() if is_alone else _no_pause
        began = self._monotonic()
        with self._changes.snapshot(request.device_id) as (connection, version, revision):
            pieces = read(request, Build(connection, pause, is_alone))
        response = CachedResponse.of(pieces, pause=pause)
        self._cache.put(request, response, version, revision, began=began)
        return response

    def _unavailable(self, error: Exception, began: float) -> DatabaseUnavailable:
        """The error to raise for a request that came at `began`, once the outage is logged."""
        reason = _reason(error)
        self._note_failure(began, reason)
        if self._is_file:
            # A reader that keeps SQLite's -shm open after its -wal was cut locks out others. A server, however, would
            # get more connections each time: those in use stay, in addition to all those of a new pool.
            self._engine.dispose()
        return DatabaseUnavailable(reason)

    def _note_failure(self, began: float, reason: str) -> None:
        # A request that has waited since before the end of the last outage is no sign of a new one.
        if self._unavailable_since is None and began >= self._available_since:
            self._unavailable_since = began
            logger.warning("cannot read the database, answering 503 until it can be read: %s", reason)

    def _note_success(self) -> None:
        if self._unavailable_since is not None:
            self._available_since = time.monotonic()
            lasted = self._available_since - self._unavailable_since
            self._unavailable_since = None
            logger.warning("the database can be read again after %.1f s", lasted)


def _reason(error: Exception) -> str:
    """Return the driver's message in one line, with the next step if the daemon has not made or upgraded the tables."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    if not queries.is_about_the_schema(error):
        return reason
    return f"{reason}: start emotion_daemon of the same version, which creates and upgrades the tables"
