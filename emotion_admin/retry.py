"""Getting into a database that others use: what somebody else's lock is in the way of is tried again."""

import time
from collections.abc import Callable
from contextlib import closing
from sqlite3 import SQLITE_BUSY, SQLITE_LOCKED
from sqlite3 import Error as SqliteError
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

SECONDS = 30.0
"""How long it is tried."""

_PAUSE_SECONDS = 0.002
_LOCKED_SQLSTATES = ("55P03", "40P01", "40001")  # lock_timeout, deadlock, serialization

_T = TypeVar("_T")


class BusyError(SqliteError):
    """For what a database says in a row instead of an error: somebody else is in the way."""

    sqlite_errorcode = SQLITE_BUSY


def push_in(engine: Engine) -> None:
    """Ask for SQLite's lock more often than SQLite does, or a daemon under load lets nobody in for seconds."""
    if engine.dialect.name == "sqlite":
        with closing(engine.raw_connection()) as pooled:
            pooled.cursor().execute("PRAGMA busy_timeout=0")


def patiently(attempt: Callable[[], _T]) -> _T:
    """What `attempt` returns, once nobody is in its way any more. Raises what it raises, such as that after SECONDS."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            return attempt()
        except (DBAPIError, SqliteError) as error:
            if not _is_in_the_way(error) or time.monotonic() > end:
                raise
        time.sleep(_PAUSE_SECONDS)


def _is_in_the_way(error: Exception) -> bool:
    """Another's lock, not a full disk: that one has to be told at once."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code in (SQLITE_BUSY, SQLITE_LOCKED) or getattr(cause, "sqlstate", None) in _LOCKED_SQLSTATES
