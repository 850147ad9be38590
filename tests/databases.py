"""A test's own look at a database; no connection is left behind."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table, insert, select

from emotion_daemon.storage.migrations import upgrade
from emotion_daemon.storage.statements import Statements, raise_revision
from shared.batch import EMOTIONS
from shared.database import reader_engine, writer_engine
from shared.schema import emotion_hour, emotion_minute, metadata


@contextmanager
def disposing(engine: Engine) -> Iterator[Engine]:
    """The engine, whose connections are closed at the end of the block."""
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A connection that can only read, as the API's."""
    with disposing(reader_engine(url)) as engine, engine.connect() as connection:
        yield connection


@contextmanager
def migrated(url: str) -> Iterator[Engine]:
    """The daemon's engine, with the schema that the daemon makes at its start."""
    with disposing(writer_engine(url)) as engine:
        upgrade(engine)
        yield engine


def make_tables(url: str) -> None:
    """All tables as the schema has them, without the steps that lead there."""
    with disposing(writer_engine(url)) as engine:
        metadata.create_all(engine)


def waits_for_a_lock(url: str) -> bool:
    """Return True if a transaction of this PostgreSQL database waits for another one."""
    with reading(url) as connection:
        return bool(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar())


def raise_revision_of(engine: Engine, device_id: str) -> None:
    """Raise the revision, as each of our programs does in the transaction that changes a device's rows."""
    with engine.begin() as connection:
        raise_revision(connection, device_id)


def add_row(engine: Engine, table: Table, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(insert(table).values(**values))


def add_minutes(connection: Connection, minutes: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of `emotion_minute` and add them to their hours, as the daemon does."""
    statements = Statements(connection.engine)
    connection.execute(insert(emotion_minute), minutes)
    hours = (row | {"hour": statements.timestamp(row["minute"].replace(minute=0))} for row in map(dict, minutes))
    names = emotion_hour.columns.keys()
    for row in hours:
        statements.add_hour.execute(connection, [tuple(row.get(name) for name in names)])


def check_hours(connection: Connection) -> None:
    """Check that the stored hours are the sums of the stored minutes, to a microsecond."""
    minutes: dict[tuple[str, datetime], list[float]] = {}
    for device_id, minute, *seconds, people, covered in connection.execute(select(emotion_minute)):
        sums = minutes.setdefault((device_id, minute.replace(minute=0)), [0.0] * (len(EMOTIONS) + 2))
        *before, most_people, covered_before = sums
        added = (a + b for a, b in zip(before, seconds, strict=True))
        sums[:] = [*added, max(most_people, people), covered_before + (covered or 0.0)]
    hours = {
        (device_id, hour): [*values, covered or 0.0]
        for device_id, hour, *values, covered in connection.execute(select(emotion_hour))
    }
    assert hours == {key: pytest.approx(sums, abs=1e-6) for key, sums in minutes.items()}
