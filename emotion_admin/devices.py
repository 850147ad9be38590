"""Names of devices, and the list of all devices."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Engine, select

from emotion_admin.errors import OperatorError
from emotion_daemon.storage.dialects import dialect_of
from emotion_daemon.storage.statements import raise_revision
from shared.schema import device

MAX_NAME_LENGTH = 200
"""Characters, as in EMOTION_DEVICE_NAMES."""


class Device(NamedTuple):
    """One line of `device list`: `last_batch` is the newest batch's timestamp, None if there is none."""

    device_id: str
    name: str | None
    has_login: bool
    last_batch: datetime | None


def set_name(engine: Engine, device_id: str, name: str) -> None:
    """Name a device, even before its first batch. The name overrides EMOTION_DEVICE_NAMES. Raises OperatorError."""
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise OperatorError(f"a name has 1 to {MAX_NAME_LENGTH} printable characters")
    statement = dialect_of(engine).insert(device).values(device_id=device_id, device_name=name)
    statement = statement.on_conflict_do_update(
        index_elements=[device.c.device_id], set_={"device_name": statement.excluded.device_name}
    )
    with engine.begin() as connection:
        connection.execute(statement)
        raise_revision(connection, device_id)


def listed(engine: Engine, logins: Collection[str]) -> list[Device]:
    """Return all devices that have a login, a name or a batch, by id."""
    with engine.connect() as connection:
        rows = connection.execute(select(device.c.device_id, device.c.device_name, device.c.updated_at)).all()
    known: dict[str, tuple[str | None, datetime | None]] = {row[0]: (row[1], row[2]) for row in rows}
    return [
        Device(device_id, name, device_id in logins, last_batch)
        for device_id in sorted(known.keys() | set(logins))
        for name, last_batch in [known.get(device_id, (None, None))]
    ]
