"""One daemon per SQLite file: a lock file next to the database."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from emotion_daemon.storage.errors import DatabaseInUseError, LockFileError

PROBE_SECONDS = 0.2
"""How long the daemon waits for the lock: doctor holds it for a moment when it checks whether a daemon runs."""


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold `<path>.lock` for the block; the kernel releases it when the process ends, however it ends.

    The lock has a file of its own: closing a second handle on the database would drop SQLite's locks. Raises
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
    end = time.monotonic() + PROBE_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
