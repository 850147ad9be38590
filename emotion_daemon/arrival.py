"""The order in which batches arrived, where a device's stamps do not tell it. No I/O, no clock."""

from datetime import datetime

import msgspec

from shared.batch import MAX_CLOCK_SKEW, Batch

MAX_REMEMBERED = 20_000
"""How many devices with a wrong clock are remembered; beyond, their batches wait for the time to pass."""


class ArrivalOrder:
    """Keeps a stamp that was replaced by the time of arrival from blocking the batches that arrived after it.

    A device without a battery starts in 1970 and soon has the right time. Where its batches waited with the broker, the
    first is stamped with the time at which it arrived here, and the right stamps of the others are older than that.
    """

    def __init__(self) -> None:
        self._replaced: dict[str, datetime] = {}

    def settle(self, batch: Batch, *, received_at: datetime) -> Batch:
        """The batch, no older than the last one of its device whose stamp was replaced."""
        if batch.clock_skew is not None:
            if batch.device_id in self._replaced or len(self._replaced) < MAX_REMEMBERED:
                self._replaced[batch.device_id] = batch.timestamp
            return batch
        replaced = self._replaced.get(batch.device_id) if self._replaced else None
        if replaced is None:
            return batch
        if batch.timestamp < replaced <= received_at + MAX_CLOCK_SKEW:  # beyond, the clock here was wrong
            return msgspec.structs.replace(batch, timestamp=replaced)
        del self._replaced[batch.device_id]
        return batch
