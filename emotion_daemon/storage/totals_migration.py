"""Where only totals are to be stored: what is there of people from before becomes totals, once and for good."""

import logging
import sqlite3
from contextlib import suppress

from sqlalchemy import Engine

from emotion_daemon.storage.store import Store

log = logging.getLogger(__name__)


def leave_only_totals(engine: Engine) -> None:
    """Add every person's seconds to the totals of the device and delete the person; empty what was rejected.

    In one transaction. To be called at the start, before anything else writes; takes some seconds for a million people.
    The -wal file is emptied as well, which still has what was written of them: at each start, as one may not get there.
    """
    with Store(engine, guarded=False, totals_only=True).transaction() as transaction:
        people = transaction.leave_only_totals()
    if engine.dialect.name == "sqlite":
        _empty_the_wal(engine)
    elif people:
        _empty_the_files(engine)
    if people:
        log.warning(
            "EMOTION_TOTALS_ONLY is set: the seconds of %d people are in the totals of their devices now, and the "
            "people are deleted. That cannot be undone",
            people,
        )


def _empty_the_wal(engine: Engine) -> None:
    """A reader may be in the way: then the checkpoints that come do it."""
    with engine.connect() as connection, suppress(sqlite3.Error):
        connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _empty_the_files(engine: Engine) -> None:
    """Of what PostgreSQL has kept of deleted rows and, as samples, in its statistics: those outlive the rows."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM person_emotion, rejected_message")
        connection.exec_driver_sql("ALTER TABLE person_emotion ALTER person_id TYPE text")
