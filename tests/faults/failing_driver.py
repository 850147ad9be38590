"""A database driver whose Nth call fails: sqlite3 and psycopg themselves, with a counter before each call.

In this process by `install`; in the daemon's by `FAILING_CALL=57 python -m tests.faults.failing_driver`.
"""

import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine.interfaces import Dialect

from emotion_daemon import __main__ as program

SQLITE_ERRORS = {
    "SQLITE_BUSY": "database is locked",
    "SQLITE_FULL": "database or disk is full",
    "SQLITE_IOERR_WRITE": "disk I/O error",
    "SQLITE_CANTOPEN": "unable to open database file",
    "SQLITE_READONLY": "attempt to write a readonly database",
}

T = TypeVar("T")


class Failure:
    """The calls that fail: the `nth`, and with `lasting` all that follow, until `mend`.

    A call that fails `late` has done its work before: only the answer is lost. A lost PostgreSQL server takes the
    connection with it; `name` is one of SQLITE_ERRORS, which leaves it.
    """

    def __init__(
        self, nth: int, *, lasting: bool = False, late: bool = False, name: str = "SQLITE_IOERR_WRITE"
    ) -> None:
        self._nth = nth
        self._lasting = lasting
        self._late = late
        self._name = name
        self._mended = False
        self.calls = 0
        self.failed = 0

    def mend(self) -> None:
        self._mended = True

    def counted(self, call: Callable[[], T], connection: psycopg.Connection[Any] | None = None) -> T:
        """Make the call, or fail it where its turn has come."""
        self.calls += 1
        due = self.calls == self._nth or (self._lasting and self.calls > self._nth)
        if not due or self._mended:
            return call()
        self.failed += 1
        logging.getLogger(__name__).warning("FAILED call %d", self.calls)
        if self._late:
            call()
        raise self._sqlite_error() if connection is None else self._postgresql_error(connection)

    def _sqlite_error(self) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError(SQLITE_ERRORS[self._name])
        error.sqlite_errorname, error.sqlite_errorcode = self._name, getattr(sqlite3, self._name)
        return error

    def _postgresql_error(self, connection: psycopg.Connection[Any]) -> psycopg.OperationalError:
        connection.close()
        return psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")


def install(failure: Failure, engine: Engine | type[Engine] = Engine) -> None:
    """Have every connection that is made from now on count its calls, from the connecting on."""

    def connect(dialect: Dialect, record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
        if not isinstance(dialect, SQLiteDialect):
            return None  # the engine's own way, which may connect twice
        made = sqlite3.connect(*arguments, factory=_sqlite_connection(failure), **options)
        try:
            return failure.counted(lambda: made)
        except sqlite3.Error:
            made.close()
            raise

    def connected(made: object, record: object) -> None:
        if isinstance(made, psycopg.Connection):
            failure.counted(lambda: _watched(made, failure), made)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", connected)


def _sqlite_connection(failure: Failure) -> type[sqlite3.Connection]:
    class Cursor(sqlite3.Cursor):
        def execute(self, *arguments: Any) -> "Cursor":
            return failure.counted(lambda: super(Cursor, self).execute(*arguments))

        def executemany(self, *arguments: Any) -> "Cursor":
            return failure.counted(lambda: super(Cursor, self).executemany(*arguments))

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = None) -> Any:
            return super().cursor(Cursor)

        def commit(self) -> None:
            failure.counted(super().commit)

        def rollback(self) -> None:
            failure.counted(super().rollback)

    return Connection


def _watched(connection: psycopg.Connection[Any], failure: Failure) -> psycopg.Connection[Any]:
    class Cursor(psycopg.Cursor[Any]):
        def execute(self, *arguments: Any, **options: Any) -> "Cursor":
            return failure.counted(lambda: super(Cursor, self).execute(*arguments, **options), connection)

        def executemany(self, *arguments: Any, **options: Any) -> None:
            failure.counted(lambda: super(Cursor, self).executemany(*arguments, **options), connection)

    commit, rollback = connection.commit, connection.rollback
    connection.cursor_factory = Cursor
    connection.commit = lambda: failure.counted(commit, connection)  # type: ignore[method-assign]
    connection.rollback = lambda: failure.counted(rollback, connection)  # type: ignore[method-assign]
    return connection


if __name__ == "__main__":
    install(Failure(int(os.environ["FAILING_CALL"])))
    sys.exit(program.main())
