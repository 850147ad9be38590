"""Classify the database's errors: temporary or not, the kind of outage, and the words for the log."""

from pathlib import Path
from sqlite3 import (
    SQLITE_BUSY,
    SQLITE_CANTOPEN,
    SQLITE_FULL,
    SQLITE_IOERR,
    SQLITE_IOERR_SHMLOCK,
    SQLITE_IOERR_SHMMAP,
    SQLITE_LOCKED,
    SQLITE_PROTOCOL,
    SQLITE_READONLY,
)

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from emotion_daemon.monitoring.disk import room
from emotion_daemon.monitoring.outage import OutageKind
from shared.database import sqlite_path

LASTING = (DataError, IntegrityError, OverflowError, UnicodeError)
"""The errors that the database raises for a value that it will never accept."""

_SQLITE_KINDS: dict[int, OutageKind] = {
    SQLITE_BUSY: "locked",
    SQLITE_LOCKED: "locked",
    SQLITE_FULL: "full",
    SQLITE_IOERR: "unreadable",
    SQLITE_CANTOPEN: "unreadable",
    SQLITE_READONLY: "unreadable",
    SQLITE_PROTOCOL: "unreadable",
}
"""SQLite's temporary errors, and the kind of outage that each means."""

_CANNOT_CREATE_A_FILE = (SQLITE_IOERR, SQLITE_CANTOPEN)
"""SQLite says this, and not SQLITE_FULL, if the disk has no room for the -shm file, as at a start on a full disk."""

_NO_SHARED_MEMORY = (SQLITE_PROTOCOL, SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMLOCK)
"""SQLite says this after ten seconds, and for ever, on a file system without locks or shared memory, as of mergerfs."""

_SHM_BYTES = 32 * 1024
_SQLSTATE_KINDS: dict[str, OutageKind] = {
    "55P03": "locked",
    "40P01": "locked",
    "53100": "full",
}  # lock not available, deadlock, disk full
_LASTING_SQLSTATES = ("22", "23", "28", "3D", "3F", "42")  # data, constraint, login, no database, no schema, syntax


class DatabaseFileError(Exception):
    """Base of the errors of a SQLite file that a retry does not mend."""

    def __init__(self, path: Path, sentence: str) -> None:
        super().__init__(sentence)
        self.path = path


class DatabaseInUseError(DatabaseFileError):
    """Raised when another daemon holds the database."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, f"another daemon is running on {path}: stop it first, or give this one its own database")


class LockFileError(DatabaseFileError):
    """Raised when the lock file of the database cannot be opened."""

    def __init__(self, lock: Path, reason: str | None) -> None:
        super().__init__(lock, f"cannot open {lock}: {reason}; let the daemon's user write this file")


class DatabaseReplacedError(DatabaseFileError):
    """Raised when the database file was deleted or replaced: commits into it would be lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, f"{path} was deleted or replaced while the daemon wrote it; nothing of this group is acknowledged"
        )


class DatabaseDamagedError(DatabaseFileError):
    """Raised when the file is not an intact database."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, f"{path} is damaged: {what}. Restore a backup, or move the file away to start anew")


def is_temporary(error: DBAPIError) -> bool:
    """Return True if a retry can help: the database is locked, its disk is full, or its server is unreachable.

    A login that PostgreSQL refuses counts as temporary: the driver does not tell it from an unreachable server.
    """
    code = sqlite_code(error)
    if code is not None:
        return code in _SQLITE_KINDS
    if error.connection_invalidated:
        return True
    sqlstate = _sqlstate(error)
    if sqlstate is not None:
        return not sqlstate.startswith(_LASTING_SQLSTATES)
    return isinstance(error, (OperationalError, InterfaceError))  # no answer from the server at all


def outage_kind(error: DBAPIError, engine: Engine) -> OutageKind:
    """The kind of outage that an error of `engine` means."""
    code = sqlite_code(error)
    if code in _CANNOT_CREATE_A_FILE and _disk_is_full(engine):
        return "full"
    if code is not None:
        return _SQLITE_KINDS.get(code, "other")
    sqlstate = _sqlstate(error)
    if error.connection_invalidated or sqlstate is None:
        return "unreachable"
    return _SQLSTATE_KINDS.get(sqlstate, "other")


def sqlite_code(error: DBAPIError) -> int | None:
    """SQLite's primary result code; None if the error is another driver's."""
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def reason(error: DBAPIError) -> str:
    """The first line of what the database says: PostgreSQL adds the statement and guesses at the cause."""
    said = str(error.orig).partition("\n")[0].strip()
    if getattr(error.orig, "sqlite_errorcode", None) in _NO_SHARED_MEMORY:
        said += (
            ". If this repeats, this file system cannot hold the database: move it to a local disk, or use PostgreSQL"
        )
    return said


def refusal(error: Exception) -> str:
    """The reason to record for a message that raised one of LASTING."""
    return f"the database refused it: {type(error).__name__}"


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _disk_is_full(engine: Engine) -> bool:
    path = sqlite_path(engine.url)
    if path is None:
        return False
    try:
        return room(path.resolve().parent).free < _SHM_BYTES
    except OSError:
        return False
