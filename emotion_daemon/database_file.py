"""What SQLite itself does not guard: that only one daemon writes, and that the file we write is still the one there."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import PoolProxiedConnection

from shared.database import WAL_LIMIT_BYTES, sqlite_path


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
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatabaseInUseError(path) from error
        yield


def check_sound(connection: Connection) -> None:
    """Look through an SQLite database: half a second for 500,000 people.

    A file that lost its end may otherwise be written for weeks before its broken part is read. Raises
    DatabaseDamagedError.
    """
    path = Path(connection.engine.url.database or "")
    connection.exec_driver_sql("PRAGMA shrink_memory")  # pages kept in memory would hide what is gone
    try:
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorname", None) != "SQLITE_IOERR_SHORT_READ":
            raise
        raise DatabaseDamagedError(path, "its end is missing") from error
    if found != "ok":
        raise DatabaseDamagedError(path, " ".join(found.split()))


class FileGuard:
    """Keeps `engine`'s transactions out of a file that is not, or not only, what SQLite takes it for.

    On a database that is no file it does nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        path = sqlite_path(engine.url)
        self._watch = None if path is None else FileWatch(path)
        if self._watch is not None:
            event.listen(engine, "connect", self._remember)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for one transaction: the files are looked at before it and after its commit.

        Before, for a file that was cut: writing would make it long again. And both times with the connection in
        hand: while there is none, SQLite deletes the -wal file itself. Raises DatabaseReplacedError and
        DatabaseDamagedError.
        """
        try:
            with self._engine.connect() as connection:
                if self._watch is not None and self._watch.was_written():
                    _checkpoint(connection.connection)  # what was copied in meets the -wal file now, not one day
                    self._take_for_right(connection)
                yield connection
                if self._watch is not None and self._watch.was_cut():
                    self._take_for_right(connection)
        except DatabaseReplacedError as error:
            # Where only -shm is gone, others may have made a new one, which says what is where in the -wal file.
            if not error.path.name.endswith("-shm"):
                self._leave_whole()
            raise

    def _take_for_right(self, connection: Connection) -> None:
        check_sound(connection)
        connection.rollback()
        self._remember()

    def _remember(self, *_: object) -> None:
        assert self._watch is not None
        self._watch.remember()

    def _leave_whole(self) -> None:
        """Bring what was committed from the -wal file into the database file that it belongs to.

        Somebody may have moved that file, or deleted only the -wal. And what is left of it beside another database
        would be taken for that one's own.
        """
        with closing(self._engine.raw_connection()) as connection:
            _checkpoint(connection)


def _checkpoint(connection: PoolProxiedConnection) -> None:
    """Bring what is in the -wal file into the database, as far as that is possible."""
    with suppress(sqlite3.Error):
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class FileWatch:
    """Remembers which files `path` and its -wal and -shm are, to be asked round each transaction.

    SQLite goes on writing to a file that was deleted or cut, and so would we acknowledge into nothing. It looks with
    `os.stat`, never with `open`, and takes 5 microseconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.remember()

    def remember(self) -> None:
        """Take what is there now for right: to be called when SQLite has opened it."""
        # SQLite follows a symbolic link once, and has -wal and -shm beside the file that it leads to.
        real = os.path.realpath(self._path)
        self._names = real, f"{real}-wal", f"{real}-shm"
        self._known = self._now()

    def was_written(self) -> bool:
        """Whether somebody else has written the database, or `was_cut`: to be asked before a transaction.

        Most likely that was a checkpoint, but it may have been a copy that was put into the file: SQLite would write
        its pages among those that it remembers. Raises DatabaseReplacedError.
        """
        before = self._known[0]
        if self.was_cut():
            return True
        after = self._known[0]
        return before is not None and after is not None and before.st_mtime_ns != after.st_mtime_ns

    def was_cut(self) -> bool:
        """Whether one of the files has become shorter. Raises DatabaseReplacedError.

        That may have been somebody's VACUUM or checkpoint: after `check_sound`, `remember` takes it for right.
        """
        now = self._now()
        pairs = list(zip(self._known, now, strict=True))
        for name, (old, new) in zip((str(self._path), *self._names), pairs, strict=True):
            if _identity(old) != _identity(new):
                raise DatabaseReplacedError(Path(name))
        cut = any(_is_shorter(old, new) for old, new in pairs)
        if not cut:
            self._known = now
        return cut

    def _now(self) -> list[os.stat_result | None]:
        return [_stat(self._path), *(_stat(name, follow_symlinks=False) for name in self._names)]


def _is_shorter(old: os.stat_result | None, new: os.stat_result | None) -> bool:
    """Also where SQLite has made it long again since: then there is a hole in it, which SQLite itself never leaves."""
    if old is None or new is None:
        return False
    if new.st_size == WAL_LIMIT_BYTES:  # SQLite's own cut
        return False
    return new.st_size < old.st_size or (_has_hole(new) and not _has_hole(old))


def _has_hole(status: os.stat_result) -> bool:
    return status.st_blocks * 512 < status.st_size


def _identity(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_dev, status.st_ino)


def _stat(name: str | Path, *, follow_symlinks: bool = True) -> os.stat_result | None:
    try:
        return os.stat(name, follow_symlinks=follow_symlinks)
    except OSError:  # gone, or in a folder that we may no longer look into
        return None
