"""Where answers come from: kept ones (on SQLite), or the database, and what happens while it cannot be read."""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from emotion_api.reading import queries
from emotion_api.reading.cache import Before, Request, ResponseCache
from emotion_api.reading.change_detector import DatabaseWatch
from emotion_api.reading.cooperative_yield import CooperativeYield
from emotion_api.reading.response import CachedResponse

_TROUBLE = (DBAPIError, PoolTimeoutError, sqlite3.Error)  # the last from DatabaseWatch, which asks the driver itself

_RequestT = TypeVar("_RequestT", bound=Request)

logger = logging.getLogger(__name__)


class DatabaseUnavailable(Exception):
    """Raised when the database cannot be read: not made yet, without its tables, locked or unreachable."""


class Source:
    """One engine, and the answers that were built from it. `file` is the database's file, if it is one."""

    def __init__(self, engine: Engine, *, file: Path | None) -> None:
        self._engine = engine
        self._is_file = file is not None
        self._kept = None if file is None else ResponseCache(DatabaseWatch(engine, file))
        self._unavailable_since: float | None = None  # monotonic seconds
        self._available_since = 0.0  # the end of the last outage
        self._said_too_old = False

    def answer(self, wanted: _RequestT, build: Callable[[_RequestT], CachedResponse], *, gzip: bool) -> CachedResponse:
        """The answer that was kept, else what `build` makes; with `gzip` compressed where it is long.

        Raises DatabaseUnavailable, and what else `build` raises.
        """
        began = time.monotonic()
        try:
            answer = self.find(wanted) or build(wanted)
        except _TROUBLE as error:
            if queries.lacks_a_table(error) and self._can_be_read():
                raise self._too_old(error) from error
            raise self._unavailable(error, began) from error
        self._note_success()
        return answer.compressed(pause=CooperativeYield()) if gzip else answer

    def check(self) -> None:
        """Read from the table of devices, kept answers or not. Raises DatabaseUnavailable."""
        began = time.monotonic()
        try:
            self._read_a_device()
        except _TROUBLE as error:
            raise self._unavailable(error, began) from error
        self._note_success()

    # For whoever builds an answer: what these raise becomes DatabaseUnavailable.

    def connect(self) -> Connection:
        """A transaction of its own, to its end; one snapshot for all its selects."""
        return self._engine.connect()

    def find(self, wanted: Request) -> CachedResponse | None:
        """The answer, if one was kept that still is right."""
        return None if self._kept is None else self._kept.find(wanted)

    def before(self, wanted: Request) -> Before | None:
        """To be called before an answer is built that is to be kept."""
        return None if self._kept is None else self._kept.before(wanted)

    def keep(self, wanted: Request, answer: CachedResponse, before: Before | None) -> CachedResponse:
        """The answer, which is kept from now on."""
        if self._kept is not None and before is not None:
            self._kept.keep(wanted, answer, before)
        return answer

    def _read_a_device(self) -> None:
        with self._engine.connect() as connection:
            queries.any_device(connection)

    def _can_be_read(self) -> bool:
        try:
            self._read_a_device()
        except _TROUBLE:
            return False
        return True

    def _too_old(self, error: Exception) -> DatabaseUnavailable:
        """The daemon has not upgraded the schema yet: what older versions answer, too, can be answered meanwhile."""
        if not self._said_too_old:
            self._said_too_old = True
            logger.warning(
                "the database is from an older version, some addresses answer 503 until the daemon has upgraded it "
                "at its next start: %s",
                _reason(error),
            )
        return DatabaseUnavailable(_reason(error))

    def _unavailable(self, error: Exception, began: float) -> DatabaseUnavailable:
        """Note what went wrong with a request that came at `began`, and have it raised as DatabaseUnavailable."""
        reason = _reason(error)
        self._note_failure(began, reason)
        if self._is_file:
            # Whoever keeps SQLite's -shm open after its -wal was cut keeps others out as well. A server would get more
            # connections each time: those in use stay, beside all that a new pool may have.
            self._engine.dispose()
        return DatabaseUnavailable(reason)

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


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())
