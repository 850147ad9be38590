"""One transaction a group: writes the changed rows, the history and the rejected messages."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from sqlite3 import (
    SQLITE_BUSY,
    SQLITE_CANTOPEN,
    SQLITE_FULL,
    SQLITE_IOERR,
    SQLITE_LOCKED,
    SQLITE_PROTOCOL,
    SQLITE_READONLY,
)
from typing import Any, NamedTuple

from msgspec.structs import astuple
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Select,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from emotion_daemon.rules.fold import Folded, Known, PersonKey, fold, fold_newer
from emotion_daemon.rules.tombstones import Forgotten
from emotion_daemon.storage.file_guard import FileGuard
from emotion_daemon.storage.state_cache import KnownRows
from shared.batch import EMOTIONS, MAX_CLOCK_SKEW, Batch, Topics
from shared.database import sqlite_path
from shared.schema import (
    UtcDateTime,
    daemon_commit,
    device,
    device_state,
    device_total,
    emotion_minute,
    person_emotion,
    rejected_message,
)

KEPT_PAYLOAD = 64 * 1024
"""How many bytes of a rejected payload are kept."""

KEPT_TOPIC = 1_000
"""How many characters of its topic are kept; a valid one is shorter."""

KEPT_REJECTED = 10_000
"""How many rejected messages are kept; the oldest go first."""

LASTING = (DataError, IntegrityError, OverflowError, UnicodeError)
"""What the database raises for a value that it will never take, however often one tries."""

SENT_AHEAD = 2_000
"""More than a broker sends before it waits for a PUBACK: older records are no message that it sends again."""

_LARGEST = 1e300
"""Seconds; so large a sum can still be added to."""

_ROWS_A_STATEMENT = 5_000  # a quarter of a second on PostgreSQL

_TEMPORARY_SQLITE = (
    *(SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL, SQLITE_IOERR),
    *(SQLITE_CANTOPEN, SQLITE_READONLY, SQLITE_PROTOCOL),
)
_SQLITE_TROUBLES = {
    **dict.fromkeys((SQLITE_BUSY, SQLITE_LOCKED), "locked"),
    SQLITE_FULL: "full",
    **dict.fromkeys((SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_READONLY, SQLITE_PROTOCOL), "unreadable"),
}
# Where there is no room for the -shm file, as at a start on a full disk, SQLite says this and not SQLITE_FULL.
_CANNOT_MAKE_A_FILE = (SQLITE_IOERR, SQLITE_CANTOPEN)
_SHM_BYTES = 32 * 1024
_SQLSTATE_TROUBLES = {"55P03": "locked", "40P01": "locked", "53100": "full"}  # lock not available, deadlock, disk full
_LASTING_SQLSTATES = ("22", "23", "28", "3D", "3F", "42")  # data, constraint, login, no database, no schema, syntax


class Rejected(NamedTuple):
    """A message that is no valid batch, as it is recorded.

    `sent_again` says that the broker has sent it before (MQTT's DUP): it may be on record already. `left_out` bytes are
    those of a payload that may not be kept.
    """

    topic: str
    reason: str
    payload: bytes
    received_at: datetime
    sent_again: bool = False
    kind: str = "batch"
    """One of `metrics.REJECTED`."""
    left_out: int = 0

    @property
    def size(self) -> int:
        """How many bytes were received."""
        return len(self.payload) + self.left_out


class Status(NamedTuple):
    """What was published on a device's status topic: `status` is online, offline, or None where it was taken back."""

    device_id: str
    status: str | None
    received_at: datetime


class Transaction:
    """What can be done before the commit. Made by Store.transaction.

    A stored stamp later than `latest` was written while the daemon's clock was wrong: it holds up nothing.
    """

    def __init__(
        self,
        connection: Connection,
        statements: "_Statements",
        rows: KnownRows,
        *,
        latest: datetime,
        totals_only: bool = False,
    ) -> None:
        self._totals_only = totals_only
        self._connection = connection
        self._statements = statements
        self._rows = rows
        self._latest = latest
        self._stamped = True
        self._sure = False  # that what is folded here is what will be stored
        self._written: list[Folded] = []
        self._gone: Collection[PersonKey] = ()
        self._changes_nothing = False
        self._changed: set[str] = set()

    def known(self, batches: Collection[Batch]) -> Known:
        """What is stored of everybody in `batches`, unless its stamp is later than it can be; to be folded over.

        Of others something may be there too, and all of it changes with the next transaction.
        """
        self._sure = True
        return self._rows.read(self._connection, batches, latest=self._latest)

    def write(self, folded: Folded, *, between: Callable[[], None] = lambda: None) -> None:
        """Upsert people and devices, where a row that is newer stays as it is, and add to the history.

        Where only totals are stored what the history gets is added to the device's, too, and people are left out.
        `between` is called after every few thousand rows: so long a write must not stop everything else.
        """
        statements = self._statements
        stamp = cache(statements.stamp)  # a batch's people share one, and its conversion costs as much as storing a row
        latest = stamp(self._latest)
        # In one order for everybody: several daemons on one PostgreSQL must not wait for each other in a circle.
        reports = ((key, folded.people[key]) for key in sorted(folded.people))
        people = ((*key, *astuple(report.cumulative), stamp(report.last_seen), latest) for key, report in reports)
        batches = sorted(folded.devices.items())
        devices = ((device_id, stamp(batch.timestamp), latest) for device_id, batch in batches)
        states = (
            (device_id, stamp(received_at), len(batch.people), _skew(batch, received_at))
            for device_id, batch in sorted(folded.heard.items())
            if (received_at := batch.received_at) is not None
        )
        minutes = ((device_id, stamp(minute), *shown) for device_id, minute, *shown in folded.minutes.rows())
        sums = sorted(folded.minutes.sums().items()) if self._totals_only else []
        totals = ((device_id, *seconds) for device_id, seconds in sums)
        for statement, rows in (
            (statements.add_total, totals) if self._totals_only else (statements.upsert_person, people),
            (statements.upsert_device, devices),
            (statements.upsert_state, states),
            (statements.add_minute, minutes),
        ):
            self._write_rows(statement, rows, between)
        # A clock that was set back since: what is stored with a stamp later than `latest` is not known.
        believed = all(batch.timestamp <= self._latest for batch in folded.devices.values())
        self._sure &= believed
        self._stamped &= folded.stamped and self._sure
        self._written.append(folded)
        self._changed.update(device_id for device_id, _ in folded.people)
        self._changed.update(folded.devices)
        self._changed.difference_update(folded.heard)  # upsert_state has raised theirs

    def write_statuses(self, statuses: Iterable[Status]) -> None:
        """Keep what was said last on each device's status topic."""
        newest = sorted({each.device_id: each for each in statuses}.items())
        rows = [(device_id, each.status, self._statements.stamp(each.received_at)) for device_id, each in newest]
        self._write_rows(self._statements.upsert_status, rows, lambda: None)

    def _write_rows(self, statement: str, rows: Iterable[tuple[Any, ...]], between: Callable[[], None]) -> None:
        rows = iter(rows)
        part = list(islice(rows, _ROWS_A_STATEMENT))
        while part:
            self._connection.exec_driver_sql(statement, part)
            part = list(islice(rows, _ROWS_A_STATEMENT))
            if part:
                between()

    def reject(
        self,
        messages: Sequence[Rejected],
        *,
        topics: Topics | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """Record `messages`, and drop the oldest records beyond KEPT_REJECTED.

        With `topics`, which tell whose message it is, a payload that may name an erased person is not stored.

        What the broker sent again because nobody had acknowledged it, but which was recorded, is not recorded twice.
        `between` is called now and then, as in `write`.
        """
        if topics is not None and messages and (forgotten := self._rows.forgotten(self._connection)):
            messages = [_without_forgotten(message, topics, forgotten) for message in messages]
        messages = [message for message in messages if not self._is_recorded(message, between)]
        if not messages:
            return
        self._connection.execute(
            insert(rejected_message),
            [
                {
                    "received_at": message.received_at,
                    "topic": message.topic[:KEPT_TOPIC],
                    "reason": message.reason,
                    "payload": self._kept(message),
                    "payload_size": message.size,
                }
                for message in messages
            ],
        )
        if topics is not None:
            self._changed.update(owner for each in messages if (owner := topics.owner(each.topic)) is not None)
        row_id = rejected_message.c.id
        newest_to_go = select(row_id).order_by(row_id.desc()).offset(KEPT_REJECTED).limit(1).scalar_subquery()
        self._connection.execute(delete(rejected_message).where(row_id <= newest_to_go))

    def _is_recorded(self, message: Rejected, between: Callable[[], None]) -> bool:
        if not message.sent_again:
            return False
        between()  # looking through 2,000 records of 64 KiB takes 70 ms
        table = rejected_message.c
        newest = select(func.max(table.id)).scalar_subquery()
        query = select(table.id).where(
            table.id > newest - SENT_AHEAD,
            table.topic == message.topic[:KEPT_TOPIC],
            table.payload_size == message.size,
            table.payload == self._kept(message),
        )
        return self._connection.execute(query.limit(1)).first() is not None

    def _kept(self, message: Rejected) -> bytes:
        """There may be people in it."""
        return b"" if self._totals_only else message.payload[:KEPT_PAYLOAD]

    def leave_only_totals(self) -> int:
        """Add the seconds of all people to their devices' totals and delete the people; empty what was rejected.

        Returns how many people they were.
        """
        self._stamped = False
        if self._connection.dialect.name == "postgresql":  # of two daemons that start at once the second finds nobody
            self._connection.exec_driver_sql(f"LOCK TABLE {person_emotion.name} IN SHARE ROW EXCLUSIVE MODE")
        people = self._connection.scalar(select(func.count()).select_from(person_emotion)) or 0
        if people:
            for device_id, *seconds in self._connection.execute(_sums(self._connection)).all():
                total = (min(each, _LARGEST) for each in seconds)
                self._connection.exec_driver_sql(self._statements.add_total, (device_id, *total))
                self._changed.add(device_id)
            self._connection.execute(delete(person_emotion))
        kept = func.length(rejected_message.c.payload) > 0
        emptied = self._connection.execute(update(rejected_message).where(kept).values(payload=b"")).rowcount
        self._changes_nothing = not people and not emptied
        return people

    def forget_rejected(self, row_id: int) -> None:
        """Delete one record of a rejected message."""
        self._connection.execute(delete(rejected_message).where(rejected_message.c.id == row_id))

    @property
    def connection(self) -> Connection:
        """For whoever deletes rows by himself, and says so to `deleted`."""
        return self._connection

    def deleted(
        self,
        rows: int,
        people: Collection[PersonKey] = (),
        *,
        devices: Collection[str] = (),
        tombstones: bool = False,
    ) -> None:
        """So many rows were deleted and nothing else is written; `people` were among them, and are known no more.

        Where they are `tombstones`, nobody knows any more who was erased. No stamp tells the API of it. Of 0 rows
        there is nothing to tell, and nothing to commit.
        """
        self._sure, self._stamped = not (tombstones and rows), False
        self._gone = people
        self._changed.update(devices)
        self._changed.update(device_id for device_id, _ in people)
        self._changes_nothing = rows == 0

    def committed(self) -> None:
        """To be called after the commit: what was written is known now, if it was folded over what was."""
        for folded in self._written if self._sure else ():
            self._rows.committed(folded)
        self._rows.drop(self._gone)
        if not self._sure:
            self._rows.forget()

    def count(self) -> None:
        """Say in `daemon_commit` what kind of change this was; the API does not ask it of another database than SQLite.

        There it would also be a row that several daemons wait for.
        """
        if self._changed:
            rows = [(device_id,) for device_id in sorted(self._changed)]
            self._connection.exec_driver_sql(self._statements.raise_revision, rows)
        if self._connection.dialect.name == "sqlite" and not self._changes_nothing:
            self._connection.exec_driver_sql(
                self._statements.count_stamped if self._stamped else self._statements.count_unstamped
            )


class Store:
    """The daemon's side of the database: an engine from shared.database.writer_engine, with the schema in place.

    `guarded` is for the daemon, which alone makes SQLite's checkpoints and looks at what others write. With
    `totals_only` no person is stored, and no payload of a rejected message.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        guarded: bool = True,
        totals_only: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._totals_only = totals_only
        self.fold = fold_newer if totals_only else fold
        """How the batches of a transaction become what it writes."""
        self._now = now
        self._statements = _Statements(engine)
        self._rows = KnownRows(alone=guarded and engine.dialect.name == "sqlite", stored=not totals_only)
        self._guard = FileGuard(engine, written=self._rows.forget) if guarded else None
        self._connect = engine.connect if self._guard is None else self._guard.connect

    def heard(self, *, most: int) -> dict[str, tuple[datetime, timedelta]]:
        """When each device's last batch arrived, and how far its clock was ahead, of the `most` that were heard last.

        Raises what SQLAlchemy raises.
        """
        state = device_state.c
        query = select(state.device_id, state.received_at, state.clock_skew).where(state.received_at.is_not(None))
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(state.received_at.desc()).limit(most)).all()
        return {device_id: (at, timedelta(seconds=skew or 0)) for device_id, at, skew in rows}

    def trouble_kind(self, error: DBAPIError) -> str:
        """What kind of trouble `transaction` has had: one of `metrics.TROUBLES`."""
        return trouble_kind(error, self._engine)

    def look(self) -> None:
        """Look whether the database is still there, for whoever has nothing to store. It neither writes nor locks.

        A server is asked; of a file only its name is looked at. Raises what `transaction` raises where it is gone.
        """
        is_file = sqlite_path(self._engine.url) is not None
        if is_file and (self._guard is None or self._guard.is_there()):
            return
        with self._connect() as connection, _left_where_it_fails(connection):
            if not is_file:
                connection.exec_driver_sql("SELECT 1")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commits at the end of the block, durably; rolls back where the block raises.

        Raises what SQLAlchemy raises: see `is_temporary` and LASTING; and DatabaseFileError, also after the commit.
        """
        try:
            with self._connect() as connection:
                transaction = Transaction(
                    connection,
                    self._statements,
                    self._rows,
                    latest=self._now() + MAX_CLOCK_SKEW,
                    totals_only=self._totals_only,
                )
                with _left_where_it_fails(connection), connection.begin():
                    yield transaction
                    transaction.count()
        except BaseException:
            self._rows.failed()
            raise
        transaction.committed()


def raise_revision(connection: Connection, device_id: str) -> None:
    """Tell the API that answers about the device have changed. Every program that changes its rows calls this."""
    connection.exec_driver_sql(_raise_revision(connection.engine, ["device_id"]), (device_id,))


def count_unstamped(connection: Connection) -> None:
    """For whoever changes people without a Store: as Transaction.count. On another database it does nothing."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_count(connection.engine, "unstamped"))


@contextmanager
def _left_where_it_fails(connection: Connection) -> Iterator[None]:
    """What a connection could not do it may never be able to do: SQLite opens a file that it may not write for reading,
    and PostgreSQL decides at the start of a session what that may."""
    try:
        yield
    except DBAPIError as error:
        if is_temporary(error) and _sqlite_code(error) in (None, SQLITE_READONLY):
            connection.invalidate()
        raise


def is_temporary(error: DBAPIError) -> bool:
    """Whether trying again later can help: locked, disk full, server away; not a missing table.

    A login that PostgreSQL refuses counts as temporary: the driver does not tell it from a server that is away.
    """
    code = _sqlite_code(error)
    if code is not None:
        return code in _TEMPORARY_SQLITE
    if error.connection_invalidated:
        return True
    sqlstate: str | None = getattr(error.orig, "sqlstate", None)
    if sqlstate is not None:
        return not sqlstate.startswith(_LASTING_SQLSTATES)
    return isinstance(error, (OperationalError, InterfaceError))  # no answer from the server at all


def trouble_kind(error: DBAPIError, engine: Engine) -> str:
    """What kind of trouble a transaction of `engine` has had: one of `metrics.TROUBLES`."""
    code = _sqlite_code(error)
    if code in _CANNOT_MAKE_A_FILE and _disk_is_full(engine):
        return "full"
    if code is not None:
        return _SQLITE_TROUBLES.get(code, "other")
    sqlstate: str | None = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or sqlstate is None:
        return "unreachable"
    return _SQLSTATE_TROUBLES.get(sqlstate, "other")


def _disk_is_full(engine: Engine) -> bool:
    path = sqlite_path(engine.url)
    if path is None:
        return False
    try:
        disk = os.statvfs(path.resolve().parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _SHM_BYTES


def _sqlite_code(error: DBAPIError) -> int | None:
    """SQLite's primary result code, without what an extended one adds; None where the error is another driver's."""
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def reason(error: DBAPIError) -> str:
    """What the database says, in one line: PostgreSQL adds the statement, and what it cannot know to be the cause."""
    return str(error.orig).partition("\n")[0].strip()


def refusal(error: Exception) -> str:
    """The reason to record for a message that raised one of LASTING."""
    return f"the database refused it: {type(error).__name__}"


def _skew(batch: Batch, received_at: datetime) -> float:
    """Seconds that the device's clock was ahead of the arrival; below 0 this may be how long the message has waited."""
    return (batch.timestamp - received_at if batch.clock_skew is None else batch.clock_skew).total_seconds()


def _without_forgotten(message: Rejected, topics: Topics, forgotten: Forgotten) -> Rejected:
    """The message without its payload, if it came on the topic of such a device or on a topic of no device."""
    owner = topics.owner(message.topic)
    if owner is not None and owner not in forgotten:
        return message
    reason = f"{message.reason}; payload not stored: a person was erased"
    return message._replace(reason=reason, payload=b"", left_out=len(message.payload))


class _Statements:
    """The upserts, compiled once.

    They are built by SQLAlchemy and run through exec_driver_sql with rows as plain tuples: Connection.execute would
    spend more time on turning each row from a dictionary into a tuple than SQLite spends on storing it (measured
    with 2,500 rows a transaction: 25 µs a row against 10 µs). ARCHITECTURE.md has the decision.
    """

    def __init__(self, engine: Engine) -> None:
        self.upsert_person = _upsert(engine, person_emotion, key=["device_id", "person_id"], stamp="last_seen")
        self.upsert_device = _upsert(engine, device, key=["device_id"], stamp="updated_at")
        self.raise_revision = _raise_revision(engine, ["device_id"])
        self.upsert_state = _raise_revision(engine, ["device_id", "received_at", "people", "clock_skew"])
        self.upsert_status = _raise_revision(engine, ["device_id", "status", "status_at"])
        self.add_minute = _add(engine, emotion_minute, ["device_id", "minute"])
        self.add_total = _add(engine, device_total, ["device_id"])
        self.count_stamped = _count(engine, "stamped")
        self.count_unstamped = _count(engine, "unstamped")
        process = UtcDateTime().dialect_impl(engine.dialect).bind_processor(engine.dialect)
        assert process is not None
        self.stamp = process


def _upsert(engine: Engine, table: Table, *, key: list[str], stamp: str) -> str:
    """`INSERT … ON CONFLICT (key) DO UPDATE …` unless the stored stamp is newer, but not later than `latest`.

    The statement has one `?` a column that it writes, and one for `latest`.
    """
    columns = [c.name for c in table.columns if c.name not in ("id", "device_name")]
    statement = _insert(engine, table)
    stored, new = table.c[stamp], statement.excluded[stamp]
    replaceable = (new >= stored) | (stored > bindparam("latest"))
    statement = statement.on_conflict_do_update(
        index_elements=key,
        set_={name: statement.excluded[name] for name in columns if name not in key},
        where=replaceable | stored.is_(None) if stored.nullable else replaceable,
    )
    return _compiled(engine, statement, columns, [*columns, "latest"])


_ONE: ColumnElement[int] = literal_column("1", type_=Integer)


def _raise_revision(engine: Engine, columns: list[str]) -> str:
    """An upsert of these columns of `device_state` that raises `revision`: the key first, one `?` each."""
    key, *others = columns
    statement = _insert(engine, device_state).values(revision=_ONE)
    changes: dict[str, Any] = {name: statement.excluded[name] for name in others}
    changes["revision"] = device_state.c.revision + _ONE
    return _compiled(engine, statement.on_conflict_do_update(index_elements=[key], set_=changes), columns, columns)


def _add(engine: Engine, table: Table, key: list[str]) -> str:
    """Adds to a row of seconds, or makes it; one `?` a column."""
    columns = table.c
    statement = _insert(engine, table)
    new = statement.excluded
    changes: dict[str, Any] = {f"time_{name}": columns[f"time_{name}"] + new[f"time_{name}"] for name in EMOTIONS}
    if "most_people" in columns:
        more = new.most_people > columns.most_people
        changes["most_people"] = case((more, new.most_people), else_=columns.most_people)
    statement = statement.on_conflict_do_update(index_elements=key, set_=changes)
    names = columns.keys()
    return _compiled(engine, statement, names, names)


def _sums(connection: Connection) -> Select[*tuple[Any, ...]]:
    """The seconds of all people, a device. PostgreSQL ends with an error where a sum is too large for it."""
    seconds: list[ColumnElement[float]] = [person_emotion.c[f"time_{name}"] for name in EMOTIONS]
    if connection.dialect.name == "postgresql":
        seconds = [func.least(each, _LARGEST) for each in seconds]
    return select(person_emotion.c.device_id, *map(func.sum, seconds)).group_by(person_emotion.c.device_id)


def _compiled(engine: Engine, statement: Any, columns: list[str], parameters: list[str]) -> str:
    compiled = statement.compile(dialect=engine.dialect, column_keys=columns)
    assert compiled.positiontup == parameters, "rows are passed as tuples, in this order"
    return str(compiled)


def _count(engine: Engine, column: str) -> str:
    """A statement without parameters that counts one up in `column` of `daemon_commit`."""
    statement = _insert(engine, daemon_commit).values({"id": 1, "stamped": 0, "unstamped": 0} | {column: 1})
    counter = daemon_commit.c[column]
    statement = statement.on_conflict_do_update(index_elements=["id"], set_={column: counter + 1})
    return str(statement.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True}))


def _insert(engine: Engine, table: Table) -> "sqlite.Insert | postgresql.Insert":
    return sqlite.insert(table) if engine.dialect.name == "sqlite" else postgresql.insert(table)
