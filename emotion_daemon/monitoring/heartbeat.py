"""The daemon's health: whether its loop turns, and what is unreachable. For /healthz, /readyz and systemd."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType

OK = "ok"
"""The answer while the daemon is subscribed and its last commit succeeded."""

STALE_SECONDS = 15.0
"""A loop that has not turned for so long counts as hanging."""

HANGING_SECONDS = 5.0
"""Seconds of one wait for the database from which on the daemon is not ready: a lock ends an attempt after 2 s."""

BEAT_SECONDS = STALE_SECONDS / 3
"""Seconds between two signs of life for systemd's watchdog."""

SEND_SECONDS = 1.0
"""Seconds for which a systemd that does not read its socket can delay the loop."""


class Heartbeat:
    """Holds the daemon's health, and tells systemd when an outage begins or ends and that the loop turns.

    The daemon's thread writes it. Other threads may read `alive`, `ready_line`, `waited`, `subscribed`, `reconnects`
    and `limits`: each is one assignment. `monotonic` is the clock of `beat`.
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
        self._waits_since: float | None = None
        self.beaten_at = monotonic()
        """Time of the loop's last turn, in monotonic seconds."""
        self.subscribed: bool | None = None
        """True once the broker has confirmed the subscription on the connection; None before the first attempt."""
        self.limits: Mapping[str, int] = {}
        """The limits that the broker's newest CONNACK named: see `subscriber.broker_limits`."""

    def __enter__(self) -> "Heartbeat":
        self._tell_systemd()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._systemd.send("STOPPING=1", f"STATUS={_one_line(str(error)) if error else 'stopped'}")
        self._systemd.close()

    @property
    def line(self) -> str:
        """OK while the daemon is subscribed and its last commit did not fail; otherwise a sentence about the outage."""
        return _one_line("; ".join(outage for outage in (self._database, self._broker) if outage)) or OK

    @property
    def alive(self) -> str:
        """OK while the loop turns, even in an outage; otherwise a sentence."""
        since = self._monotonic() - self.beaten_at
        if since < STALE_SECONDS:
            return OK
        waits_for = self._waits_for
        why = f", waiting for {waits_for}" if waits_for else ""
        return f"the daemon's loop has not turned for {since:.0f} s: it hangs{why}"

    @property
    def waited(self) -> float:
        """Return for how many seconds the loop has waited for the database without a sign of life; 0 if it does not."""
        since = self._waits_since
        return 0.0 if since is None else self._monotonic() - max(since, self.beaten_at)

    @property
    def ready_line(self) -> str:
        """`line` while the loop turns and the database answers; otherwise a sentence, because the line is outdated."""
        alive, waited = self.alive, self.waited
        if alive == OK and waited >= HANGING_SECONDS:
            return f"waiting for {self._waits_for} for {waited:.0f} s: a commit or a query hangs"
        return self.line if alive == OK else alive

    @property
    def reconnects(self) -> int:
        """Return the number of subscriptions after the first one."""
        return max(0, self._subscriptions - 1)

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """During the block the loop waits for `what`. If it hangs, `ready_line` and `alive` say so."""
        self._waits_for, self._waits_since = what, self._monotonic()
        try:
            yield
        finally:
            self._waits_for, self._waits_since = "", None

    def ready(self) -> None:
        """The schema is up to date and the loop begins. systemd may start the units that need the database."""
        self._systemd.send("READY=1")
        self.database(None)

    def database(self, outage: str | None) -> None:
        """Set why the last transaction failed; None if it succeeded."""
        before, self._database = self.line, outage
        if self.line != before:
            self._tell_systemd()

    def broker(self, outage: str | None) -> None:
        """Set why there is no subscription; None once the broker has confirmed it on the present connection."""
        before, self._broker = self.line, outage
        self.subscribed = outage is None
        self._subscriptions += self.subscribed
        if self.line != before:
            self._tell_systemd()

    def beat(self, *, now: float, early: bool = False) -> None:
        """The loop turns at `now`, in monotonic seconds. Call it in each turn, and with `early` before a long step.

        Call it during an outage, too: a restart by the watchdog would not end that.
        """
        self.beaten_at = now
        if now < self._next_beat and not early:
            return
        self._next_beat = now + self._interval
        if self._systemd.watches:
            self._systemd.send("WATCHDOG=1")

    def _tell_systemd(self) -> None:
        self._systemd.send(f"STATUS={self.line}")


class _Systemd:
    """sd_notify(3): sends datagrams to the socket that NOTIFY_SOCKET names, if there is one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = os.fsencode(environ.get("NOTIFY_SOCKET", ""))
        self._address = b"\0" + address[1:] if address.startswith(b"@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.settimeout(SEND_SECONDS)
        microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        self.watches = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / 1e6 if self.watches else float("inf")
        """Seconds that the watchdog waits for a sign of life."""

    def send(self, *assignments: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto("\n".join(assignments).encode(errors="backslashreplace"), self._address)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _one_line(text: str) -> str:
    return " ".join(text.split())
