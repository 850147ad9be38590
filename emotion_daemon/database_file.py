"""What SQLite itself does not guard: that only one daemon writes, and that the file we write is still the one there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DatabaseInUseError(Exception):
    """Raised when another daemon holds the database."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"another daemon is running on {path}: stop it first, or give this one its own database")
        self.path = path


class DatabaseReplacedError(Exception):
    """Raised when the database file was deleted or replaced: what is committed from now on would be lost."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} was deleted or replaced while it was written; nothing of this group is acknowledged")
        self.path = path


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold `<path>.lock` for the block; the kernel lets go of it when the process ends, however it ends.

    A file of its own: closing any second handle on the database would drop SQLite's own locks. Raises
    DatabaseInUseError.
    """
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatabaseInUseError(path) from error
        yield


class FileWatch:
    """Remembers which file `path` is, to be asked after each commit and before each acknowledgement."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = self._now()

    def check(self) -> None:
        """Raises DatabaseReplacedError. Looks with `os.stat`, never with `open`, and takes 2 microseconds."""
        if self._identity is None or self._now() != self._identity:
            raise DatabaseReplacedError(self._path)

    def _now(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino
