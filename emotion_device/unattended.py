"""For a program that runs unattended: a log that systemd's journal understands, and systemd's watchdog."""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import time
from contextlib import suppress
from typing import Mapping

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_BEAT_SECONDS = 60.0


class _JournalFormatter(logging.Formatter):
    """Begins each record with its priority, sd-daemon(3), in place of the time, which the journal adds itself."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).replace("\n", "\n  ")
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}"


def log_to_stderr(level: int = logging.INFO, environ: Mapping[str, str] = os.environ) -> None:
    """Log to standard error: with priorities for systemd's journal, otherwise with the time."""
    handler = logging.StreamHandler()
    if environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


class Watchdog:
    """Ends a program whose loop does not turn any more, so that it is restarted. Call `beat` in every turn.

    Under systemd the unit's WatchdogSec is the limit. In a container, which nothing else watches, the variable
    EMOTION_WATCHDOG_SECONDS is: the program then ends itself with a stack trace. Without either it does nothing.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._seconds = int(environ.get("WATCHDOG_USEC") or 0) / 1e6
        self._own_seconds = float(environ.get("EMOTION_WATCHDOG_SECONDS") or 0)
        self._next_beat = 0.0

    def ready(self) -> None:
        """Tell systemd that the start is over."""
        self._send("READY=1")

    def beat(self) -> None:
        """Say that the loop turns. Cheap enough for every frame."""
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + min(self._seconds or _BEAT_SECONDS, self._own_seconds or _BEAT_SECONDS) / 4
        if self._seconds:
            self._send("WATCHDOG=1")
        if self._own_seconds:
            faulthandler.dump_traceback_later(self._own_seconds, exit=True)

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """Tell systemd that the program ends. From now on the loop need not turn."""
        self._send("STOPPING=1")
        if self._own_seconds:
            faulthandler.cancel_dump_traceback_later()

    def _send(self, assignment: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(1.0)
                sender.sendto(assignment.encode(errors="backslashreplace"), self._address)
