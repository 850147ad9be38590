"""How large the database's files are and how much room their disk has; a disk that hangs holds up nobody who asks."""

import os
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

PATIENCE_SECONDS = 1.0
"""How long is waited for the disk, which mostly takes 0.1 ms; Prometheus waits for 10 s."""


class Sizes(NamedTuple):
    """Bytes; None is what nobody knows."""

    database: int | None = None
    wal: int | None = None
    free: int | None = None
    """Room on the disk for the daemon's user."""
    disk: int | None = None
    """Size of the disk, as far as this user may fill it."""


class DiskLook:
    """Looks at the SQLite file `database` and its disk in a thread, which is let go where it takes too long."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._lock = Lock()
        self._thread: Thread | None = None
        self._sizes = Sizes()

    def sizes(self) -> Sizes:
        """What is true now; nothing where that takes longer than PATIENCE_SECONDS, or an earlier look still hangs."""
        with self._lock:
            thread = self._thread
            if thread is None or not thread.is_alive():
                self._thread = thread = Thread(target=self._look, name="disk", daemon=True)
                thread.start()
        thread.join(PATIENCE_SECONDS)
        return Sizes() if thread.is_alive() else self._sizes

    def _look(self) -> None:
        # With `stat` and never with `open`: closing a second handle on the database would drop SQLite's locks.
        real = os.path.realpath(self._database)
        free, disk = _room(os.path.dirname(real))
        self._sizes = Sizes(_bytes(real), _bytes(f"{real}-wal"), free, disk)


def _bytes(file: str) -> int | None:
    try:
        return os.stat(file).st_size
    except OSError:  # it is gone, or not there yet
        return None


def _room(folder: str) -> tuple[int | None, int | None]:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None, None
    # What root has kept for itself counts as used, as it does for the daemon.
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    free = disk.f_bavail * disk.f_frsize
    return free, used + free
