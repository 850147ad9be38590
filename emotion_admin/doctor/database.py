"""Check the database: schema, journal, stored times, devices; on a server also its version and privileges."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from emotion_admin.doctor import database_servers, devices, server_errors, sqlite_files
from emotion_admin.doctor.daemon_status import DaemonStatus
from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.doctor.permissions import User
from emotion_daemon.monitoring.heartbeat import HANGING_SECONDS
from emotion_daemon.storage.errors import reason
from emotion_daemon.storage.migrations import revisions
from shared.batch import Topics
from shared.database import is_pooled, reader_engine, sqlite_path
from shared.schema import metadata
from shared.settings import Settings

SUBJECT = "database"
SCHEMA = "database schema"
CONTENT = "database content"
SERVER = "database server"
RIGHTS = "database rights"

COMMITS = "database commits"

_WAIT_FOR_STANDBY = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep' "
    "AND clock_timestamp() - query_start > make_interval(secs => :seconds)"
)

UNREADABLE = "?"
"""The value of `logins` if scripts/doctor cannot read them."""

OWN_BROKER = re.compile(r"mosquitto(-\d+)?|localhost|127\.0\.0\.1|::1")
"""The hosts at which a daemon reaches a broker of scripts/device: docker compose's services, or this machine."""

_VERSION_TABLE = "alembic_version"
_MOUNTINFO = Path("/proc/self/mountinfo")
_OTHER_URL = "Use the daemon's EMOTION_DATABASE_URL."
_REPLACE = "stop the daemon, move the file, -wal and -shm away, and restore a backup (scripts/restore) or start anew."


def examine(
    settings: Settings, daemon: DaemonStatus, *, api_user: User | None, thorough: bool, logins: str | None = None
) -> Iterator[Finding]:
    """Check the database. Writes nothing, and creates no file. `logins` is as in `doctor.examine`."""
    path = sqlite_path(settings.database_url)
    if path is None:
        yield from _examine_server(settings, daemon, logins)
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
        yield from _examine_file(path, settings, daemon, logins, thorough=thorough)


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


def _examine_file(
    path: Path, settings: Settings, daemon: DaemonStatus, logins: str | None, *, thorough: bool
) -> Iterator[Finding]:
    real = os.path.realpath(path)
    wal, shm = Path(f"{real}-wal"), Path(f"{real}-shm")
    if wal.exists() and not shm.exists():
        yield warning(
            SUBJECT,
            f"not opened: reading {wal} would create the missing {shm}",
            "Start the daemon, which creates it, and run doctor again.",
        )
        return
    with _disposed(reader_engine(settings.database_url)) as engine:
        subject = SUBJECT
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
                yield ok(SUBJECT, f"{path} can be read")
                subject = CONTENT
                if thorough:
                    yield _judge_content(connection)
                yield from _judge_rows(connection, settings, daemon, logins)
        except DBAPIError as error:
            yield problem(
                subject,
                f"{path} cannot be read: {reason(error)}",
                f"Correct the rights, if lines above say so. Otherwise {_REPLACE}",
            )


def _judge_content(connection: Connection) -> Finding:
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    if found != "ok":
        return problem(CONTENT, f"it is damaged: {found}", f"Repair it: {_REPLACE}")
    return ok(CONTENT, "no damage found")


def _examine_server(settings: Settings, daemon: DaemonStatus, logins: str | None) -> Iterator[Finding]:
    yield from database_servers.examine(make_url(settings.database_url))
    with _disposed(reader_engine(settings.database_url)) as engine:
        try:
            with engine.connect() as connection:
                way = ", through a connection pooler" if is_pooled(connection) else ""
                yield ok(SERVER, f"PostgreSQL answers{way}")
                yield judge_privileges(connection)
                yield judge_commits(connection)
                yield from _judge_rows(connection, settings, daemon, logins)
        except DBAPIError as error:
            said = reason(error)
            yield problem(SERVER, f"cannot be used: {said}", server_errors.advice(said))


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


def judge_commits(connection: Connection) -> Finding:
    """Judge whether commits wait for a synchronous standby. Raises DBAPIError."""
    hanging = connection.scalar(_WAIT_FOR_STANDBY, {"seconds": HANGING_SECONDS})
    if hanging:
        return problem(
            COMMITS,
            f"a synchronous standby does not confirm commits; waiting for it now: {hanging}",
            "Start the standby, or stop this server if another one was promoted. Do not cancel these commits: see "
            "docs/runbooks/EmotionDatabaseHangs.md.",
        )
    return ok(COMMITS, "no commit waits for a standby")


def _judge_rows(
    connection: Connection, settings: Settings, daemon: DaemonStatus, logins: str | None
) -> Iterator[Finding]:
    schema = judge_schema(connection, daemon)
    yield schema
    if schema.level != "ok":
        return
    now = datetime.now(UTC)
    states = devices.read(connection, now=now)
    yield from devices.judge(
        states,
        now=now,
        silent_after=settings.silent_after,
        topics=Topics(settings.mqtt_topic_prefix),
        may_be_heard=daemon.may_hear_devices,
    )
    if logins is not None:
        if settings.rabbitmq_url is None and not OWN_BROKER.fullmatch(settings.mqtt_host):
            yield devices.logins_of_another_broker(settings.mqtt_host)
            return
        yield from devices.judge_logins(states, None if logins == UNREADABLE else logins.split(), now=now)


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
    if ours := sorted(tables & metadata.tables.keys()):
        return problem(
            SCHEMA,
            f"there are tables of its names, but no version, so the daemon cannot start: {', '.join(ours)}",
            "They are another program's, or alembic_version was emptied. Set EMOTION_DATABASE_URL to another database, "
            "or restore a backup of this one.",
        )
    if daemon.has_tables:
        return problem(SCHEMA, "a daemon runs and has its tables, but this database has none", _OTHER_URL)
    return warning(SCHEMA, "there are no tables of the daemon yet", "Start the daemon, which creates them.")


@contextmanager
def _disposed(engine: Engine) -> Iterator[Engine]:
    try:
        yield engine
    finally:
        engine.dispose()
