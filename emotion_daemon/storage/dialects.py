"""The differences of SQLite and PostgreSQL for the daemon and the admin commands: one object a database."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Table,
    Text,
    bindparam,
    func,
    select,
)

from emotion_daemon.rules.fold import PersonKey
from emotion_daemon.storage.file_guard import check_sound
from emotion_daemon.storage.purge import rewrite, vacuum
from shared.schema import device, person_emotion

if TYPE_CHECKING:  # an engine imports its own dialect; PostgreSQL's is a tenth of the daemon's imports
    from sqlalchemy.dialects import postgresql, sqlite

ROWS_A_SELECT = 1_000

LARGEST_SUM = 1e300
"""Seconds; a sum of this size still has room for more."""

_UPGRADE_LOCK = 0x656D6F74  # PostgreSQL's advisory lock: a number that no other program uses

Keys: TypeAlias = tuple[FromClause, dict[str, Any]]
"""A table of (device_id, person_id), and the parameters of the statement that it stands in."""

_Row = TypeVar("_Row")


class Dialect(Protocol):
    """One database's way of doing what the other does in another way."""

    single_writer: bool
    """True if the daemon is the only writer, so that it may remember what it has committed."""

    def insert(self, table: Table) -> "sqlite.Insert | postgresql.Insert":
        """An insert that can be turned into an upsert."""

    def lock_devices(self, connection: Connection, devices: Sequence[str]) -> None:
        """Let other daemons wait that write the same devices."""

    def lock_people(self, connection: Connection) -> None:
        """Let all others wait that write people."""

    def lock_schema(self, connection: Connection) -> None:
        """Let other programs wait that upgrade the schema, and check that the file is intact."""

    def keys_table(self, keys: Sequence[PersonKey]) -> Keys:
        """A table of exactly these keys, to be joined."""

    def sum(self, seconds: Column[float]) -> ColumnElement[float]:
        """The sum of a column of seconds."""

    def data_version(self, connection: Connection) -> int:
        """A number that changes if another connection has committed; 0 if the database has none."""

    def purge(self, engine: Engine) -> None:
        """Remove deleted rows from the database's files. Raises NotPurgedError."""


class _Sqlite:
    single_writer = True

    def insert(self, table: Table) -> "sqlite.Insert":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)

    def lock_devices(self, connection: Connection, devices: Sequence[str]) -> None:
        """BEGIN IMMEDIATE has locked the whole file."""

    def lock_people(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has locked the whole file."""

    def lock_schema(self, connection: Connection) -> None:
        check_sound(connection)

    def keys_table(self, keys: Sequence[PersonKey]) -> Keys:
        pairs = func.json_each(bindparam("keys")).table_valued("value").c.value
        columns = (
            func.json_extract(pairs, f"$[{at}]").label(name) for at, name in enumerate(("device_id", "person_id"))
        )
        return select(*columns).subquery(), {"keys": json.dumps(keys, ensure_ascii=False)}

    def sum(self, seconds: Column[float]) -> ColumnElement[float]:
        return func.sum(seconds)

    def data_version(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def purge(self, engine: Engine) -> None:
        rewrite(engine)


class _Postgresql:
    single_writer = False

    def insert(self, table: Table) -> "postgresql.Insert":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def lock_devices(self, connection: Connection, devices: Sequence[str]) -> None:
        """Lock the rows in one order, so that two daemons never wait for each other."""
        insert = self.insert(device).on_conflict_do_nothing()
        for part in parts(devices):
            connection.execute(insert, [{"device_id": device_id} for device_id in part])
            rows = select(device.c.device_id).where(device.c.device_id.in_(part)).order_by(device.c.device_id)
            connection.execute(rows.with_for_update()).all()

    def lock_people(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"LOCK TABLE {person_emotion.name} IN SHARE ROW EXCLUSIVE MODE")

    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")

    def keys_table(self, keys: Sequence[PersonKey]) -> Keys:
        """PostgreSQL would read the whole table for a list of pairs."""
        texts = (bindparam(name, type_=ARRAY(Text)) for name in ("devices", "people"))
        table = func.unnest(*texts).table_valued("device_id", "person_id").render_derived()
        devices, people = zip(*keys, strict=True)
        return table, {"devices": list(devices), "people": list(people)}

    def sum(self, seconds: Column[float]) -> ColumnElement[float]:
        """PostgreSQL raises an error if a sum is too large for it."""
        return func.sum(func.least(seconds, LARGEST_SUM))

    def data_version(self, connection: Connection) -> int:
        return 0

    def purge(self, engine: Engine) -> None:
        vacuum(engine)


def dialect_of(database: Engine | Connection) -> Dialect:
    """The dialect of an engine or a connection."""
    return _Sqlite() if database.dialect.name == "sqlite" else _Postgresql()


def parts(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    """`rows` in parts that one select can name."""
    for start in range(0, len(rows), ROWS_A_SELECT):
        yield rows[start : start + ROWS_A_SELECT]
