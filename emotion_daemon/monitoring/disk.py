"""Measure the database's files and their disk. A disk that hangs does not delay the caller for long."""

import os
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

PATIENCE_SECONDS = 1.0
"""Seconds that the caller waits for the disk, which mostly answers in 0.1 ms. Prometheus waits for 10 s."""


class Sizes(NamedTuple):
    """Sizes in bytes, None if unknown."""

    database: int | None = None
    wal: int | None = None
    free: int | None = None
    """Free bytes for the daemon's user."""
    disk: int | None = None
    """Size of the disk, without what is reserved for root."""


class Room(NamedTuple):
    """Bytes of a disk, without those reserved for root: the daemon cannot fill them."""

    free: int
    size: int


class DiskUsage:
    """Measures the SQLite file `database` and its disk, in a thread that is abandoned if it takes too long."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._lock = Lock()
        self._thread: Thread | None = None
        self._sizes = Sizes()

    def sizes(self) -> Sizes:
        """Return the present sizes, all unknown if measuring takes longer than PATIENCE_SECONDS or still hangs."""
        with self._lock:
            thread = self._thread
            if thread is None or not thread.is_alive():
                self._thread = thread = Thread(target=self._measure, name="disk", daemon=True)
                thread.start()
        thread.join(PATIENCE_SECONDS)
        return Sizes() if thread.is_alive() else self._sizes

    def _measure(self) -> None:
        # `stat` and never `open`: closing a second handle on the database would drop SQLite's locks.
        real = os.path.realpath(self._database)
        self._sizes = Sizes(_bytes(real), _bytes(f"{real}-wal"))
        with suppress(OSError):
            disk = room(os.path.dirname(real))
            self._sizes = self._sizes._replace(free=disk.free, disk=disk.size)


def room(folder: str | Path) -> Room:
    """Measure the disk that holds `folder`. Raises OSError."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    return Room(free, used + free)


def _bytes(file: str) -> int | None:
    try:
        return os.stat(file).st_size
    except OSError:  # the file was deleted, or does not exist yet
        return None
