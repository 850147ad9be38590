"""A test's own look at a database; no connection is left behind."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from emotion_daemon.storage.migrations import upgrade
from emotion_daemon.storage.statements import raise_revision
from shared.database import reader_engine, writer_engine
from shared.schema import metadata


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


def raise_revision_of(engine: Engine, device_id: str) -> None:
    """Raise the revision, as each of our programs does in the transaction that changes a device's rows."""
    with engine.begin() as connection:
        raise_revision(connection, device_id)
