"""Engines: the daemon's, which writes, and the API's, which can only read. All that only SQLite needs is here.

None of them shows the values of a statement in a log or a traceback (`hide_parameters`): people's ids are among them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import SQLITE_BUSY, OperationalError
from sqlite3 import Connection as SqliteConnection
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from shared.retry import retry
from shared.settings import SettingsError

if TYPE_CHECKING:
    import psycopg

BUSY_TIMEOUT_MS = 2_000
"""Milliseconds that SQLite waits for another writer's lock before it reports "database is locked"."""

WAL_LIMIT_BYTES = 4 * 2**20
"""SQLite checkpoints the -wal file at this length (its default), and truncates the file to it."""

_WITHOUT_WRITE_LOCK = "without_write_lock"

READER_POOL_SECONDS = 3
"""Seconds that a request of the API waits for a connection to PostgreSQL if all are in use.

With the 5 s that a statement may take then, Prometheus, which waits for 10 s, still hears that nothing can be read.
"""

WRITER = "emotion-writer"
"""The name of the daemon's connections in PostgreSQL's pg_stat_activity, and of those of commands that write."""

# PostgreSQL's counterparts of the busy timeout: what a lost server or a locked table may cost one request of the API,
# and one attempt of the daemon, which has to keep its MQTT connection alive and to notice a SIGTERM in between.
# tcp_user_timeout counts while something sent is not acknowledged, the keepalives while an answer is waited for.
_KEEPALIVES = {"keepalives_idle": 3, "keepalives_interval": 1, "keepalives_count": 3}
_READER_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 5000, **_KEEPALIVES}
_READER_TIMEOUT = "statement_timeout=5000"
_WRITER_PATIENCE = {"connect_timeout": 3, "tcp_user_timeout": 3000, **_KEEPALIVES}
_WRITER_TIMEOUT = "lock_timeout=2000"

_SEVERAL_HOSTS_PATIENCE = {"connect_timeout": 2}
"""libpq's minimum. It waits so long for each host, and after a failover the first one may be gone for days."""

_DIRECT = "emotion.direct"  # a session has this setting only if the server itself was given `options`
_POOLED = "pooled"


def file_identity(file: str | os.PathLike[str], *, is_link: bool = False) -> tuple[int, int] | None:
    """Device and inode of a file, None if it cannot be found: another file of the same name has others.

    `is_link` asks for those of a symbolic link, and not of its target.
    """
    try:
        status = os.stat(file, follow_symlinks=not is_link)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sqlite_path(url: URL | str) -> Path | None:
    """The database file that `url` names, or None if it is not SQLite's."""
    url = make_url(url)
    if url.get_backend_name() != "sqlite" or url.database is None:
        return None
    return Path(url.database)


def code_point_collation(connection: Connection) -> str:
    """The collation that orders texts by their code points, as Python does."""
    return "BINARY" if connection.dialect.name == "sqlite" else "C"


def check_location(database: Path, *, writing: bool, name: str = "EMOTION_DATABASE_URL") -> None:
    """Check that a SQLite file can be opened here, or created if `writing`. `name` is that of the setting.

    The daemon creates its file, but not the folder: a missing folder is a volume that was not mounted.

    Raises SettingsError.
    """
    folder = os.path.dirname(os.path.realpath(database))
    try:
        os.stat(database)
    except FileNotFoundError:
        if not os.path.isdir(folder):
            raise SettingsError(name, f"names a file in {folder}, but there is no such folder: create it") from None
    except OSError as error:
        raise SettingsError(name, f"names {str(database)!r}, but that cannot be used: {error.strerror}") from error
    if writing and not os.access(folder, os.W_OK | os.X_OK):
        raise SettingsError(name, f"names a file in {folder}, but this user may not write there")


def writer_engine(url: str, *, echo: bool = False) -> Engine:
    """An engine for one read-write connection, whose transactions take the write lock at their start.

    A commit is durable when it returns (SQLite: WAL with synchronous=FULL), because an acknowledgement promises it.
    """
    if sqlite_path(url) is None:
        # "format" so that compiled statements take rows as plain tuples, as they do on SQLite.
        engine = create_engine(
            url,
            echo=echo,
            hide_parameters=True,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            paramstyle="format",
            connect_args={**_patience(url, _WRITER_PATIENCE), "application_name": WRITER},
        )
        return _with_timeout(engine, _WRITER_TIMEOUT)
    engine = create_engine(url, echo=echo, hide_parameters=True, pool_size=1, max_overflow=0)
    event.listen(engine, "connect", _prepare_writer)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def reader_engine(url: str, *, echo: bool = False) -> Engine:
    """An engine that can neither write, nor checkpoint, nor create the database. It needs no right to write its files.

    The SQLite file need not exist yet: using the engine then raises sqlalchemy.exc.OperationalError.
    """
    path = sqlite_path(url)
    if path is None:
        engine = create_engine(
            url,
            echo=echo,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=READER_POOL_SECONDS,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
            connect_args={**_patience(url, _READER_PATIENCE), "application_name": "emotion-reader"},
        )
        return _with_timeout(engine, _READER_TIMEOUT)
    engine = create_engine(f"sqlite:///file:{quote(str(path))}?mode=ro&uri=true", echo=echo, hide_parameters=True)

    def read_only_what_is_closed(dialect: Dialect, record: object, arguments: list[str], options: object) -> None:
        # Without -wal no program writes the file, and all is in it. SQLite would have to create -wal and -shm.
        if not os.path.exists(f"{os.path.realpath(path)}-wal"):
            arguments[0] += "&immutable=1"

    event.listen(engine, "do_connect", read_only_what_is_closed)
    event.listen(engine, "connect", _prepare_reader)
    event.listen(engine, "begin", _begin_deferred)
    return engine


def is_pooled(connection: Connection) -> bool:
    """Return True if a pooler such as PgBouncer gives the connection's transactions to sessions of PostgreSQL."""
    return bool(connection.info.get(_POOLED))


def _patience(url: str, patience: dict[str, int]) -> dict[str, int]:
    hosts = ",".join(make_url(url).normalized_query.get("host", ()))
    return {**patience, **_SEVERAL_HOSTS_PATIENCE} if "," in hosts else patience


def _with_timeout(engine: Engine, timeout: str) -> Engine:
    """Let PostgreSQL end statements of the engine after a time.

    A pooler refuses or drops the settings of a session. Behind one, each transaction sets the timeout, and no statement
    is prepared, because the next transaction may have another session.
    """

    def connect(
        dialect: Dialect, record: ConnectionPoolEntry, arguments: list[Any], parameters: dict[str, Any]
    ) -> DBAPIConnection:
        settings = {"options": f"-c {timeout} -c {_DIRECT}=on"}
        try:
            connection = dialect.connect(*arguments, **parameters, **settings)
        except dialect.loaded_dbapi.OperationalError as error:
            if "unsupported startup parameter" not in str(error):
                raise
            connection = dialect.connect(*arguments, **parameters)
        record.info[_POOLED] = not _is_direct(connection)
        if record.info[_POOLED]:
            cast("psycopg.Connection", connection).prepare_threshold = None
        return connection

    def begin(connection: Connection) -> None:
        if is_pooled(connection):
            connection.exec_driver_sql(f"SET LOCAL {timeout}")

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def _is_direct(connection: DBAPIConnection) -> bool:
    try:
        cursor = connection.cursor()
        cursor.execute(f"SELECT current_setting('{_DIRECT}', true)")
        (found,) = cursor.fetchone() or (None,)
        connection.rollback()
    except BaseException:
        connection.close()
        raise
    return found == "on"


def _prepare_writer(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    assert isinstance(connection, SqliteConnection)
    with _closed_on_error(connection):
        connection.isolation_level = None  # BEGIN is ours, below, and not the driver's
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")  # Debian's SQLite is built so; deleted content becomes zeros
        connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")


@contextmanager
def _closed_on_error(connection: SqliteConnection) -> Iterator[None]:
    """SQLAlchemy does not close a connection whose listener raises."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _switch_to_wal(connection: SqliteConnection) -> None:
    """Repeat the switch while another connection makes it: the busy timeout does not apply to this statement."""
    retry(lambda: connection.execute("PRAGMA journal_mode=WAL"), on=_is_busy, seconds=BUSY_TIMEOUT_MS / 1000)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, OperationalError) and error.sqlite_errorcode & 0xFF == SQLITE_BUSY


def _prepare_reader(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    assert isinstance(connection, SqliteConnection)
    with _closed_on_error(connection):
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


def without_write_lock(connection: Connection) -> Connection:
    """Let the connection's next transaction only read: on SQLite it does not lock other writers out."""
    return connection.execution_options(**{_WITHOUT_WRITE_LOCK: True})


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that turns into a write fails at once if another writer was faster.
    reads = connection.get_execution_options().get(_WITHOUT_WRITE_LOCK, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")  # one snapshot for all selects of one answer
