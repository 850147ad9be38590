"""The journal's log and the watchdogs of a device's program."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from emotion_device import Watchdog

LOGS = """
import logging
from emotion_device import log_to_stderr
log_to_stderr()
logging.getLogger("a").warning("one\\ntwo")
"""

HANGS = """
import threading
from emotion_device import Watchdog
watchdog = Watchdog()
watchdog.beat()
if {stops}:
    watchdog.stopping()
threading.Event().wait({seconds})
"""


def run(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_journal_gets_the_priority_in_place_of_the_time() -> None:
    assert run(LOGS, JOURNAL_STREAM="8:1").stderr == "<4>one\n  two\n"


def test_a_terminal_gets_the_time() -> None:
    assert run(LOGS).stderr.endswith(" WARNING one\ntwo\n")


def test_systemd_hears_of_start_life_and_end(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        watchdog = Watchdog({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
        watchdog.ready()
        watchdog.beat()
        watchdog.beat()
        watchdog.status("two\nlines")
        watchdog.stopping()
        heard = [systemd.recv(100).decode() for _ in range(4)]

    assert heard == ["READY=1", "WATCHDOG=1", "STATUS=two lines", "STOPPING=1"]


def test_without_systemd_the_watchdog_does_nothing() -> None:
    watchdog = Watchdog({})
    watchdog.ready()
    watchdog.beat()
    watchdog.stopping()


def test_in_a_container_a_program_that_hangs_ends_itself_with_a_stack_trace() -> None:
    ended = run(HANGS.format(stops=False, seconds=60), EMOTION_WATCHDOG_SECONDS="0.2")

    assert ended.returncode == 1
    assert 'File "<string>"' in ended.stderr


def test_a_program_that_ends_in_order_may_take_longer() -> None:
    assert run(HANGS.format(stops=True, seconds=0.5), EMOTION_WATCHDOG_SECONDS="0.2").returncode == 0
