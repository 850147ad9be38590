"""`python -m emotion_admin person`: erase one person, or export what is stored of one.

A device's history is sums without ids and stays, as do the totals of totals-only mode. Other totals are sums over the
stored people, so they fall.
"""

import secrets
import unicodedata
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, update

from emotion_daemon.rules.tombstones import SALT_BYTES, digest, until_when
from emotion_daemon.storage.dead_letters import HIDDEN_REASON, HIDDEN_TOPIC
from emotion_daemon.storage.dialects import dialect_of
from emotion_daemon.storage.lock_retry import turn_off_busy_timeout, until_unlocked
from emotion_daemon.storage.state_cache import read_tombstones
from emotion_daemon.storage.statements import raise_revision
from shared.batch import MAX_CLOCK_SKEW, Topics
from shared.schema import device, device_state, forgotten_person, person_emotion, rejected_message

_MOST_SHOWN = 20  # devices
_PAYLOAD_DELETED = "; payload deleted: a person was erased"


class Person(NamedTuple):
    """A `person_id` means one person of one device only."""

    device_id: str
    person_id: str


class Erased(NamedTuple):
    """The number of deleted rows of the person, and of dead letters that lost their payload.

    The daemon omits the person from batches with timestamps up to `until` (aware UTC). `behind` is how far our clock is
    behind the device's newest batch, if that is more than clocks may differ. `mistake` names the value that
    is most likely mistyped, if there was no row.
    """

    people: int
    dead_letters: int
    until: datetime
    behind: timedelta
    mistake: str | None


def forget(engine: Engine, topics: Topics, person: Person, *, hours: float, now: datetime) -> Erased:
    """Delete the person's row and the payloads of dead letters that may name the person, and leave a tombstone.

    One transaction does all three. The tombstone lasts until `hours` after `now`, or after the device's newest batch if
    our clock is behind that, or as long as an earlier tombstone. Afterwards no reader sees the person, but the files
    still hold the deleted bytes: see `Dialect.purge`. Waits for a lock up to `lock_retry.SECONDS`. Raises
    what SQLAlchemy raises.
    """
    turn_off_busy_timeout(engine)
    return until_unlocked(lambda: _erase(engine, topics, person, now, timedelta(hours=hours)))


def _erase(engine: Engine, topics: Topics, person: Person, now: datetime, lasts: timedelta) -> Erased:
    with engine.begin() as connection:
        known = _known_devices(connection, topics)
        devices = [person.device_id]
        dialect_of(connection).lock_devices(connection, devices, new=devices)  # no daemon writes the person meanwhile
        people = connection.execute(delete(person_emotion).where(*_is(person))).rowcount
        mistake = None if people else _mistake(connection, known, person)
        dead_letters = _delete_payloads(connection, topics, person.device_id)
        behind = _behind(connection, person.device_id, now)
        until = _leave_tombstone(connection, person, now, now + behind + lasts)
        connection.execute(delete(device).where(device.c.device_id == person.device_id, *_MADE_BY_THE_LOCK))
        if people or person.device_id in known:  # a daemon that knows the device reads the tombstone
            raise_revision(connection, person.device_id)
    return Erased(people, dead_letters, until, behind, mistake)


_MADE_BY_THE_LOCK = (device.c.updated_at.is_(None), device.c.device_name.is_(None))


def _is(person: Person) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    columns = person_emotion.c
    return columns.device_id == person.device_id, columns.person_id == person.person_id


def _delete_payloads(connection: Connection, topics: Topics, device_id: str) -> int:
    """Empty the payloads of dead letters. The topic of one without an owner may name the person, too."""
    letter = rejected_message.c
    may_name = _may_name_a_person(connection, topics, device_id)
    changes = {"payload": b"", "reason": letter.reason + _PAYLOAD_DELETED}
    deleted = connection.execute(update(rejected_message).where(*may_name).values(changes)).rowcount
    found = connection.scalars(select(letter.topic).distinct()).all()
    unowned = letter.topic.in_([topic for topic in found if topics.owner(topic) is None])
    connection.execute(update(rejected_message).where(unowned).values(topic=HIDDEN_TOPIC, reason=HIDDEN_REASON))
    return deleted


def _may_name_a_person(
    connection: Connection, topics: Topics, device_id: str
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Select the dead letters with a payload that came on the device's topics, or on a topic without an owner.

    Payloads are not searched: an invalid message can hold an id in any encoding, or a part of one.
    """
    columns = rejected_message.c
    has_payload = func.length(columns.payload) > 0
    found = connection.scalars(select(columns.topic).where(has_payload).distinct())
    return has_payload, columns.topic.in_([topic for topic in found if topics.owner(topic) in (device_id, None)])


def _known_devices(connection: Connection, topics: Topics) -> set[str]:
    """Return the devices that ever sent a message or were given a name."""
    columns = device.c.device_id, device_state.c.device_id
    known = {device_id for column in columns for device_id in connection.scalars(select(column))}
    owners = {topics.owner(topic) for topic in connection.scalars(select(rejected_message.c.topic).distinct())}
    return known | {owner for owner in owners if owner is not None}


def _mistake(connection: Connection, known: set[str], person: Person) -> str | None:
    if person.device_id not in known:
        shown = ", ".join(sorted(known)[:_MOST_SHOWN]) + (", …" if len(known) > _MOST_SHOWN else "")
        return f"no message of {person.device_id} has ever arrived; known devices: {shown or 'none'}"
    row = person_emotion.c
    stored = connection.scalars(select(row.person_id).where(row.device_id == person.device_id))
    looks = _looks(person.person_id)
    if any(_looks(person_id) == looks for person_id in stored):
        return (
            "a person is stored whose id differs only in blanks around it or in its form of Unicode: "
            "write the id as the device does, or copy it from the dashboard"
        )
    return None


def _looks(person_id: str) -> str:
    """Return the same for ids that a reader cannot tell apart."""
    return unicodedata.normalize("NFKC", person_id).strip()


def _behind(connection: Connection, device_id: str, now: datetime) -> timedelta:
    """Return how far `now` is behind the device's newest stored time: our clock is wrong, or a clock was."""
    updated_at = connection.scalar(select(device.c.updated_at).where(device.c.device_id == device_id))
    received_at = connection.scalar(select(device_state.c.received_at).where(device_state.c.device_id == device_id))
    behind = max(each or now for each in (updated_at, received_at)) - now
    return behind if behind > MAX_CLOCK_SKEW else timedelta()


def _leave_tombstone(connection: Connection, person: Person, now: datetime, until: datetime) -> datetime:
    """Replace the person's earlier tombstone, if any, and keep its end if that is later. Returns the end.

    A device's tombstones share their salt, so that a batch costs one digest a person.
    """
    tombstones = read_tombstones(connection, [person.device_id])
    until = max(until, until_when(tombstones, *person) or until)
    salts = list(tombstones.get(person.device_id, ()))
    salt = salts[0] if salts else secrets.token_bytes(SALT_BYTES)
    columns = forgotten_person.c
    before = [digest(person.person_id, each) for each in salts]
    connection.execute(
        delete(forgotten_person).where(columns.device_id == person.device_id, columns.digest.in_(before))
    )
    row = {"device_id": person.device_id, "digest": digest(person.person_id, salt), "salt": salt}
    connection.execute(insert(forgotten_person).values(**row, forgotten_at=now, until=until))
    return until


def export(engine: Engine, topics: Topics, person: Person) -> dict[str, Any]:
    """Return the stored data of the person, ready for JSON; of dead letters only how many may name the person.

    Raises what SQLAlchemy raises.
    """
    with engine.connect() as connection:  # in one transaction
        row = connection.execute(select(person_emotion).where(*_is(person))).first()
        may_name = _may_name_a_person(connection, topics, person.device_id)
        dead_letters = connection.scalar(select(func.count()).select_from(rejected_message).where(*may_name))
        tombstone = _tombstone(connection, person)
    return {
        **person._asdict(),
        "person_emotion": None if row is None else {name: _json(value) for name, value in row._mapping.items()},
        "dead_letters_that_may_name_the_person": dead_letters,
        "forgotten": tombstone,
    }


def _tombstone(connection: Connection, person: Person) -> dict[str, Any] | None:
    columns = forgotten_person.c
    rows = connection.execute(select(forgotten_person).where(columns.device_id == person.device_id))
    found = [row for row in rows if row.digest == digest(person.person_id, row.salt)]
    return {name: _json(getattr(found[0], name)) for name in ("forgotten_at", "until")} if found else None


def _json(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
