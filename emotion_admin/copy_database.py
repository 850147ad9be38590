"""`python -m emotion_admin copy-database`: copy all rows to an empty SQLite or PostgreSQL database, and compare them.

The source is read in one transaction, in the order of the primary keys. The target stores each chunk in a transaction
of its own, so a command that ended early continues after the last stored row.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    Table,
    Text,
    case,
    collate,
    func,
    insert,
    inspect,
    literal,
    make_url,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import DBAPIError

from emotion_admin.errors import OperatorError
from emotion_daemon.storage.dialects import LARGEST_SUM
from emotion_daemon.storage.errors import reason
from emotion_daemon.storage.file_lock import only_one
from emotion_daemon.storage.migrations import UNFINISHED_COPY, NewerSchemaError, revisions, upgrade
from shared.database import WRITER, code_point_collation, sqlite_path, writer_engine
from shared.retry import retry
from shared.schema import metadata

if TYPE_CHECKING:
    import psycopg

CHUNK_ROWS = 5_000
"""Rows of one transaction in the target. A dead letter has up to 64 KiB, so they take 320 MiB at most."""

_ENDING_SECONDS = 2.0  # PostgreSQL notices in this time that a killed client has gone

_VERSION = text("SELECT version_num FROM alembic_version")
_DAEMONS = text(
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = :writer AND pid <> pg_backend_pid()"
)


class TableCopy(NamedTuple):
    """One table on its way: its rows in the source, those that the target has, and the sizes of the next chunks."""

    name: str
    rows: int
    copied: int
    chunks: Iterator[int]


class Copy:
    """The copy of all tables from the source's transaction to the target. `name` is the source's."""

    def __init__(self, source: Connection, name: str, target: Engine) -> None:
        self._source = source
        self._name = name
        self._target = target

    def tables(self) -> Iterator[TableCopy]:
        """Yield every table. Using up its chunks copies it. Raises OperatorError."""
        for table in metadata.sorted_tables:
            with _reported(self._target), self._target.connect() as connection:
                copied, last = _count(connection, table), _last_key(connection, table)
            yield TableCopy(table.name, _count(self._source, table), copied, self._chunks(table, last))

    def finish(self) -> int:
        """Compare all tables, and release the target. Returns the number of rows. Raises OperatorError."""
        rows = 0
        with _reported(self._target), self._target.begin() as connection:
            _without_timeouts(connection)
            _check_stopped(self._source, self._name)  # a daemon may have started meanwhile
            _check_stopped(connection, _name(self._target.url))
            for table in metadata.sorted_tables:
                rows += _compare(table, self._source, connection)
                _advance_sequence(connection, table)
            UNFINISHED_COPY.drop(connection)
        return rows

    def _chunks(self, table: Table, last: Sequence[Any] | None) -> Iterator[int]:
        key = _key(self._source, table)
        query = select(table).order_by(*key).execution_options(yield_per=CHUNK_ROWS)
        if last is not None:
            after = (literal(value, column.type) for value, column in zip(last, table.primary_key, strict=True))
            query = query.where(tuple_(*key) > tuple_(*after))
        store = _store_function(self._target, table)
        with self._source.execute(query) as result:
            for rows in result.partitions():
                with _reported(self._target), self._target.begin() as connection:
                    store(connection, rows)
                yield len(rows)


@contextmanager
def prepared(source: Engine, source_url: str, target_url: str, *, echo: bool = False) -> Iterator[Copy]:
    """Keep daemons off both databases for the block, and give the target its schema.

    `source` is a reader's engine, whose own URL is not that of the settings. Raises OperatorError if a daemon runs or
    the target has other data, DatabaseFileError and what SQLAlchemy raises.
    """
    target = writer_engine(target_url, echo=echo)
    name = _name(make_url(source_url))
    if name == _name(target.url):
        raise OperatorError("--to names the database that EMOTION_DATABASE_URL names: name another one")
    try:
        with _locked(make_url(source_url)), _locked(target.url), source.connect() as connection:
            _without_timeouts(connection)
            _check_stopped(connection, name)
            _check_newest_schema(connection, name)
            with _reported(target):
                _claim(target, name)
            yield Copy(connection, name, target)
    finally:
        target.dispose()


def _name(url: URL) -> str:
    path = sqlite_path(url)
    return url.render_as_string(hide_password=True) if path is None else str(path.resolve())


def _locked(url: URL) -> AbstractContextManager[None]:
    """Hold the lock of an SQLite file, so that no daemon can start."""
    path = sqlite_path(url)
    return nullcontext() if path is None else only_one(path.resolve())


def _without_timeouts(connection: Connection) -> None:
    """Let statements of the connection's transaction take as long as they need: they read whole tables."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def _check_stopped(connection: Connection, name: str) -> None:
    """Check that no daemon is connected to PostgreSQL; the lock of an SQLite file says so itself."""

    def check() -> None:
        connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
        if number := connection.scalar(_DAEMONS, {"writer": WRITER}):
            raise OperatorError(
                f"a daemon or another command is connected to {name} ({number} connections named {WRITER} in "
                "pg_stat_activity): stop every daemon of both databases, and run the same command again"
            )

    if connection.dialect.name == "postgresql":
        retry(check, on=lambda error: isinstance(error, OperatorError), seconds=_ENDING_SECONDS, pause=0.1)


def _check_newest_schema(source: Connection, name: str) -> None:
    found = source.scalar(_VERSION) if inspect(source).has_table("alembic_version") else None
    if found != (newest := revisions()[-1]):
        raise OperatorError(
            f"{name} has schema {found or 'none'}, but this program copies {newest}: start the "
            "daemon of this version once, which upgrades it, and stop it again"
        )


def _claim(target: Engine, source: str) -> None:
    """Give an empty target its schema and the mark of an unfinished copy, or find the mark of this source."""
    with target.begin() as connection:
        _check_stopped(connection, _name(target.url))
        existing = inspect(connection).get_table_names()
        if UNFINISHED_COPY.name in existing:
            if (begun := connection.scalar(select(UNFINISHED_COPY.c.source))) != source:
                raise OperatorError(
                    f"{_name(target.url)} has an unfinished copy of {begun}, and this one is of {source}: name an "
                    "empty database"
                )
            return
        for table in (each for each in metadata.sorted_tables if each.name in existing):
            if connection.scalar(select(literal(1)).select_from(table).limit(1)):
                raise OperatorError(f"{_name(target.url)} has data already, in {table.name}: name an empty database")
    try:
        upgrade(target)
    except NewerSchemaError as error:
        raise OperatorError(f"{_name(target.url)} cannot be the target: {error}; or name an empty database") from error
    with target.begin() as connection:
        UNFINISHED_COPY.create(connection)
        connection.execute(insert(UNFINISHED_COPY), {"source": source})


def _key(connection: Connection, table: Table) -> list[ColumnElement[Any]]:
    """The primary key, of which SQLite and PostgreSQL have the same order."""
    collation = code_point_collation(connection)
    return [collate(column, collation) if isinstance(column.type, Text) else column for column in table.primary_key]


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _last_key(connection: Connection, table: Table) -> Sequence[Any] | None:
    order = (column.desc() for column in _key(connection, table))
    return connection.execute(select(*table.primary_key).order_by(*order).limit(1)).first()


_Store = Callable[[Connection, Sequence[Sequence[Any]]], None]


def _store_function(target: Engine, table: Table) -> _Store:
    """The fastest way to insert many rows of `table`."""
    return _copy_in(table) if target.dialect.name == "postgresql" else _insert_many(target, table)


def _copy_in(table: Table) -> _Store:
    statement = f"COPY {table.name} ({', '.join(table.columns.keys())}) FROM STDIN"

    def store(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        driver = cast("psycopg.Connection", connection.connection.driver_connection)
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    return store


def _insert_many(target: Engine, table: Table) -> _Store:
    """Rows as tuples, as in storage/statements.py."""
    statement = str(insert(table).compile(dialect=target.dialect))
    dialect = target.dialect
    processors = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.columns]
    changed = [(at, process) for at, process in enumerate(processors) if process is not None]

    def store(connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        values = [list(row) for row in rows]
        for row in values:
            for at, process in changed:
                row[at] = process(row[at])
        connection.exec_driver_sql(statement, [tuple(row) for row in values])

    return store


def _advance_sequence(connection: Connection, table: Table) -> None:
    """Let PostgreSQL number new rows after the copied ones; SQLite does so by itself."""
    column = table.autoincrement_column
    if column is not None and connection.dialect.name == "postgresql":
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(sequence, func.max(column))))


def _compare(table: Table, source: Connection, target: Connection) -> int:
    """Compare counts and sums of a table, and return its number of rows. Raises OperatorError."""
    here, there = _sums(source, table), _sums(target, table)
    for name, value in here.items():
        other = there[name]
        if value != other and not (isinstance(value, float) and math.isclose(value, other, rel_tol=1e-9)):
            raise OperatorError(
                f"the copy of {table.name} is not its source: {name} is {value} there and {other} in the target. A "
                "program has changed one of them since the copy began: run the command again with an empty database"
            )
    return int(here["rows"])


def _sums(connection: Connection, table: Table) -> Mapping[str, Any]:
    """The number of rows, and for each column its values, its sum, the sum of its lengths, or its first and last time.

    Sums are of absolute amounts: the order of additions changes them only by rounding.
    """
    columns: list[ColumnElement[Any]] = [func.count().label("rows")]
    for column in table.columns:
        name = column.name
        columns.append(func.count(column).label(f"count of {name}"))
        if isinstance(column.type, DateTime) or isinstance(getattr(column.type, "impl", None), DateTime):
            columns += [func.min(column).label(f"first {name}"), func.max(column).label(f"last {name}")]
        elif isinstance(column.type, Float):
            amount = func.abs(column)
            bounded = case((amount > LARGEST_SUM, LARGEST_SUM), else_=amount)
            columns.append(func.coalesce(func.sum(bounded), 0.0).label(f"sum of {name}"))
        elif isinstance(column.type, Integer):
            columns.append(func.coalesce(func.sum(column), 0).label(f"sum of {name}"))
        else:
            columns.append(func.coalesce(func.sum(func.length(column)), 0).label(f"length of {name}"))
    return dict(connection.execute(select(*columns).select_from(table)).one()._mapping)


@contextmanager
def _reported(target: Engine) -> Iterator[None]:
    """Raise OperatorError for what the target refuses during the block."""
    try:
        yield
    except DBAPIError as error:
        raise _refused(target, reason(error)) from error
    except target.dialect.loaded_dbapi.Error as error:  # of COPY, which is the driver's
        raise _refused(target, str(error).partition("\n")[0]) from error


def _refused(target: Engine, said: str) -> OperatorError:
    return OperatorError(
        f"cannot write {_name(target.url)}: {said}; correct this, and run the same command again: it continues"
    )
