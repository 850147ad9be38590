"""What is in the database, as far as it can be read: schema, health, devices; and what only a server has."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from emotion_admin.doctor import clock, devices, sqlite_files
from emotion_admin.doctor.daemon_status import Running
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.doctor.permissions import User
from emotion_daemon.storage.errors import reason
from emotion_daemon.storage.migrations import revisions
from shared.batch import Topics
from shared.database import reader_engine, sqlite_path
from shared.schema import metadata
from shared.settings import Settings

SUBJECT = "database"
SCHEMA = "database schema"
JOURNAL = "database journal"
CONTENT = "database content"
SERVER = "database server"
RIGHTS = "database rights"
OLDEST_SERVER = 14

_VERSION_TABLE = "alembic_version"
_NAMED = 5
_MOUNTINFO = Path("/proc/self/mountinfo")


def examine(settings: Settings, running: Running, *, api_user: User | None, thorough: bool) -> Iterator[Finding]:
    """All of it; nothing is written, and no file is made."""
    path = sqlite_path(settings.database_url)
    if path is None:
        yield from _server(settings, running)
        return
    try:
        is_there = _is_there(path)
        if is_there:
            yield from sqlite_files.examine(path, _mountinfo(), api_user=api_user)
        else:
            yield from _not_there(path, running)
    except OSError as error:
        yield problem(
            SUBJECT,
            f"{error.filename or path}: {error.strerror}",
            "Run doctor as the database's owner. If you do: EMOTION_DATABASE_URL has to name a file that it can use.",
        )
        return
    if is_there:
        yield from _file(path, settings, running, thorough=thorough)


def _is_there(path: Path) -> bool:
    """Raises OSError where this user may not look, or no file can be of that name."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _not_there(path: Path, running: Running) -> Iterator[Finding]:
    """Raises OSError where this user may not look."""
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        yield problem(
            SUBJECT,
            f"there is no folder {real.parent}, in which the database has to be",
            "Set EMOTION_DATABASE_URL right, mount the volume that the folder is on, or create it: no daemon does.",
        )
        return
    yield from sqlite_files.examine_place(real, _mountinfo())
    if running.here:
        yield problem(
            SUBJECT,
            f"a daemon runs, but there is no {path}",
            "If EMOTION_DATABASE_URL is the daemon's, the file was deleted: "
            "the daemon ends at its next batch; start it again.",
        )
    else:
        yield warning(SUBJECT, f"there is no {path} yet", "The daemon makes it when it starts: start it.")


def _mountinfo() -> str:
    try:
        return _MOUNTINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _file(path: Path, settings: Settings, running: Running, *, thorough: bool) -> Iterator[Finding]:
    real = os.path.realpath(path)
    wal, shm = Path(f"{real}-wal"), Path(f"{real}-shm")
    with_companions = wal.exists() and shm.exists()
    holds_more = wal.exists() and wal.stat().st_size > 0
    if not with_companions and holds_more:
        yield warning(
            SUBJECT,
            f"not opened: {wal} has more, and {shm} is not there: reading would make one",
            "Start the daemon, which brings all of it into the database, and look again.",
        )
        return
    # Nobody has it open, and all is in the file itself: it can be read without making -wal and -shm.
    immutable = not with_companions and not holds_more
    with _reading(reader_engine(settings.database_url, immutable=immutable)) as engine:
        subject = SUBJECT
        try:
            with _opened(engine, os.stat(real)) as connection:
                yield ok(SUBJECT, f"{path} can be read")
                subject = CONTENT
                if not immutable:
                    yield _journal(connection)
                if thorough:
                    yield _content(connection)
                yield from _rows(connection, settings, running, database_ahead=None)
        except PermissionError:
            yield warning(
                SUBJECT,
                "not opened: SQLite would give -wal and -shm to other users, and this root may not be the owner",
                "Run doctor as the database's owner.",
            )
        except DBAPIError as error:
            yield problem(
                subject,
                f"{path} cannot be read: {reason(error)}",
                "If it is no rights that are missing (see above): "
                "stop the daemon, move the file, -wal and -shm away, put a copy or nothing in their place.",
            )


@contextmanager
def _opened(engine: Engine, owner: os.stat_result) -> Iterator[Connection]:
    """A connection that has read once, and has -wal and -shm open. Raises DBAPIError, and PermissionError from root.

    As root SQLite would give both to the database's owner, or make them as root: so it opens them as that owner.
    """
    with ExitStack() as stack:
        with _acting_as(owner):
            connection = stack.enter_context(engine.connect())
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        yield connection


@contextmanager
def _acting_as(owner: os.stat_result) -> Iterator[None]:
    """Root acts as the owner of a file; whoever is not root stays who it is. Raises PermissionError."""
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    try:
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _journal(connection: Connection) -> Finding:
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
    if mode != "wal":
        return warning(
            JOURNAL,
            f"it is {mode} and not wal: somebody has switched it, and readers and the daemon lock one another out",
            "Start the daemon again: it switches back.",
        )
    return ok(JOURNAL, mode)


def _content(connection: Connection) -> Finding:
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    if found != "ok":
        return problem(
            CONTENT,
            f"it is damaged: {found}",
            "Stop the daemon, move the file, -wal and -shm away, put a copy or nothing in their place, start again.",
        )
    return ok(CONTENT, "looked through, and whole")


def _server(settings: Settings, running: Running) -> Iterator[Finding]:
    with _reading(reader_engine(settings.database_url)) as engine:
        try:
            with engine.connect() as connection:
                yield _judge_server(connection)
                yield from _rows(connection, settings, running, database_ahead=_ahead(connection))
        except DBAPIError as error:
            yield problem(
                SERVER,
                f"cannot be used: {reason(error)}",
                "Does the server run, and are host, name, user and password in EMOTION_DATABASE_URL right?",
            )


def _judge_server(connection: Connection) -> Finding:
    version = int(connection.scalar(text("SELECT current_setting('server_version_num')")) or 0) // 10_000
    if version < OLDEST_SERVER:
        return warning(SERVER, f"PostgreSQL {version}", f"Upgrade it: {OLDEST_SERVER} is the oldest that is kept up.")
    return ok(SERVER, f"PostgreSQL {version} answers")


def judge_privileges(connection: Connection) -> Finding:
    """Whether this login may do on PostgreSQL what the daemon does. Raises DBAPIError."""
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        return problem(
            RIGHTS,
            "it is a standby, which cannot be written",
            "EMOTION_DATABASE_URL has to lead to the primary; or promote this one.",
        )
    if connection.scalar(text("SELECT current_setting('default_transaction_read_only')")) == "on":
        return problem(
            RIGHTS,
            "default_transaction_read_only is on for this login or database: nothing can be stored",
            "Whoever runs the server has set it, perhaps as its disk is full. "
            "Then: ALTER DATABASE ... RESET default_transaction_read_only, or ALTER ROLE, or in its configuration.",
        )
    there = set(inspect(connection).get_table_names())
    # A list of privileges asks whether one of them is held.
    query = text(
        "SELECT has_table_privilege(:t, 'SELECT') AND has_table_privilege(:t, 'INSERT') "
        "AND has_table_privilege(:t, 'UPDATE') AND has_table_privilege(:t, 'DELETE')"
    )
    missing = [name for name in sorted(metadata.tables) if name in there and not connection.scalar(query, {"t": name})]
    sequences = connection.scalars(
        text("SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = to_regnamespace(current_schema())")
    )
    usable = text("SELECT has_sequence_privilege(quote_ident(:s), 'USAGE')")
    ours = {f"{name}_id_seq" for name in metadata.tables} & set(sequences)
    missing += [name for name in sorted(ours) if not connection.scalar(usable, {"s": name})]
    if missing:
        return problem(
            RIGHTS,
            f"this login may not read and write: {', '.join(missing)}",
            "Let the daemon use the login that made the tables. Or GRANT SELECT, INSERT, UPDATE, DELETE on them and on "
            "alembic_version, and USAGE on the sequences.",
        )
    if not there & metadata.tables.keys() and not connection.scalar(
        text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    ):
        return problem(
            RIGHTS,
            "this login may make no tables here",
            "As the database's owner: GRANT CREATE ON SCHEMA public TO the daemon's login.",
        )
    return ok(RIGHTS, "this login may write")


def _ahead(connection: Connection) -> float:
    before = time.time()
    theirs = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
    return float(theirs or 0) - (before + time.time()) / 2


def _rows(
    connection: Connection, settings: Settings, running: Running, *, database_ahead: float | None
) -> Iterator[Finding]:
    schema = judge_schema(connection, running)
    yield schema
    if connection.dialect.name == "postgresql":
        yield judge_privileges(connection)
    now = datetime.now(UTC)
    if schema.level != "ok":
        yield from clock.judge_against_the_database(now, newest_arrival=None, database_ahead=database_ahead)
        return
    try:
        heard = devices.read(connection, now=now)
    except (ValueError, TypeError) as error:  # SQLite keeps whatever somebody writes into the column
        yield problem(
            CONTENT,
            f"a stored time cannot be read: {str(error)[:200]}",
            "Somebody has written it by hand: set device_state.received_at and clock_skew of that device to NULL.",
        )
        return
    yield from clock.judge_against_the_database(now, newest_arrival=heard.newest, database_ahead=database_ahead)
    topics = Topics(settings.mqtt_topic_prefix)
    yield from devices.judge(
        heard,
        now=now,
        silent_after=settings.silent_after,
        topics=topics,
        may_be_heard=running.may_hear_devices,
    )


def judge_schema(connection: Connection, running: Running) -> Finding:
    """Which step of the migrations the database has. Raises DBAPIError."""
    known = revisions()
    found = None
    tables = set(inspect(connection).get_table_names())
    if _VERSION_TABLE in tables:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found == known[-1] and (gone := sorted(metadata.tables.keys() - tables)):
        return problem(
            SCHEMA,
            f"{found}, the newest, but there is no table {', '.join(gone)}",
            "Somebody has dropped it: stop the daemon, and put a copy back (scripts/restore), or begin anew.",
        )
    if found == known[-1]:
        return ok(SCHEMA, f"{found}, the newest")
    if found is None:
        return _judge_missing_schema(tables - {_VERSION_TABLE}, running)
    if found in known:
        return warning(
            SCHEMA, f"{found}, and this program has {known[-1]}", "The daemon upgrades it when it starts again."
        )
    return problem(
        SCHEMA,
        f"{found} is from a newer version of this program, which knows {known[-1]}",
        "Start the newer version, or put back a copy from before the upgrade.",
    )


def _judge_missing_schema(tables: set[str], running: Running) -> Finding:
    """`tables` are those that there are, though none has been made by a step of the migrations."""
    ours, others = sorted(tables & metadata.tables.keys()), sorted(tables - metadata.tables.keys())
    if ours:
        return problem(
            SCHEMA,
            f"there are tables of its names, and no version: {', '.join(ours)}",
            "They are another program's, or alembic_version was emptied, and the daemon cannot start: "
            "let EMOTION_DATABASE_URL name another database, or put back a copy of this one.",
        )
    if running.has_tables:
        return problem(
            SCHEMA,
            "a daemon runs and has its tables, but here are none",
            "EMOTION_DATABASE_URL is another than the daemon's: use the same.",
        )
    more = f"; those that there are, another program's: {', '.join(others[:_NAMED])}" if others else ""
    return warning(
        SCHEMA,
        f"there are no tables of the daemon yet{more}",
        "The daemon makes them when it starts: start it"
        + (", if EMOTION_DATABASE_URL is right to name this database." if others else "."),
    )


@contextmanager
def _reading(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()
