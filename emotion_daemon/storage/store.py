"""The daemon's side of the database: opens one transaction a group, and commits it durably."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from sqlite3 import SQLITE_READONLY

from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import DBAPIError

from emotion_daemon.monitoring.outage import OutageKind
from emotion_daemon.rules.fold import Folded, StoredState, fold
from emotion_daemon.rules.totals_fold import fold_totals
from emotion_daemon.storage.dialects import dialect_of
from emotion_daemon.storage.errors import is_temporary, outage_kind, sqlite_code
from emotion_daemon.storage.file_guard import FileGuard
from emotion_daemon.storage.sound_check import SoundCheck
from emotion_daemon.storage.state_cache import StateCache
from emotion_daemon.storage.statements import Statements
from emotion_daemon.storage.transaction import Transaction
from shared.batch import MAX_CLOCK_SKEW, Batch
from shared.database import sqlite_path, without_write_lock
from shared.schema import device_state


class Store:
    """Transactions on an engine from shared.database.writer_engine, with the schema in place.

    `daemon_id` is the daemon's client id, which is stored with each device's newest batch. `guarded` is for the daemon:
    it checks that its file was not replaced, and that `check` finds no damage in it.
    With `totals_only` no person is stored, and no payload of a dead letter.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        daemon_id: str = "",
        guarded: bool = True,
        check: SoundCheck | None = None,
        totals_only: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._totals_only = totals_only
        self._now = now
        self._statements = Statements(engine)
        self._state = StateCache(dialect_of(engine), daemon_id, people_are_stored=not totals_only)
        self._guard = FileGuard(engine, check) if guarded else None
        # A new connection may lead to another server, whose rows may differ although the revisions are equal.
        event.listen(engine, "connect", lambda *_: self._state.failed())

    def fold(self, batches: Iterable[Batch], state: StoredState) -> Folded:
        """Return the changes of `batches`, by the rules of this store's mode."""
        return fold_totals(batches, state) if self._totals_only else fold(batches, state)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commit durably at the end of the block; roll back if the block raises.

        Raises what SQLAlchemy raises (see storage/errors.py) and DatabaseFileError, also after the commit.
        """
        latest = self._now() + MAX_CLOCK_SKEW
        try:
            with self._connect() as connection:
                transaction = Transaction(
                    connection, self._statements, self._state, latest=latest, totals_only=self._totals_only
                )
                with _invalidated_on_failure(connection), connection.begin():
                    yield transaction
                    transaction.raise_revisions()
        except BaseException:
            self._state.failed()
            raise
        self._state.committed(transaction.changes, latest=latest)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read-only transaction that blocks no writer. Raises what SQLAlchemy raises."""
        with (
            self._engine.connect() as connection,
            _invalidated_on_failure(connection),
            without_write_lock(connection).begin(),
        ):
            yield connection

    def heard(self, *, most: int) -> dict[str, tuple[datetime, timedelta]]:
        """Return the time of receipt of each device's last batch, and how far its clock was ahead: the `most` newest.

        Raises what SQLAlchemy raises.
        """
        state = device_state.c
        query = select(state.device_id, state.received_at, state.clock_skew).where(state.received_at.is_not(None))
        with self.reading() as connection:
            rows = connection.execute(query.order_by(state.received_at.desc()).limit(most)).all()
        return {device_id: (at, timedelta(seconds=skew or 0)) for device_id, at, skew in rows}

    def outage_kind(self, error: DBAPIError) -> OutageKind:
        """The kind of outage that an error of `transaction` means: see storage/errors.py."""
        return outage_kind(error, self._engine)

    def ping(self) -> None:
        """Check that the database is there: a server is asked, a file's identity is compared.

        Raises what `transaction` raises.
        """
        if sqlite_path(self._engine.url) is None:
            with self.reading() as connection:
                connection.exec_driver_sql("SELECT 1")
        else:
            with self._connect():
                """The guard compares the file at the end of the block."""

    def _connect(self) -> AbstractContextManager[Connection]:
        return self._engine.connect() if self._guard is None else self._guard.connect()


@contextmanager
def _invalidated_on_failure(connection: Connection) -> Iterator[None]:
    """Close a connection that may never work again.

    SQLite opens a file for reading if it may not write it, and PostgreSQL decides at the start of a session what the
    session may do.
    """
    try:
        yield
    except DBAPIError as error:
        if is_temporary(error) and sqlite_code(error) in (None, SQLITE_READONLY):
            connection.invalidate()
        raise
