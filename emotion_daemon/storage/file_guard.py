"""What SQLite itself does not guard: that only one daemon writes, and that the file we write is still the one there."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR, SQLITE_IOERR_SHORT_READ, SQLITE_NOTADB
from typing import TextIO

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from shared.database import WAL_LIMIT_BYTES, sqlite_path

MAX_WAL_BYTES = 16 * 2**20
"""A -wal file longer than this is worth waiting for its readers, every PATIENT_EVERY_SECONDS."""

PATIENT_EVERY_SECONDS = 30.0

PROBE_SECONDS = 0.2
"""How long the lock beside the database is waited for, before another daemon is taken to hold it."""

QUIET_SECONDS = 0.02
"""Two of the longest ticks that Linux has (CONFIG_HZ=100)."""


class DatabaseFileError(Exception):
    """Base of what is wrong with an SQLite file: trying again does not help, a start may."""

    def __init__(self, path: Path, sentence: str) -> None:
        super().__init__(sentence)
        self.path = path


class DatabaseInUseError(DatabaseFileError):
    """Raised when another daemon holds the database."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, f"another daemon is running on {path}: stop it first, or give this one its own database")


class LockFileError(DatabaseFileError):
    """Raised when the lock beside the database cannot be opened."""

    def __init__(self, lock: Path, reason: str | None) -> None:
        super().__init__(
            lock, f"cannot open {lock}: {reason}; the user that runs the daemon has to be allowed to write it"
        )


class DatabaseReplacedError(DatabaseFileError):
    """Raised when the database file was deleted or replaced: what is committed from now on would be lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, f"{path} was deleted or replaced while it was written; nothing of this group is acknowledged"
        )


class DatabaseWrittenError(DatabaseFileError):
    """Raised when somebody else wrote into the file during a transaction: that may not have reached it.

    The file was looked through since and is whole: the same transaction once more is right.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, f"{path} was written by another program")


class DatabaseDamagedError(DatabaseFileError):
    """Raised when what the file holds is no whole database any more."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, f"{path} is damaged: {what}. Repair it, or put a copy or nothing in its place")


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold `<path>.lock` for the block; the kernel lets go of it when the process ends, however it ends.

    A file of its own: closing any second handle on the database would drop SQLite's own locks. Raises
    DatabaseInUseError and LockFileError.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock = lock_path.open("w")
    except OSError as error:
        raise LockFileError(lock_path, error.strerror) from error
    with lock:
        if not _lock(lock):
            raise DatabaseInUseError(path)
        yield


def _lock(lock: TextIO) -> bool:
    """Whether nobody else holds it; who only asks whether it is held (`doctor`) does so for less than PROBE_SECONDS."""
    end = time.monotonic() + PROBE_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.01)


def check_sound(connection: Connection) -> None:
    """Look through an SQLite database: half a second for 500,000 people.

    A file that lost its end may otherwise be written for weeks before its broken part is read. Raises
    DatabaseDamagedError.
    """
    path = Path(connection.engine.url.database or "")
    connection.exec_driver_sql("PRAGMA shrink_memory")  # pages kept in memory would hide what is gone
    try:
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        if code not in (SQLITE_IOERR_SHORT_READ, SQLITE_CORRUPT, SQLITE_NOTADB):
            raise
        what = "its end is missing" if code == SQLITE_IOERR_SHORT_READ else str(error.orig)
        raise DatabaseDamagedError(path, what) from error
    if found != "ok":
        raise DatabaseDamagedError(path, " ".join(found.split()))


def drop_index_of_a_cut_log(path: Path, error: DBAPIError) -> None:
    """Where `error` says that the -wal file was cut, remove its index, the -shm file: SQLite makes another.

    As long as a reader of an API keeps the old one open, which says what is no longer there, SQLite takes it for right,
    and nobody gets in. To be called by who holds the lock, with no connection open; readers leave a -shm that is gone.
    """
    if getattr(error.orig, "sqlite_errorcode", 0) == SQLITE_IOERR_SHORT_READ:
        with suppress(FileNotFoundError):
            os.unlink(f"{os.path.realpath(path)}-shm")


class FileGuard:
    """Keeps the daemon's transactions out of a file that is not, or not only, what SQLite takes it for.

    And makes SQLite's checkpoints, between two transactions: what else is written into the file is somebody else's. On
    a database that is no file it does nothing. `written` is called where somebody else may have changed what is in it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        written: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._written = written
        self._monotonic = monotonic
        self._patient_again = float("-inf")
        self._unchecked = False
        path = sqlite_path(engine.url)
        self._watch = None if path is None else FileWatch(path)
        if self._watch is not None:
            event.listen(engine, "connect", self._connected)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for one transaction: the files are looked at before it and after its commit.

        Before, for a file that was cut: writing would make it long again. And both times with the connection in
        hand: while there is none, SQLite deletes the -wal file itself. Raises DatabaseReplacedError,
        DatabaseWrittenError and DatabaseDamagedError.
        """
        with self._engine.connect() as connection:
            if self._watch is None:
                yield connection
                return
            try:
                self._check(connection)
                yield connection
                if self._check(connection, committed=True) or self._checkpoint_if_due(connection):
                    raise DatabaseWrittenError(self._watch.path)
            except DatabaseReplacedError as error:
                # Somebody may have moved the file, or deleted only the -wal: what is in that belongs into the file, and
                # would be taken for another database's beside that one. Where only -shm is gone, others may have made
                # a new one, which says what is where in the -wal file.
                if not error.path.name.endswith("-shm"):
                    _checkpoint(connection, "TRUNCATE")
                raise
            except OperationalError as error:
                # On a full disk the -wal file cannot grow, but what is in it can make room for what comes.
                if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (SQLITE_FULL, SQLITE_IOERR):
                    self._unchecked |= self._watch.was_written()
                    _checkpoint(connection, "PASSIVE")
                    self._watch.remember()
                raise

    def is_there(self) -> bool:
        """Whether the files still are those that SQLite has open; True on a database that is no file.

        Looks, and writes nothing. Where it is False `connect` says what has happened.
        """
        return self._watch is None or self._watch.is_there()

    def _check(self, connection: Connection, *, committed: bool = False) -> bool:
        """Whether somebody else has written into the file, which then was looked through and is whole.

        `committed` says that a transaction of our own is what has happened since the last look.
        """
        assert self._watch is not None
        self._unchecked |= self._watch.was_written(committed=committed)
        if not self._unchecked:
            return False
        _checkpoint(connection, "TRUNCATE")  # what was copied in meets the -wal file now, not one day
        self._watch.remember_when_quiet()
        check_sound(connection)
        connection.rollback()
        self._unchecked = False
        self._written()
        return True

    def _checkpoint_if_due(self, connection: Connection) -> bool:
        """Bring the -wal file into the database when it is full. Whether a copy came in the middle of that.

        Where one reader or the other is always there, SQLite never begins the -wal file anew: from time to time it is
        told to wait for them, for the busy timeout at most.
        """
        assert self._watch is not None
        if not self._watch.wal_is_full():
            return False
        patient = self._watch.wal_bytes > MAX_WAL_BYTES and self._monotonic() >= self._patient_again
        whole = _checkpoint(connection, "TRUNCATE" if patient else "PASSIVE")
        if patient:
            self._patient_again = self._monotonic() + PATIENT_EVERY_SECONDS
        self._watch.remember()
        if not whole or _page_bytes(connection) in (self._watch.bytes, None):
            return False
        self._unchecked = True
        return self._check(connection)

    def _connected(self, *_: object) -> None:
        assert self._watch is not None
        self._watch.opened()
        self._unchecked = True  # what has happened since the connection before, nobody has seen


def _checkpoint(connection: Connection, mode: str) -> bool:
    """Bring what is in the -wal file into the database, as far as that is possible; returns whether all of it was."""
    with suppress(sqlite3.Error):
        ((_, frames, brought_in),) = connection.connection.cursor().execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        return bool(frames == brought_in)
    return False


def _page_bytes(connection: Connection) -> int | None:
    """How long the database file has to be when nothing is in the -wal file only; None where SQLite does not say."""
    cursor = connection.connection.cursor()
    with suppress(sqlite3.Error):
        ((pages,),) = cursor.execute("PRAGMA page_count").fetchall()
        ((page_bytes,),) = cursor.execute("PRAGMA page_size").fetchall()
        return int(pages) * int(page_bytes)
    return None


class FileWatch:
    """Remembers which files `path`, its -wal, its -shm and its lock are, to be asked round each transaction.

    SQLite goes on writing to a file that was deleted or cut, and so would we acknowledge into nothing. It looks with
    `os.stat`, never with `open`, and takes 5 microseconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened()

    def opened(self) -> None:
        """Take the files that are there now for right: to be called when SQLite has opened them."""
        # SQLite follows a symbolic link once, and has -wal and -shm beside the file that it leads to.
        real = os.path.realpath(self.path)
        self._names = real, f"{real}-wal", f"{real}-shm", f"{real}.lock"
        self._known = self._now()
        self._checkpointed_bytes = self.wal_bytes

    def remember(self) -> None:
        """Take what is in them now for right: to be called after each checkpoint. Raises DatabaseReplacedError.

        A checkpoint may take a second, in which they may be replaced.
        """
        self._known = self._same_files()
        self._checkpointed_bytes = self.wal_bytes

    def remember_when_quiet(self) -> None:
        """`remember` once nobody has written for a while: whoever copies a file in may be in the middle of it.

        Writes of one tick of the kernel's clock have one mtime. Takes QUIET_SECONDS, or up to a hundred times as long.
        Raises DatabaseReplacedError.
        """
        self.remember()
        for _ in range(100):
            time.sleep(QUIET_SECONDS)
            if not self.was_written():
                return
            self.remember()

    def is_there(self) -> bool:
        """Whether all of them are the same files as before, whatever is in them."""
        with suppress(DatabaseReplacedError):
            self._same_files()
            return True
        return False

    def was_written(self, *, committed: bool = False) -> bool:
        """Whether somebody else has written the database, or `was_cut`.

        The daemon itself writes into it at its checkpoints only, which are none of SQLite's own accord. Most likely
        this was a checkpoint too, but it may have been a copy that was put into the file: SQLite would write its pages
        among those that it remembers. Raises DatabaseReplacedError.
        """
        before = self._known[0]
        if self.was_cut(committed=committed):
            return True
        return _writing(before) != _writing(self._known[0])

    def was_cut(self, *, committed: bool = False) -> bool:
        """Whether one of the files has become shorter. Raises DatabaseReplacedError.

        That may have been somebody's VACUUM or checkpoint: what `remember` then finds is taken for right. SQLite itself
        cuts the -wal file with a commit that begins it anew: to WAL_LIMIT_BYTES, or to what that commit has written.
        """
        now = self._same_files()
        shorter = [new for old, new in zip(self._known, now, strict=True) if _is_shorter(old, new)]
        wal = now[2]
        is_our_cut = wal is not None and (
            wal.st_size == WAL_LIMIT_BYTES or (committed and wal.st_size > WAL_LIMIT_BYTES and not _has_hole(wal))
        )
        cuts_of_our_own = [wal] if is_our_cut else []
        if shorter and shorter != cuts_of_our_own:
            return True
        self._known = now
        self._checkpointed_bytes = min(self._checkpointed_bytes, self.wal_bytes)
        return False

    @property
    def bytes(self) -> int:
        """How long the database file is."""
        return 0 if self._known[1] is None else self._known[1].st_size

    @property
    def wal_bytes(self) -> int:
        """How long the -wal file is."""
        return 0 if self._known[2] is None else self._known[2].st_size

    def wal_is_full(self) -> bool:
        """Whether all of the -wal file is in use, and that is enough for a checkpoint.

        SQLite begins it anew after a checkpoint, and cuts it to WAL_LIMIT_BYTES: when it grows, it has been filled.
        """
        return self.wal_bytes > max(self._checkpointed_bytes, WAL_LIMIT_BYTES)

    def _same_files(self) -> "list[os.stat_result | None]":
        """How they are now. Raises DatabaseReplacedError where one of them is not the file any more that it was."""
        now = self._now()
        for name, old, new in zip((str(self.path), *self._names), self._known, now, strict=True):
            if _identity(old) != _identity(new):
                raise DatabaseReplacedError(Path(name))
        return now

    def _now(self) -> list[os.stat_result | None]:
        """Of the database as it is called, and of the file, its -wal, its -shm and its lock, behind whatever link."""
        return [_stat(self.path), *(_stat(name, follow_symlinks=False) for name in self._names)]


def _is_shorter(old: os.stat_result | None, new: os.stat_result | None) -> bool:
    """Also where SQLite has made it long again since: then there is a hole in it, which SQLite itself never leaves."""
    if old is None or new is None:
        return False
    return new.st_size < old.st_size or (_has_hole(new) and not _has_hole(old))


def _writing(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_mtime_ns, status.st_size)


def _has_hole(status: os.stat_result) -> bool:
    return status.st_blocks * 512 < status.st_size


def _identity(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_dev, status.st_ino)


def _stat(name: str | Path, *, follow_symlinks: bool = True) -> os.stat_result | None:
    try:
        return os.stat(name, follow_symlinks=follow_symlinks)
    except OSError:  # gone, or in a folder that we may no longer look into
        return None
