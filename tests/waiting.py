"""Polling with a deadline: the only way a test waits. And how busy the machine is, for limits that are a promise."""

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 60.0
"""Seconds that a test waits for an event. A test that passes never waits so long, on a busy machine neither."""

_SAMPLE_SECONDS = 0.1

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], *, seconds: float = DEADLINE_SECONDS, pause: float = 0.01, what: str = ""
) -> T:
    """Call `condition` until it returns something true, and return that; `pause` seconds lie between two calls.

    Raises AssertionError after `seconds`, which are longer on a busy machine.
    """
    began = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        lasted = time.monotonic() - began
        if lasted > seconds and lasted > seconds * slowness():
            raise AssertionError(f"not within {seconds:g} s: {what or condition}; last value {value!r}")
        time.sleep(pause)


def slowness() -> float:
    """Return the ratio of a computation's time to its processor time: 1 on a machine that does nothing else.

    A limit that a test sets is multiplied with this, so that it says the same on a busy machine.
    """
    began, used = time.perf_counter(), time.thread_time()
    while (worked := time.thread_time() - used) < _SAMPLE_SECONDS:
        pass
    return (time.perf_counter() - began) / worked


def accepts_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port without a listener, below those that the kernel gives to outgoing connections.

    One of these would be taken at any time while a test restarts its server.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
