"""The selects. Rows are fetched whole: a cursor left open would hold back SQLite's checkpoint."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from emotion_api.summary import PersonRow
from shared.schema import device, person_emotion

_DEVICE = select(device.c.device_name, device.c.updated_at).where(device.c.device_id == bindparam("device_id"))

_PEOPLE = select(
    person_emotion.c.person_id,
    person_emotion.c.time_happy,
    person_emotion.c.time_sad,
    person_emotion.c.time_angry,
    person_emotion.c.time_neutral,
    person_emotion.c.last_seen,
).where(person_emotion.c.device_id == bindparam("device_id"))

_ANY_DEVICE = select(device.c.device_id).limit(1)


def any_device(connection: Connection) -> str | None:
    """The id of one of the devices, None where there is none yet: whether the table can be read."""
    return connection.execute(_ANY_DEVICE).scalar()


def device_row(connection: Connection, device_id: str) -> tuple[str | None, datetime | None]:
    """The device's `device_name` and `updated_at`, both None where there is no such device."""
    row = connection.execute(_DEVICE, {"device_id": device_id}).one_or_none()
    return (None, None) if row is None else (row.device_name, row.updated_at)


def people(connection: Connection, device_id: str) -> Sequence[PersonRow]:
    """The device's people, in no particular order: a collation would sort them differently in each database."""
    return connection.execute(_PEOPLE, {"device_id": device_id}).all()


def data_version(connection: Connection) -> int | None:
    """A number that differs from this connection's last one if another process has committed since.

    Read it before the selects: what is committed in between then differs the next time. None where the database is
    not SQLite.
    """
    if connection.dialect.name != "sqlite":
        return None
    cursor = connection.connection.cursor()  # the driver's own: a transaction would take longer than all the rest
    cursor.execute("PRAGMA data_version")
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])
