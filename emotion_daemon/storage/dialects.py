"""The differences of SQLite and PostgreSQL for the daemon and the admin commands: one object a database."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    any_,
    bindparam,
    func,
    select,
)

from emotion_daemon.rules.fold import PersonKey
from emotion_daemon.storage.purge import rewrite, vacuum
from shared.schema import device, device_state, person_emotion

if TYPE_CHECKING:  # an engine imports its own dialect; PostgreSQL's is a tenth of the daemon's imports
    from sqlalchemy.dialects import postgresql, sqlite

ROWS_A_SELECT = 1_000

LARGEST_SUM = 1e300
"""Seconds; a sum of this size still has room for more."""

_UPGRADE_LOCK = 0x656D6F74  # PostgreSQL's advisory lock: a number that no other program uses

Keys: TypeAlias = tuple[FromClause, dict[str, Any]]
"""A table of (device_id, person_id), and the parameters of the statement that it stands in."""

Rows: TypeAlias = Sequence[tuple[Any, ...]]

_Row = TypeVar("_Row")


class Dialect(Protocol):
    """One database's way of doing what the other does in another way."""

    single_writer: bool
    """True if the daemon is the only one that writes. Otherwise revisions tell what others have changed."""

    def insert(self, table: Table) -> "sqlite.Insert | postgresql.Insert":
        """An insert that can be turned into an upsert."""

    def insert_rows(
        self, table: Table, columns: Sequence[str], constants: Mapping[str, Any]
    ) -> "sqlite.Insert | postgresql.Insert":
        """The same for many rows at once, which `execute` writes. The `constants` have the same value in each row."""

    def execute(self, connection: Connection, statement: str, rows: Rows, *, columns: int) -> None:
        """Execute the text of an `insert_rows` for all rows: so many columns, then values that all rows share."""

    def lock_devices(
        self, connection: Connection, devices: Collection[str], *, new: Collection[str], others: Collection[str] = ()
    ) -> None:
        """Let other daemons wait that write the same devices. Those of `new` may have no row yet.

        Those of `others` are locked if they have a row.
        """

    def revisions(self, connection: Connection, devices: Collection[str]) -> Mapping[str, int]:
        """The stored revisions of devices that are locked."""

    def lock_people(self, connection: Connection) -> None:
        """Let all others wait that write people."""

    def lock_schema(self, connection: Connection) -> None:
        """Let other programs wait that upgrade the schema."""

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

    def insert_rows(self, table: Table, columns: Sequence[str], constants: Mapping[str, Any]) -> "sqlite.Insert":
        return self.insert(table).values({name: bindparam(name) for name in columns} | dict(constants))

    def execute(self, connection: Connection, statement: str, rows: Rows, *, columns: int) -> None:
        connection.exec_driver_sql(statement, list(rows))

    def lock_devices(
        self, connection: Connection, devices: Collection[str], *, new: Collection[str], others: Collection[str] = ()
    ) -> None:
        """BEGIN IMMEDIATE has locked the whole file."""

    def revisions(self, connection: Connection, devices: Collection[str]) -> Mapping[str, int]:
        """Not needed: `data_version` tells more."""
        return {}

    def lock_people(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has locked the whole file."""

    def lock_schema(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has locked the whole file."""

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

    def insert_rows(self, table: Table, columns: Sequence[str], constants: Mapping[str, Any]) -> "postgresql.Insert":
        """The rows come as one array a column, which takes a quarter of the time of one execution a row."""
        arrays = _unnest(*(bindparam(name, type_=ARRAY(table.c[name].type)) for name in columns), names=columns)
        rows = select(*(arrays.c[name] for name in columns), *constants.values())
        return self.insert(table).from_select([*columns, *constants], rows)

    def execute(self, connection: Connection, statement: str, rows: Rows, *, columns: int) -> None:
        values = list(zip(*rows, strict=True))
        arrays = map(list, values[:columns])
        # %b sends an array in binary form, which takes the driver a quarter of the time of a text.
        connection.exec_driver_sql(
            statement.replace("%s", "%b", columns), (*arrays, *(value[0] for value in values[columns:]))
        )

    def lock_devices(
        self, connection: Connection, devices: Collection[str], *, new: Collection[str], others: Collection[str] = ()
    ) -> None:
        """Lock the rows in one order, so that two daemons never wait for each other."""
        wanted = [*{*devices, *others}]
        if new:
            _insert_devices(connection, sorted(new))
        while wanted and not set(devices) <= set(connection.scalars(_LOCK_DEVICES, {"devices": wanted})):
            _insert_devices(connection, sorted(devices))  # a row was deleted meanwhile

    def revisions(self, connection: Connection, devices: Collection[str]) -> Mapping[str, int]:
        rows = connection.execute(_REVISIONS, {"devices": list(devices)})
        return {device_id: revision for device_id, revision in rows}

    def lock_people(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"LOCK TABLE {person_emotion.name} IN SHARE ROW EXCLUSIVE MODE")

    def lock_schema(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")

    def keys_table(self, keys: Sequence[PersonKey]) -> Keys:
        """PostgreSQL would read the whole table for a list of pairs."""
        texts = (bindparam(name, type_=ARRAY(Text)) for name in ("devices", "people"))
        table = _unnest(*texts, names=("device_id", "person_id"))
        devices, people = zip(*keys, strict=True)
        return table, {"devices": list(devices), "people": list(people)}

    def sum(self, seconds: Column[float]) -> ColumnElement[float]:
        """PostgreSQL raises an error if a sum is too large for it."""
        return func.sum(func.least(seconds, LARGEST_SUM))

    def data_version(self, connection: Connection) -> int:
        return 0

    def purge(self, engine: Engine) -> None:
        vacuum(engine)


_DEVICES = bindparam("devices", type_=ARRAY(Text))
_LOCK_DEVICES = (
    select(device.c.device_id)
    .where(device.c.device_id == any_(_DEVICES))
    .order_by(device.c.device_id)
    .with_for_update()
)
_REVISIONS = select(device_state.c.device_id, device_state.c.revision).where(device_state.c.device_id == any_(_DEVICES))


def _unnest(*arrays: ColumnElement[Any], names: Sequence[str]) -> FromClause:
    return func.unnest(*arrays).table_valued(*names).render_derived()


def _insert_devices(connection: Connection, devices: Sequence[str]) -> None:
    insert = _Postgresql().insert_rows(device, ["device_id"], {}).on_conflict_do_nothing()
    connection.execute(insert, {"device_id": devices})


def dialect_of(database: Engine | Connection) -> Dialect:
    """The dialect of an engine or a connection."""
    return _Sqlite() if database.dialect.name == "sqlite" else _Postgresql()


def parts(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    """`rows` in parts that one select can name."""
    for start in range(0, len(rows), ROWS_A_SELECT):
        yield rows[start : start + ROWS_A_SELECT]
