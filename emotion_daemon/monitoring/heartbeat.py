"""What those who watch the daemon are told: whether its loop turns, and what is in the way. sd_notify for systemd."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType

OK = "ok"
"""What is said while the daemon is subscribed and its last commit succeeded."""

STALE_SECONDS = 15.0
"""A loop that has not turned for so long hangs."""

BEAT_SECONDS = STALE_SECONDS / 3
"""How often systemd's watchdog hears that the loop turns."""

SEND_SECONDS = 1.0
"""How long a systemd that does not read its socket may hold up the loop."""


class Heartbeat:
    """Knows how the daemon is doing, and passes it on to systemd: a trouble that begins or ends at once, and the beats.

    The daemon's thread tells it; any other may ask `alive`, `ready_line`, `subscribed`, `reconnects` and `limits`.
    `monotonic` is the clock of `beat`.
    """

    def __init__(
        self, environ: Mapping[str, str] | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._systemd = _Systemd(environ or {})
        self._monotonic = monotonic
        self._interval = min(BEAT_SECONDS, self._systemd.watchdog_seconds / 4)
        self._next_beat = float("-inf")
        self._database: str | None = "the database is not open yet"
        self._broker: str | None = "not subscribed to the broker yet"
        self._subscriptions = 0
        self._waits_for = ""
        self.beaten_at = monotonic()
        """When the loop turned last, monotonic seconds."""
        self.subscribed: bool | None = None
        """Whether the broker has confirmed the subscription on the present connection; None before it was asked."""
        self.limits: Mapping[str, int] = {}
        """What the broker said of itself when it accepted the newest connection: see `subscriber.broker_limits`."""

    def __enter__(self) -> "Heartbeat":
        self._pass_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._systemd.send("STOPPING=1", f"STATUS={_one_line(str(error)) if error else 'stopped'}")
        self._systemd.close()

    @property
    def line(self) -> str:
        """OK while the daemon is subscribed and its last commit did not fail, else what is in the way."""
        return _one_line("; ".join(trouble for trouble in (self._database, self._broker) if trouble)) or OK

    @property
    def alive(self) -> str:
        """OK while the loop turns, in trouble, too; else a sentence."""
        since = self._monotonic() - self.beaten_at
        if since < STALE_SECONDS:
            return OK
        waits_for = self._waits_for
        why = f", waiting for {waits_for}" if waits_for else ""
        return f"the daemon's loop has not turned for {since:.0f} s: it hangs{why}"

    @property
    def ready_line(self) -> str:
        """`line`, as long as the loop turns; else what `alive` says: nobody knows whether the line is still right."""
        alive = self.alive
        return self.line if alive == OK else alive

    @property
    def reconnects(self) -> int:
        """How many times the daemon has subscribed anew."""
        return max(0, self._subscriptions - 1)

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """The loop waits during the block, and that may be for ever: then this is what it hangs in."""
        self._waits_for = what
        try:
            yield
        finally:
            self._waits_for = ""

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
        self.subscribed = trouble is None
        self._subscriptions += self.subscribed
        if self.line != before:
            self._pass_on()

    def beat(self, *, now: float, early: bool = False) -> None:
        """The loop turns; `now` is monotonic seconds. To be called all the time, and `early` before what may take long.

        Also in trouble: that is in the line, and a restart by the watchdog would not end it.
        """
        self.beaten_at = now
        if now < self._next_beat and not early:
            return
        self._next_beat = now + self._interval
        if self._systemd.watches:
            self._systemd.send("WATCHDOG=1")

    def _pass_on(self) -> None:
        self._systemd.send(f"STATUS={self.line}")


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


def _one_line(text: str) -> str:
    return " ".join(text.split())
