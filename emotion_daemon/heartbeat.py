"""What those who watch the daemon are told: a file of one line for a health check, and sd_notify for systemd."""

import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from emotion_daemon.health import OK, STALE_SECONDS

log = logging.getLogger(__name__)

BEAT_SECONDS = STALE_SECONDS / 3
"""How often the watchers hear that nothing has changed."""

SEND_SECONDS = 1.0
"""How long a systemd that does not read its socket may hold up the loop."""


class Heartbeat:
    """Passes on what it is told: a trouble that begins or ends at once, and every BEAT_SECONDS that the loop turns.

    The file is removed at the end of the block. A file that cannot be written stops nothing: the health check notices
    that it is old.
    """

    def __init__(self, path: Path | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._path = path
        self._systemd = _Systemd(environ or {})
        self._interval = min(BEAT_SECONDS, self._systemd.watchdog_seconds / 4)
        self._next_beat = float("-inf")
        self._cannot_write = False
        self._database: str | None = "the database is not open yet"
        self._broker: str | None = "not subscribed to the broker yet"

    def __enter__(self) -> "Heartbeat":
        self._pass_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._systemd.send("STOPPING=1", f"STATUS={_one_line(str(error)) if error else 'stopped'}")
        self._systemd.close()
        if self._path is not None:
            for path in (self._path, _unfinished(self._path)):
                with suppress(OSError):
                    path.unlink()

    @property
    def line(self) -> str:
        """OK while the daemon is subscribed and its last commit did not fail, else what is in the way."""
        return _one_line("; ".join(trouble for trouble in (self._database, self._broker) if trouble)) or OK

    def ready(self) -> None:
        """The schema is in place and the loop begins: who needs the database may start."""
        self._systemd.send("READY=1")
        self.database(None)

    def database(self, trouble: str | None) -> None:
        """Why the last transaction failed, or None: it did not."""
        before, self._database = self.line, trouble
        if self.line != before:
            self._pass_on()

    def broker(self, trouble: str | None) -> None:
        """Why there is no subscription, or None: the broker has confirmed it on the present connection."""
        before, self._broker = self.line, trouble
        if self.line != before:
            self._pass_on()

    def beat(self, *, now: float, early: bool = False) -> None:
        """The loop turns; `now` is monotonic seconds. To be called all the time, and `early` before what may take long.

        Also in trouble: that is in the line, and a restart by the watchdog would not end it.
        """
        if now < self._next_beat and not early:
            return
        self._next_beat = now + self._interval
        self._write()
        if self._systemd.watches:
            self._systemd.send("WATCHDOG=1")

    def _pass_on(self) -> None:
        self._write()
        self._systemd.send(f"STATUS={self.line}")

    def _write(self) -> None:
        """In one step: who reads meanwhile gets all of the old line or all of the new one."""
        if self._path is None:
            return
        unfinished = _unfinished(self._path)
        try:
            unfinished.write_text(f"{self.line}\n", encoding="utf-8", errors="backslashreplace")
            unfinished.replace(self._path)
        except OSError as error:
            if not self._cannot_write:
                log.warning("cannot write %s: %s; a health check will take us for dead", self._path, error.strerror)
            self._cannot_write = True
        else:
            self._cannot_write = False


class _Systemd:
    """sd_notify(3) by hand: datagrams to the socket that NOTIFY_SOCKET names. Without one, nothing happens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = os.fsencode(environ.get("NOTIFY_SOCKET", ""))
        self._address = b"\0" + address[1:] if address.startswith(b"@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.settimeout(SEND_SECONDS)
        microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        self.watches = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / 1e6 if self.watches else float("inf")
        """How long the watchdog waits for a sign of life."""

    def send(self, *assignments: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(errors="backslashreplace"), self._address)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _one_line(text: str) -> str:
    return " ".join(text.split())
