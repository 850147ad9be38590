"""A short stay at the broker where no test needs a long one."""

import pytest

from emotion_admin.doctor import broker


@pytest.fixture(autouse=True)
def _short_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "CLASH_SECONDS", 0.3)
    monkeypatch.setattr(broker, "RETAINED_SECONDS", 0.3)
