"""`python -m emotion_daemon person`: all that is stored of one person, erased or shown.

What was shown before a camera in total, and in each minute, is nobody's: it stays.
"""

import base64
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from sqlite3 import SQLITE_BUSY, SQLITE_LOCKED
from sqlite3 import Error as SqliteError
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, insert, select
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError

from emotion_daemon.forgotten import SALT_BYTES, digest
from emotion_daemon.known import lock_devices, read_forgotten
from emotion_daemon.mention import Record, mentions
from emotion_daemon.store import SENT_AHEAD, count_unstamped, reason
from shared.batch import Topics
from shared.database import sqlite_path
from shared.schema import device, forgotten_person, person_emotion, rejected_message

PATIENCE_SECONDS = 30.0
"""How long is tried to get into a database that others use."""

_PAUSE_SECONDS = 0.002
_LOCKED_SQLSTATES = ("55P03", "40P01", "40001")  # lock_timeout, deadlock, serialization
_ROWS_A_SELECT = 100  # of up to 64 KiB


T = TypeVar("T")


class Person(NamedTuple):
    """Whom it is about: ids are one device's."""

    device_id: str
    person_id: str


class Erased(NamedTuple):
    """How many rows were deleted, and up to which stamp the person is left out from now on (aware UTC)."""

    people: int
    rejected: int
    until: datetime


class NotPurgedError(Exception):
    """Raised when what was deleted may still stand in the database's files."""


def forget(writer: Engine, reader: Engine, topics: Topics, person: Person, *, hours: float, now: datetime) -> Erased:
    """Delete the person's row and the rejected messages that mention them, and leave a tombstone, in one transaction.

    Whatever is stamped until `hours` after `now` leaves the person out. What is deleted is gone for every reader, but
    not yet out of the files: see `purge`. Raises what SQLAlchemy raises, for what is temporary after PATIENCE_SECONDS.
    """
    with reader.connect() as connection:  # minutes for 10,000 of the largest, in which the daemon has to write
        found = _search(connection, topics, person, between=connection.rollback)  # and its -wal file to be brought in
    _push_in(writer)
    return _patiently(lambda: _erase(writer, topics, person, found, now, now + timedelta(hours=hours)))


def _erase(
    writer: Engine, topics: Topics, person: Person, found: tuple[set[int], int], now: datetime, until: datetime
) -> Erased:
    mentioning, searched = found
    with writer.begin() as connection:
        locked_only = _lock(connection, person.device_id)
        people = connection.execute(delete(person_emotion).where(*_is(person))).rowcount
        # On PostgreSQL daemons may commit out of the order of the ids.
        out_of_order = 0 if connection.dialect.name == "sqlite" else SENT_AHEAD
        newer, _ = _search(connection, topics, person, after=searched - out_of_order)
        rejected = _delete_rejected(connection, sorted(mentioning | newer))
        _leave_tombstone(connection, person, now, until)
        if locked_only:
            connection.execute(delete(device).where(device.c.device_id == person.device_id, *_SAYS_NOTHING))
        count_unstamped(connection)
    return Erased(people, rejected, until)


_SAYS_NOTHING = (device.c.updated_at.is_(None), device.c.device_name.is_(None))


def _lock(connection: Connection, device_id: str) -> bool:
    """On PostgreSQL, no daemon's transaction brings the row back. Returns whether a row of `device` was made for it."""
    if connection.dialect.name != "postgresql":
        return False
    known = connection.scalar(select(device.c.device_id).where(device.c.device_id == device_id))
    lock_devices(connection, [device_id])
    return known is None


def _is(person: Person) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    columns = person_emotion.c
    return columns.device_id == person.device_id, columns.person_id == person.person_id


def _search(
    connection: Connection,
    topics: Topics,
    person: Person,
    *,
    after: int = 0,
    between: Callable[[], None] = lambda: None,
) -> tuple[set[int], int]:
    """The ids of the records behind `after` that mention the person, and the last id that was looked at.

    `between` is called now and then.
    """
    found = set()
    for row in _records(connection, after, between):
        after = row.id
        if _mentions(row, topics, person):
            found.add(row.id)
    return found, after


def _records(connection: Connection, after: int = 0, between: Callable[[], None] = lambda: None) -> Iterator[Row[Any]]:
    table = rejected_message
    query = select(table).order_by(table.c.id).limit(_ROWS_A_SELECT)
    while rows := connection.execute(query.where(table.c.id > after)).all():
        between()
        yield from rows
        after = rows[-1].id


def _mentions(row: Row[Any], topics: Topics, person: Person) -> bool:
    record = Record(row.topic, row.reason, row.payload, cut=row.payload_size > len(row.payload))
    return mentions(record, topics, device_id=person.device_id, person_id=person.person_id)


def _delete_rejected(connection: Connection, ids: Sequence[int]) -> int:
    deleted = 0
    for start in range(0, len(ids), _ROWS_A_SELECT):
        part = ids[start : start + _ROWS_A_SELECT]
        deleted += connection.execute(delete(rejected_message).where(rejected_message.c.id.in_(part))).rowcount
    return deleted


def _leave_tombstone(connection: Connection, person: Person, now: datetime, until: datetime) -> None:
    """In the place of the one that there was. A device's tombstones share their salt: one digest a person and batch."""
    salts = list(read_forgotten(connection, [person.device_id]).get(person.device_id, ()))
    salt = salts[0] if salts else secrets.token_bytes(SALT_BYTES)
    columns = forgotten_person.c
    before = [digest(person.person_id, each) for each in salts]
    connection.execute(
        delete(forgotten_person).where(columns.device_id == person.device_id, columns.digest.in_(before))
    )
    row = {"device_id": person.device_id, "digest": digest(person.person_id, salt), "salt": salt}
    connection.execute(insert(forgotten_person).values(**row, forgotten_at=now, until=until))


def purge(engine: Engine) -> None:
    """Take what was deleted out of the database's files, while daemon and API go on.

    On SQLite the file is written anew, since splitting and freeing pages leaves copies behind, and then the -wal file
    is cut to nothing. Raises NotPurgedError where that is not done within PATIENCE_SECONDS for each of the two.
    """
    try:
        if sqlite_path(engine.url) is None:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                # Also for its statistics, which have samples of the ids.
                connection.exec_driver_sql("VACUUM (ANALYZE) person_emotion, rejected_message")
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
        _patiently(lambda: cursor.execute("VACUUM"))
        _patiently(lambda: _bring_in(cursor))


def _bring_in(cursor: DBAPICursor) -> None:
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ((busy, _, _),) = cursor.fetchall()
    if busy:
        raise _BusyError("somebody reads or writes the database all the time")


class _BusyError(SqliteError):
    """Raised where SQLite says so in a row instead of an error."""

    sqlite_errorcode = SQLITE_BUSY


def _push_in(engine: Engine) -> None:
    """Ask for SQLite's lock more often than SQLite does, or a daemon under load lets nobody in for seconds."""
    if engine.dialect.name == "sqlite":
        with closing(engine.raw_connection()) as pooled:
            pooled.cursor().execute("PRAGMA busy_timeout=0")


def _patiently(attempt: Callable[[], T]) -> T:
    """What `attempt` returns, once nobody is in its way any more."""
    end = time.monotonic() + PATIENCE_SECONDS
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


def export(engine: Engine, topics: Topics, person: Person) -> dict[str, Any]:
    """All that is stored of the person, as JSON has it. Raises what SQLAlchemy raises."""
    with engine.connect() as connection:  # one transaction: all of one moment
        row = connection.execute(select(person_emotion).where(*_is(person))).first()
        rejected = [_shown(each) for each in _records(connection) if _mentions(each, topics, person)]
        tombstone = _tombstone(connection, person)
    return {
        **person._asdict(),
        "person_emotion": None if row is None else {name: _json(value) for name, value in row._mapping.items()},
        "rejected_messages": rejected,
        "forgotten": tombstone,
    }


def _shown(row: Row[Any]) -> dict[str, Any]:
    """`payload_is` says how to read `payload`: text, or base64 where its bytes are no UTF-8."""
    try:
        payload, payload_is = row.payload.decode(), "text"
    except UnicodeDecodeError:
        payload, payload_is = base64.b64encode(row.payload).decode(), "base64"
    shown = {name: _json(getattr(row, name)) for name in ("id", "received_at", "topic", "reason", "payload_size")}
    return shown | {"payload": payload, "payload_is": payload_is}


def _tombstone(connection: Connection, person: Person) -> dict[str, Any] | None:
    columns = forgotten_person.c
    rows = connection.execute(select(forgotten_person).where(columns.device_id == person.device_id))
    found = [row for row in rows if row.digest == digest(person.person_id, row.salt)]
    return {name: _json(getattr(found[0], name)) for name in ("forgotten_at", "until")} if found else None


def _json(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
