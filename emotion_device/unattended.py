"""For a program that runs unattended: a log that systemd's journal understands, and systemd's watchdog."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from typing import Mapping

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


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
    """Tells systemd that the program has started and that its loop turns. Without systemd it does nothing.

    Call `beat` in every turn of the loop: if it does not turn for the unit's WatchdogSec, systemd restarts the program.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._seconds = int(environ.get("WATCHDOG_USEC") or 0) / 1e6
        self._next_beat = 0.0

    def ready(self) -> None:
        """Tell systemd that the start is over."""
        self._send("READY=1")

    def beat(self) -> None:
        """Tell systemd that the loop turns, at a quarter of the watchdog's time at most."""
        now = time.monotonic()
        if self._seconds and now >= self._next_beat:
            self._next_beat = now + self._seconds / 4
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """Tell systemd that the program ends."""
        self._send("STOPPING=1")

    def _send(self, assignment: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(1.0)
                sender.sendto(assignment.encode(errors="backslashreplace"), self._address)
