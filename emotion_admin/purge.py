"""What was deleted is taken out of the database's files, too."""

import os
from contextlib import closing
from sqlite3 import Error as SqliteError

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError

from emotion_admin.retry import BusyError, until_unlocked
from emotion_daemon.storage.errors import reason
from shared.database import sqlite_path


class NotPurgedError(Exception):
    """Raised when what was deleted may still stand in the database's files."""


def purge(engine: Engine) -> None:
    """Take what was deleted out of the database's files, while daemon and API go on.

    On SQLite the file is written anew, since splitting and freeing pages leaves copies behind, and then the -wal file
    is cut to nothing. On PostgreSQL, where VACUUM would silently leave what a transaction from before may still read,
    that one's end is waited for. Raises NotPurgedError where it is not done within `patience.SECONDS` for each of the
    two steps.
    """
    try:
        if sqlite_path(engine.url) is None:
            _vacuum(engine)
        else:
            _rewrite(engine)
    except DBAPIError as error:
        raise NotPurgedError(reason(error)) from error
    except SqliteError as error:
        raise NotPurgedError(str(error)) from error


def _rewrite(engine: Engine) -> None:
    folder = os.path.dirname(os.path.realpath(engine.url.database or ""))
    with closing(engine.raw_connection()) as pooled:
        cursor = pooled.cursor()
        # The copy that VACUUM makes is as large as the database; /tmp may be small, memory, or read-only.
        quoted = folder.replace("'", "''")
        cursor.execute(f"PRAGMA temp_store_directory='{quoted}'")
        until_unlocked(lambda: cursor.execute("VACUUM"))
        until_unlocked(lambda: _bring_in(cursor))


def _bring_in(cursor: DBAPICursor) -> None:
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ((busy, _, _),) = cursor.fetchall()
    if busy:
        raise BusyError("somebody reads or writes the database all the time")


# What holds VACUUM back: https://www.postgresql.org/docs/current/routine-vacuuming.html. Who reads here, and who writes
# in any database: from the latter's beginning counts whoever begins to read here. Another VACUUM does not count.
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


def _vacuum(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        since = connection.scalar(text("SELECT CAST(CAST(pg_current_xact_id() AS xid) AS text)"))
        until_unlocked(lambda: _check_that_none_is_older(connection, since))
        # Also for its statistics, which have samples of the ids.
        until_unlocked(lambda: connection.exec_driver_sql("VACUUM (ANALYZE) person_emotion, rejected_message"))


def _check_that_none_is_older(connection: Connection, since: str | None) -> None:
    if connection.execute(_OLDER, {"since": since}).first() is not None:
        raise BusyError("a transaction is open that began before (pg_stat_activity, pg_prepared_xacts, a replica)")
