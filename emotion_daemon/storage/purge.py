"""Remove deleted rows from the database's files: `Dialect.purge` does it for its database."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from sqlite3 import Error as SqliteError

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError

from emotion_daemon.storage.errors import reason
from emotion_daemon.storage.lock_retry import BusyError, until_unlocked


class NotPurgedError(Exception):
    """Raised when the database's files may still contain deleted rows."""


@contextmanager
def _reported() -> Iterator[None]:
    """Raise NotPurgedError for what the database refuses during the block."""
    try:
        yield
    except DBAPIError as error:
        raise NotPurgedError(reason(error)) from error
    except SqliteError as error:
        raise NotPurgedError(str(error)) from error


@_reported()
def rewrite(engine: Engine) -> None:
    """Rewrite an SQLite file, because pages that were split or freed hold copies, and truncate its -wal file.

    Daemon and API continue. Raises NotPurgedError if a step takes longer than `lock_retry.SECONDS`.
    """
    folder = os.path.dirname(os.path.realpath(engine.url.database or ""))
    with closing(engine.raw_connection()) as pooled:
        cursor = pooled.cursor()
        # VACUUM makes a copy as large as the database; /tmp may be small, memory, or read-only.
        quoted = folder.replace("'", "''")
        cursor.execute(f"PRAGMA temp_store_directory='{quoted}'")
        until_unlocked(lambda: cursor.execute("VACUUM"))
        until_unlocked(lambda: _truncate_wal(cursor))


def _truncate_wal(cursor: DBAPICursor) -> None:
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ((busy, _, _),) = cursor.fetchall()
    if busy:
        raise BusyError("a program reads or writes the database all the time")


# What holds VACUUM back: https://www.postgresql.org/docs/current/routine-vacuuming.html. These are readers of this
# database, and writers of any database: a reader that begins here counts from the oldest writer's beginning. Another
# VACUUM does not hold it back.
_OLDER = text("""
    SELECT 1 FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
        AND (age(backend_xid) > age(CAST(:since AS xid))
            OR (datname = current_database() OR datname IS NULL) AND age(backend_xmin) > age(CAST(:since AS xid)))
    UNION ALL
    SELECT 1 FROM pg_prepared_xacts WHERE age(transaction) > age(CAST(:since AS xid))
    UNION ALL
    SELECT 1 FROM pg_replication_slots WHERE age(xmin) > age(CAST(:since AS xid))
    LIMIT 1
""")


@_reported()
def vacuum(engine: Engine) -> None:
    """Vacuum PostgreSQL's tables once older transactions have ended: VACUUM leaves rows that they may still read.

    Raises NotPurgedError if a step takes longer than `lock_retry.SECONDS`.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        since = connection.scalar(text("SELECT CAST(CAST(pg_current_xact_id() AS xid) AS text)"))
        until_unlocked(lambda: _check_older_transactions(connection, since))
        # ANALYZE also replaces the statistics, which have samples of the ids. It leaves those of an empty table.
        until_unlocked(lambda: connection.exec_driver_sql("VACUUM (ANALYZE) person_emotion, rejected_message"))
        if not connection.scalar(text("SELECT EXISTS (SELECT 1 FROM person_emotion)")):
            until_unlocked(lambda: connection.exec_driver_sql("ALTER TABLE person_emotion ALTER person_id TYPE text"))


def _check_older_transactions(connection: Connection, since: str | None) -> None:
    if connection.execute(_OLDER, {"since": since}).first() is not None:
        raise BusyError("an older transaction is open (see pg_stat_activity, pg_prepared_xacts, pg_replication_slots)")
