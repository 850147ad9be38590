"""Find devices that send far more than a camera does: messages and bytes a second, averaged over ten seconds."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

log = logging.getLogger(__name__)

WINDOW_SECONDS = 10.0
"""Seconds over which a rate is averaged."""

LOG_SECONDS = 60.0
"""Seconds for which a device is above the limit before the log names it. Queued messages are committed sooner."""

QUIET_SECONDS = 30.0
"""Seconds for which a device stays named after it was above the limit, so that a flood with pauses is one flood."""

MOST_NAMED = 20
"""Most devices that are named at a time."""

MOST_COUNTED = 20_000
"""Most devices that are counted in one window. A broker without roles lets a client invent ids."""


class Rate(NamedTuple):
    """Messages a second, and bytes of their packets a second."""

    messages: float
    bytes: float

    def exceeds(self, limit: "Rate") -> bool:
        """Return True if one of the two is above that of `limit`, in which 0 means no limit."""
        return self.messages > limit.messages > 0 or self.bytes > limit.bytes > 0


NO_LIMIT = Rate(0, 0)


@dataclass(slots=True)
class _Excess:
    """A device above the limit since the monotonic second `since`, and for the last time at `last`."""

    since: float
    last: float
    rate: Rate
    is_logged: bool = False


class DeviceRates:
    """Counts messages of devices, and names those above `limit`. `now` is monotonic seconds throughout."""

    def __init__(self, limit: Rate, *, now: float) -> None:
        self._limit = limit
        self._began = now
        self._counts: dict[str | None, list[int]] = {}
        self._above: dict[str, _Excess] = {}

    def count(self, traffic: Iterable[tuple[str | None, int]]) -> None:
        """Count messages: the device of each, None if its topic belongs to no device, and the bytes of its packet."""
        counts = self._counts
        for device_id, size in traffic:
            sums = counts.get(device_id)
            if sums is None:
                if len(counts) >= MOST_COUNTED:
                    continue
                sums = counts[device_id] = [0, 0]
            sums[0] += 1
            sums[1] += size

    def is_due(self, *, now: float) -> bool:
        """Return True if a window is over."""
        return now - self._began >= WINDOW_SECONDS

    def next_window(self, *, now: float) -> dict[str, Rate]:
        """End the window, and log which devices began and ceased to be above the limit.

        Returns the devices that are above it, each with the last rate that was.
        """
        seconds = now - self._began
        counts, self._counts, self._began = self._counts, {}, now
        for device_id, (messages, size) in counts.items():
            rate = Rate(messages / seconds, size / seconds)
            if device_id is not None and rate.exceeds(self._limit):
                self._exceeded(device_id, rate, now)
        for device_id in [name for name, excess in self._above.items() if now - excess.last >= QUIET_SECONDS]:
            self._ceased(device_id)
        return {device_id: excess.rate for device_id, excess in self._above.items()}

    def _exceeded(self, device_id: str, rate: Rate, now: float) -> None:
        excess = self._above.get(device_id)
        if excess is None:
            if len(self._above) < MOST_NAMED:
                self._above[device_id] = _Excess(now, now, rate)
            return
        excess.last, excess.rate = now, rate
        if not excess.is_logged and now - excess.since >= LOG_SECONDS:
            excess.is_logged = True
            log.warning(
                "%s sends %.0f messages/s and %.0f KiB/s, for %.0f s now: far more than a camera. A backlog after an "
                "outage ends by itself; otherwise check the device, or end its login with `scripts/device remove`",
                device_id,
                rate.messages,
                rate.bytes / 1024,
                now - excess.since,
            )

    def _ceased(self, device_id: str) -> None:
        excess = self._above.pop(device_id)
        if excess.is_logged:
            log.warning("%s sends as little as a camera again, after %.0f s", device_id, excess.last - excess.since)
