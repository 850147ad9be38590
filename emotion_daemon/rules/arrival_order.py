"""The order in which batches arrived, where a device's stamps do not tell it. No I/O, no clock."""

from datetime import datetime

import msgspec

from shared.batch import MAX_CLOCK_SKEW, Batch

MAX_REMEMBERED = 20_000
"""How many devices with a wrong clock are remembered; beyond, their batches wait for the time to pass."""

_FAR_AHEAD = MAX_CLOCK_SKEW / 2  # nearer than this, a clock does not get too far ahead between two batches


class ArrivalOrder:
    """Keeps a stamp that was replaced by the time of arrival from blocking the batches that arrived after it.

    A device without a battery starts in 1970 and soon has the right time. Where its batches waited with the broker, the
    first is stamped with the time at which it arrived here, and the right stamps of the others are older than that.
    The other way round, a clock that runs away from ours is believed up to MAX_CLOCK_SKEW, and then has the time of
    arrival, which is older than what it said last.
    """

    def __init__(self) -> None:
        self._replaced: dict[str, datetime] = {}
        self._ahead: dict[str, datetime] = {}

    def settle(self, batch: Batch, *, received_at: datetime) -> Batch:
        """The batch, no older than the last one of its device, where one of the two stamps was replaced."""
        device_id, stamp, latest = batch.device_id, batch.timestamp, received_at + MAX_CLOCK_SKEW
        if batch.clock_skew is not None:
            before = (self._replaced.get(device_id), self._ahead.get(device_id))
            stamp = max([stamp, *(each for each in before if each is not None and each <= latest)])
            _remember(self._replaced, device_id, stamp)
        else:
            if stamp > received_at + _FAR_AHEAD:
                _remember(self._ahead, device_id, stamp)
            replaced = self._replaced.get(device_id) if self._replaced else None
            if replaced is None:
                return batch
            if stamp < replaced <= latest:  # beyond, the clock here was wrong
                stamp = replaced
            else:
                del self._replaced[device_id]
        if stamp == batch.timestamp:
            return batch
        return msgspec.structs.replace(batch, timestamp=stamp, moved=True)


def _remember(stamps: dict[str, datetime], device_id: str, stamp: datetime) -> None:
    if device_id in stamps or len(stamps) < MAX_REMEMBERED:
        stamps[device_id] = stamp
