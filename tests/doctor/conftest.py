"""A short stay at the broker where no test needs a long one."""

import signal
from collections.abc import Iterator

import pytest

from emotion_daemon.doctor import broker


@pytest.fixture(autouse=True)
def _short_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CLASH_SECONDS", 0.3)
    monkeypatch.setattr(broker, "RETAINED_SECONDS", 0.3)
    monkeypatch.setattr(broker, "RECONNECT_SECONDS", 0.6)


@pytest.fixture(autouse=True)
def _broken_pipes_are_errors() -> Iterator[None]:
    """As Python has it at the start; a command that was tested in this process may have changed it."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGPIPE, before)
