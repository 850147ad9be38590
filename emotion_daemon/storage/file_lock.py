"""One daemon per SQLite file: a lock file next to the database."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emotion_daemon.storage.errors import DatabaseInUseError, LockFileError
from shared.retry import retry

PROBE_SECONDS = 0.2
"""Seconds that the daemon waits for the lock: doctor holds it for a moment when it checks whether a daemon runs."""


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
        try:
            retry(
                lambda: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB),
                on=lambda error: isinstance(error, BlockingIOError),
                seconds=PROBE_SECONDS,
            )
        except BlockingIOError as error:
            raise DatabaseInUseError(path) from error
        yield
