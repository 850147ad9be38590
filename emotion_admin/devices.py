"""The operator's side of the table `device`: names, and which devices there are."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from emotion_admin.errors import OperatorError
from emotion_daemon.storage.statements import raise_revision
from shared.schema import device

MAX_NAME_LENGTH = 200
"""Characters; the same as in EMOTION_DEVICE_NAMES."""


class Device(NamedTuple):
    """One line of `device list`: `last_batch` is the stamp of the newest one, None if there was none."""

    device_id: str
    name: str | None
    has_login: bool
    last_batch: datetime | None


def check_name(name: str) -> None:
    """Raise OperatorError where `name` cannot be shown."""
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise OperatorError(f"a name is 1 to {MAX_NAME_LENGTH} printable characters")


def set_name(engine: Engine, device_id: str, name: str) -> None:
    """Name a device, whether or not it has ever sent a batch. This name wins over EMOTION_DEVICE_NAMES."""
    check_name(name)
    dialect = sqlite if engine.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(device).values(device_id=device_id, device_name=name)
    statement = statement.on_conflict_do_update(
        index_elements=[device.c.device_id], set_={"device_name": statement.excluded.device_name}
    )
    with engine.begin() as connection:
        connection.execute(statement)
        raise_revision(connection, device_id)


def listed(engine: Engine, logins: Collection[str]) -> list[Device]:
    """Everybody who has a login, a name or a batch, by id."""
    with engine.connect() as connection:
        rows = connection.execute(select(device.c.device_id, device.c.device_name, device.c.updated_at)).all()
    known: dict[str, tuple[str | None, datetime | None]] = {row[0]: (row[1], row[2]) for row in rows}
    return [
        Device(device_id, name, device_id in logins, last_batch)
        for device_id in sorted(known.keys() | set(logins))
        for name, last_batch in [known.get(device_id, (None, None))]
    ]
