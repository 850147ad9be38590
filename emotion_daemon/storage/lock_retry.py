"""Wait for a database lock that another program holds."""

from collections.abc import Callable
from contextlib import closing
from sqlite3 import SQLITE_BUSY, SQLITE_LOCKED
from sqlite3 import Error as SqliteError
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from shared.database import sqlite_path
from shared.retry import retry

SECONDS = 30.0
"""Seconds that a command waits for a lock."""

_PAUSE_SECONDS = 0.002
_LOCKED_SQLSTATES = ("55P03", "40P01", "40001")  # lock_timeout, deadlock, serialization

_T = TypeVar("_T")


class BusyError(SqliteError):
    """Raised when a database reports a lock in a row of its answer, and not as an error."""

    sqlite_errorcode = SQLITE_BUSY


def turn_off_busy_timeout(engine: Engine) -> None:
    """Have SQLite report a lock at once: its own waiting polls so rarely that a busy daemon keeps others out."""
    if sqlite_path(engine.url) is not None:
        with closing(engine.raw_connection()) as pooled:
            pooled.cursor().execute("PRAGMA busy_timeout=0")


def until_unlocked(attempt: Callable[[], _T]) -> _T:
    """Return what `attempt` returns, and repeat it while it meets a lock. Raises what it raises after SECONDS."""
    return retry(attempt, on=_is_locked, seconds=SECONDS, pause=_PAUSE_SECONDS)


def _is_locked(error: Exception) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code in (SQLITE_BUSY, SQLITE_LOCKED) or getattr(cause, "sqlstate", None) in _LOCKED_SQLSTATES
