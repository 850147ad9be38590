"""Devices above the limit are named: from a window above the limit until half a minute later."""

import logging

import pytest

from emotion_daemon.monitoring import device_rates
from emotion_daemon.monitoring.device_rates import NO_LIMIT, DeviceRates, Rate

LIMIT = Rate(messages=20, bytes=1_000)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


class Watch:
    """Counts windows of ten seconds."""

    def __init__(self, limit: Rate = LIMIT) -> None:
        self.rates = DeviceRates(limit, now=0)
        self.now = 0.0

    def window(self, *traffic: tuple[str | None, int], times: int = 1) -> dict[str, Rate]:
        """The devices above the limit after a window in which each message of `traffic` came so many times."""
        self.now += 10
        for _ in range(times):
            self.rates.count(traffic)
        assert self.rates.is_due(now=self.now)
        return self.rates.next_window(now=self.now)


def test_a_device_above_the_limit_of_messages_is_named_with_its_rate() -> None:
    watch = Watch()

    assert watch.window(("loud", 1), times=201) == {"loud": Rate(20.1, 20.1)}


def test_a_device_above_the_limit_of_bytes_is_named_with_its_rate() -> None:
    assert Watch().window(("large", 10_001)) == {"large": Rate(0.1, 1_000.1)}


def test_a_device_at_the_limit_is_not_named() -> None:
    assert Watch().window(("camera", 50), times=200) == {}


def test_each_window_begins_at_zero() -> None:
    watch = Watch()
    watch.window(("camera", 1), times=150)

    assert watch.window(("camera", 1), times=150) == {}


def test_a_window_lasts_ten_seconds_and_longer_if_the_loop_stood_still() -> None:
    watch = Watch()
    assert not watch.rates.is_due(now=9.9)

    watch.now = 90
    assert watch.window(("camera", 1), times=1_999) == {}


def test_devices_are_counted_apart() -> None:
    assert Watch().window(("one", 1), ("two", 1), times=150) == {}


def test_messages_on_topics_of_no_device_name_none() -> None:
    assert Watch().window((None, 1_000), times=1_000) == {}


@pytest.mark.parametrize(("limit", "named"), [(NO_LIMIT, 0), (Rate(0, 1_000), 1), (Rate(20, 0), 1)])
def test_a_limit_of_0_is_none(limit: Rate, named: int) -> None:
    assert len(Watch(limit).window(("loud", 1_000), times=1_000)) == named


def test_a_device_stays_named_for_half_a_minute_with_its_last_rate_above_the_limit() -> None:
    watch = Watch()
    watch.window(("loud", 1), times=300)
    named = [watch.window(("loud", 1)) for _ in range(3)]

    assert named == [{"loud": Rate(30, 30)}, {"loud": Rate(30, 30)}, {}]


def test_only_so_many_devices_are_named_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_rates, "MOST_NAMED", 2)
    watch = Watch()
    watch.window(("1", 1), ("2", 1), ("3", 1), times=300)

    assert watch.window(("3", 1), ("2", 1), ("1", 1), times=400).keys() == {"1", "2"}


def test_only_so_many_devices_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_rates, "MOST_COUNTED", 1)

    assert Watch().window(("1", 1), ("2", 1), times=300).keys() == {"1"}


class TestLog:
    def test_a_burst_is_no_line(self, caplog: pytest.LogCaptureFixture) -> None:
        watch = Watch()
        for times in (300, 300, 0, 0, 0, 0, 0, 300, 0, 0, 0):
            watch.window(("loud", 1), times=times)

        assert caplog.messages == []

    def test_a_flood_is_a_line_after_a_minute_and_one_when_it_is_over(self, caplog: pytest.LogCaptureFixture) -> None:
        watch = Watch()
        for _ in range(20):
            watch.window(("loud", 1_024), times=300)
        (begin,) = caplog.messages
        for _ in range(5):
            watch.window(("loud", 1))

        assert begin.startswith("loud sends 30 messages/s and 30 KiB/s, for 60 s now: far more than a camera.")
        assert caplog.messages[1:] == ["loud sends as little as a camera again, after 190 s"]

    def test_a_flood_with_pauses_is_one_flood(self, caplog: pytest.LogCaptureFixture) -> None:
        watch = Watch()
        for _ in range(10):
            watch.window(("loud", 1), times=300)
            watch.window()

        assert len(caplog.messages) == 1
