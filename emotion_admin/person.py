"""`python -m emotion_admin person`: all that is stored of one person, erased or shown.

What was shown before a camera in total, and in each minute, is nobody's: it stays.
"""

import base64
import secrets
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, insert, select

from emotion_admin.retry import patiently, push_in
from emotion_daemon.rules.tombstones import SALT_BYTES, digest, until_when
from emotion_daemon.storage.mention import Record, mentions
from emotion_daemon.storage.state_cache import lock_devices, read_forgotten
from emotion_daemon.storage.store import SENT_AHEAD, count_unstamped, raise_revision
from shared.batch import MAX_CLOCK_SKEW, Topics
from shared.schema import device, device_state, forgotten_person, person_emotion, rejected_message

_ROWS_A_SELECT = 100  # of up to 64 KiB


class Person(NamedTuple):
    """Whom it is about: ids are one device's."""

    device_id: str
    person_id: str


class Erased(NamedTuple):
    """How many rows were deleted, and up to which stamp the person is left out from now on (aware UTC).

    `behind` is how far our clock is behind what is stored of the device, if it is so by more than a clock may be.
    """

    people: int
    rejected: int
    until: datetime
    behind: timedelta = timedelta()


def forget(writer: Engine, reader: Engine, topics: Topics, person: Person, *, hours: float, now: datetime) -> Erased:
    """Delete the person's row and the rejected messages that mention them, and leave a tombstone, in one transaction.

    Whatever is stamped until `hours` after `now` leaves the person out, or after the newest that is stored of the
    device, where our clock is behind that, or as long as an earlier tombstone says. What is deleted is gone for every
    reader, but not yet out of the files: see purge.py. Raises what SQLAlchemy raises, for what is temporary after
    `patience.SECONDS`.
    """
    with reader.connect() as connection:  # minutes for 10,000 of the largest, in which the daemon has to write
        found = _search(connection, topics, person, between=connection.rollback)  # and its -wal file to be brought in
    push_in(writer)
    return patiently(lambda: _erase(writer, topics, person, found, now, timedelta(hours=hours)))


def _erase(
    writer: Engine, topics: Topics, person: Person, found: tuple[set[int], int], now: datetime, lasts: timedelta
) -> Erased:
    mentioning, searched = found
    with writer.begin() as connection:
        locked_only = _lock(connection, person.device_id)
        people = connection.execute(delete(person_emotion).where(*_is(person))).rowcount
        # On PostgreSQL daemons may commit out of the order of the ids.
        out_of_order = 0 if connection.dialect.name == "sqlite" else SENT_AHEAD
        newer, _ = _search(connection, topics, person, after=searched - out_of_order)
        rejected = _delete_rejected(connection, sorted(mentioning | newer))
        behind = _behind(connection, person.device_id, now)
        until = _leave_tombstone(connection, person, now, now + behind + lasts)
        if locked_only:
            connection.execute(delete(device).where(device.c.device_id == person.device_id, *_SAYS_NOTHING))
        count_unstamped(connection)
        if people:
            raise_revision(connection, person.device_id)
    return Erased(people, rejected, until, behind)


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
    record = Record(row.topic, row.reason, row.payload)
    return mentions(record, topics, device_id=person.device_id, person_id=person.person_id)


def _delete_rejected(connection: Connection, ids: Sequence[int]) -> int:
    deleted = 0
    for start in range(0, len(ids), _ROWS_A_SELECT):
        part = ids[start : start + _ROWS_A_SELECT]
        deleted += connection.execute(delete(rejected_message).where(rejected_message.c.id.in_(part))).rowcount
    return deleted


def _behind(connection: Connection, device_id: str, now: datetime) -> timedelta:
    """How far `now` is behind the newest that is stored of the device: a clock that is wrong, or was."""
    updated_at = connection.scalar(select(device.c.updated_at).where(device.c.device_id == device_id))
    received_at = connection.scalar(select(device_state.c.received_at).where(device_state.c.device_id == device_id))
    behind = max(each or now for each in (updated_at, received_at)) - now
    return behind if behind > MAX_CLOCK_SKEW else timedelta()


def _leave_tombstone(connection: Connection, person: Person, now: datetime, until: datetime) -> datetime:
    """In the place of the one that there was, whose end stays if it is later. Returns its end.

    A device's tombstones share their salt: one digest a person and batch.
    """
    there = read_forgotten(connection, [person.device_id])
    until = max(until, until_when(there, *person) or until)
    salts = list(there.get(person.device_id, ()))
    salt = salts[0] if salts else secrets.token_bytes(SALT_BYTES)
    columns = forgotten_person.c
    before = [digest(person.person_id, each) for each in salts]
    connection.execute(
        delete(forgotten_person).where(columns.device_id == person.device_id, columns.digest.in_(before))
    )
    row = {"device_id": person.device_id, "digest": digest(person.person_id, salt), "salt": salt}
    connection.execute(insert(forgotten_person).values(**row, forgotten_at=now, until=until))
    return until


def devices(engine: Engine) -> set[str]:
    """Those of whom anything is stored. Raises what SQLAlchemy raises."""
    with engine.connect() as connection:
        return {*connection.scalars(select(device.c.device_id)), *connection.scalars(select(device_state.c.device_id))}


def is_stored_in_another_form(engine: Engine, person: Person) -> bool:
    """Whether the device has somebody whose id looks the same: blanks around it, or another form of Unicode.

    Raises what SQLAlchemy raises.
    """
    forms = {unicodedata.normalize(form, person.person_id.strip()) for form in ("NFC", "NFD")} - {person.person_id}
    alike = select(person_emotion.c.id).where(
        person_emotion.c.device_id == person.device_id, person_emotion.c.person_id.in_(forms)
    )
    with engine.connect() as connection:
        return connection.execute(alike.limit(1)).first() is not None


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
