"""Daemon and API behind a PgBouncer in transaction mode: each transaction may have another session of the server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from emotion_daemon.rules.fold import fold
from emotion_daemon.storage.errors import is_temporary, outage_kind
from emotion_daemon.storage.store import Store
from shared.batch import Batch, Cumulative
from shared.database import is_pooled, reader_engine, writer_engine
from shared.schema import person_emotion
from tests.databases import disposing, migrated
from tests.pgbouncer import pooled
from tests.postgresql import PostgreSQL

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)


@pytest.fixture(params=["", "ignore_startup_parameters = options"], ids=["refuses options", "drops options"])
def url(request: pytest.FixtureRequest, postgresql: PostgreSQL) -> Iterator[str]:
    with pooled(postgresql.new_database(), request.param) as url:
        yield url


def commit(store: Store, device_id: str, second: int) -> int:
    """Commit a batch, and return the number of the server's session."""
    batch = Batch(device_id, NOON + timedelta(seconds=second), {"anna": Cumulative(happy=second)}, NOON)
    with store.transaction() as transaction:
        transaction.write(fold([batch], transaction.read_state([batch])))
        return int(transaction.connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def timeout(connection: Connection, name: str) -> str:
    return str(connection.scalar(text(f"SHOW {name}")))


def test_the_daemon_may_change_sessions_with_each_transaction(url: str) -> None:
    """psycopg would prepare a statement at its sixth execution."""
    with migrated(url) as engine, disposing(reader_engine(url)) as reader:
        store = Store(engine)
        sessions = set()
        for second in range(20):
            with reader.connect() as connection:
                assert timeout(connection, "statement_timeout") == "5s"
                if second % 2:  # the daemon gets another session than the API
                    sessions.add(commit(store, "jetson_1", second))
            if not second % 2:
                sessions.add(commit(store, "jetson_1", second))
        with engine.begin() as connection:
            assert is_pooled(connection)
            assert timeout(connection, "lock_timeout") == "2s"
            assert list(connection.scalars(select(person_emotion.c.time_happy))) == [19.0]
    assert len(sessions) > 1


def test_a_lock_ends_the_attempt(url: str) -> None:
    with migrated(url) as engine, disposing(writer_engine(url)) as other, other.begin() as connection:
        connection.execute(text("LOCK TABLE device IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DBAPIError) as raised:
            commit(Store(engine), "jetson_1", 1)
    assert is_temporary(raised.value)
    assert outage_kind(raised.value, engine) == "locked"


def test_without_a_pooler_the_session_has_the_timeout(postgresql: PostgreSQL) -> None:
    with disposing(reader_engine(postgresql.new_database())) as engine, engine.connect() as connection:
        assert not is_pooled(connection)
        assert timeout(connection, "statement_timeout") == "5s"
