"""What is in the database: schema, journal, stored times, devices; on a server also its version and privileges."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from emotion_admin.doctor import clock, devices, sqlite_files
from emotion_admin.doctor.daemon_status import DaemonStatus
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
_OTHER_URL = "Use the daemon's EMOTION_DATABASE_URL."
_REPLACE = "stop the daemon, move the file, -wal and -shm away, and restore a backup (scripts/restore) or start anew."


def examine(settings: Settings, daemon: DaemonStatus, *, api_user: User | None, thorough: bool) -> Iterator[Finding]:
    """Check the database. Writes nothing, and creates no file."""
    path = sqlite_path(settings.database_url)
    if path is None:
        yield from _examine_server(settings, daemon)
        return
    try:
        exists = _exists(path)
        if exists:
            yield from sqlite_files.examine(path, _mountinfo(), api_user=api_user)
        else:
            yield from _missing(path, daemon)
    except OSError as error:
        yield problem(
            SUBJECT,
            f"{error.filename or path}: {error.strerror}",
            "Run doctor as the database's owner. If you do, set EMOTION_DATABASE_URL to a file that it can use.",
        )
        return
    if exists:
        yield from _examine_file(path, settings, daemon, thorough=thorough)


def _exists(path: Path) -> bool:
    """Raises OSError if this user may not look, or the name cannot be a file's."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _missing(path: Path, daemon: DaemonStatus) -> Iterator[Finding]:
    """Raises OSError if this user may not look."""
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        yield problem(
            SUBJECT,
            f"there is no folder {real.parent} for the database",
            "Correct EMOTION_DATABASE_URL, mount the folder's volume, or create the folder: the daemon does not.",
        )
        return
    yield from sqlite_files.examine_place(real, _mountinfo())
    if daemon.runs:
        yield problem(
            SUBJECT,
            f"a daemon runs, but there is no {path}",
            f"{_OTHER_URL} If it is the same, the file was deleted: restart the daemon.",
        )
    else:
        yield warning(SUBJECT, f"there is no {path} yet", "Start the daemon, which creates it.")


def _mountinfo() -> str:
    try:
        return _MOUNTINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _examine_file(path: Path, settings: Settings, daemon: DaemonStatus, *, thorough: bool) -> Iterator[Finding]:
    real = os.path.realpath(path)
    wal, shm = Path(f"{real}-wal"), Path(f"{real}-shm")
    is_open = wal.exists() and shm.exists()
    if not is_open and wal.exists() and wal.stat().st_size > 0:
        yield warning(
            SUBJECT,
            f"not opened: {wal} has content, and reading it would create the missing {shm}",
            "Start the daemon, which moves that content into the database, and run doctor again.",
        )
        return
    # A file that no program has open can be read without creating -wal and -shm.
    with _disposed(reader_engine(settings.database_url, immutable=not is_open)) as engine:
        subject = SUBJECT
        try:
            with _opened(engine, os.stat(real)) as connection:
                yield ok(SUBJECT, f"{path} can be read")
                subject = CONTENT
                if is_open:
                    yield _judge_journal(connection)
                if thorough:
                    yield _judge_content(connection)
                yield from _judge_rows(connection, settings, daemon, database_ahead=None)
        except PermissionError:
            yield warning(
                SUBJECT,
                "not opened: SQLite would change the owner of -wal and -shm, and this root may not act as another user",
                "Run doctor as the database's owner.",
            )
        except DBAPIError as error:
            yield problem(
                subject,
                f"{path} cannot be read: {reason(error)}",
                f"Correct the rights, if lines above say so. Otherwise {_REPLACE}",
            )


@contextmanager
def _opened(engine: Engine, owner: os.stat_result) -> Iterator[Connection]:
    """A connection that has opened -wal and -shm, as their owner: as root SQLite would change theirs.

    Raises DBAPIError, and PermissionError from root.
    """
    with ExitStack() as stack:
        with _acting_as(owner):
            connection = stack.enter_context(engine.connect())
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        yield connection


@contextmanager
def _acting_as(owner: os.stat_result) -> Iterator[None]:
    """Have root act as the owner of a file; other users stay who they are. Raises PermissionError."""
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


def _judge_journal(connection: Connection) -> Finding:
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
    if mode != "wal":
        return warning(
            JOURNAL,
            f"a program has switched it to {mode}: readers and the daemon now lock each other out",
            "Restart the daemon, which switches it back to wal.",
        )
    return ok(JOURNAL, mode)


def _judge_content(connection: Connection) -> Finding:
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    if found != "ok":
        return problem(CONTENT, f"it is damaged: {found}", f"Repair it: {_REPLACE}")
    return ok(CONTENT, "no damage found")


def _examine_server(settings: Settings, daemon: DaemonStatus) -> Iterator[Finding]:
    with _disposed(reader_engine(settings.database_url)) as engine:
        try:
            with engine.connect() as connection:
                yield _judge_server(connection)
                yield from _judge_rows(connection, settings, daemon, database_ahead=_ahead(connection))
        except DBAPIError as error:
            yield problem(
                SERVER,
                f"cannot be used: {reason(error)}",
                "Check that the server runs, and check host, name, user and password in EMOTION_DATABASE_URL.",
            )


def _judge_server(connection: Connection) -> Finding:
    version = int(connection.scalar(text("SELECT current_setting('server_version_num')")) or 0) // 10_000
    if version < OLDEST_SERVER:
        return warning(SERVER, f"PostgreSQL {version}", f"Upgrade it to PostgreSQL {OLDEST_SERVER} at least.")
    return ok(SERVER, f"PostgreSQL {version} answers")


def judge_privileges(connection: Connection) -> Finding:
    """Judge whether this login has all privileges on PostgreSQL that the daemon needs. Raises DBAPIError."""
    if connection.scalar(text("SELECT pg_is_in_recovery()")):
        return problem(
            RIGHTS,
            "the server is a standby, which accepts no writes",
            "Set EMOTION_DATABASE_URL to the primary, or promote this server.",
        )
    if connection.scalar(text("SELECT current_setting('default_transaction_read_only')")) == "on":
        return problem(
            RIGHTS,
            "default_transaction_read_only is on for this login or database: the daemon cannot store anything",
            "Ask the server's administrator, who may have set it because the disk is full. To reset it: ALTER DATABASE "
            "... RESET default_transaction_read_only, or ALTER ROLE, or the server's configuration.",
        )
    existing = set(inspect(connection).get_table_names())
    # A list of privileges would ask whether the login has one of them.
    query = text(
        "SELECT has_table_privilege(:t, 'SELECT') AND has_table_privilege(:t, 'INSERT') "
        "AND has_table_privilege(:t, 'UPDATE') AND has_table_privilege(:t, 'DELETE')"
    )
    tables = sorted(metadata.tables.keys() & existing)
    missing = [name for name in tables if not connection.scalar(query, {"t": name})]
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
            "Give the daemon the login that created the tables. Or GRANT SELECT, INSERT, UPDATE, DELETE on them and on "
            "alembic_version, and USAGE on the sequences.",
        )
    create = text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    if not tables and not connection.scalar(create):
        return problem(
            RIGHTS,
            "this login may not create tables here",
            "As the database's owner: GRANT CREATE ON SCHEMA public TO the daemon's login.",
        )
    return ok(RIGHTS, "this login may write")


def _ahead(connection: Connection) -> float:
    before = time.time()
    theirs = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
    return float(theirs or 0) - (before + time.time()) / 2


def _judge_rows(
    connection: Connection, settings: Settings, daemon: DaemonStatus, *, database_ahead: float | None
) -> Iterator[Finding]:
    schema = judge_schema(connection, daemon)
    yield schema
    if database_ahead is not None:
        yield judge_privileges(connection)
    now = datetime.now(UTC)
    states = None
    if schema.level == "ok":
        try:
            states = devices.read(connection, now=now)
        except (ValueError, TypeError) as error:  # SQLite stores any value in any column
            yield problem(
                CONTENT,
                f"a stored time cannot be read: {str(error)[:200]}",
                "It was written by hand: set device_state.received_at and clock_skew of that device to NULL.",
            )
            return
    newest = max(states.received_at.values(), default=None) if states else None
    yield from clock.judge_against_the_database(now, newest_batch=newest, database_ahead=database_ahead)
    if states:
        yield from devices.judge(
            states,
            now=now,
            silent_after=settings.silent_after,
            topics=Topics(settings.mqtt_topic_prefix),
            may_be_heard=daemon.may_hear_devices,
        )


def judge_schema(connection: Connection, daemon: DaemonStatus) -> Finding:
    """Judge which migrations the database has. Raises DBAPIError."""
    known = revisions()
    found = None
    tables = set(inspect(connection).get_table_names())
    if _VERSION_TABLE in tables:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found == known[-1] and (missing := sorted(metadata.tables.keys() - tables)):
        return problem(
            SCHEMA,
            f"{found}, the newest, but there is no table {', '.join(missing)}",
            "A program has dropped it: stop the daemon, and restore a backup (scripts/restore) or start anew.",
        )
    if found == known[-1]:
        return ok(SCHEMA, f"{found}, the newest")
    if found is None:
        return _judge_missing_schema(tables - {_VERSION_TABLE}, daemon)
    if found in known:
        return warning(SCHEMA, f"{found}, but this program has {known[-1]}", "Restart the daemon, which upgrades it.")
    return problem(
        SCHEMA,
        f"{found} is from a newer version of this program, which knows {known[-1]}",
        "Start the newer version, or restore a backup from before the upgrade.",
    )


def _judge_missing_schema(tables: set[str], daemon: DaemonStatus) -> Finding:
    """Judge a database without a version of the migrations; `tables` are those that it has."""
    ours, others = sorted(tables & metadata.tables.keys()), sorted(tables - metadata.tables.keys())
    if ours:
        return problem(
            SCHEMA,
            f"there are tables of its names, but no version, so the daemon cannot start: {', '.join(ours)}",
            "They are another program's, or alembic_version was emptied. Set EMOTION_DATABASE_URL to another database, "
            "or restore a backup of this one.",
        )
    if daemon.has_tables:
        return problem(SCHEMA, "a daemon runs and has its tables, but this database has none", _OTHER_URL)
    more = f", but tables of another program: {', '.join(others[:_NAMED])}" if others else ""
    check = "If EMOTION_DATABASE_URL names the right database, start" if others else "Start"
    return warning(SCHEMA, f"there are no tables of the daemon yet{more}", f"{check} the daemon, which creates them.")


@contextmanager
def _disposed(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()
