"""Follow a device whose clock was set back. Pure.

A broker delivers the messages of a device in order. A batch with an older timestamp than the device's newest batch is
therefore late only if the broker sends it again, or if it came through another broker. Otherwise the device's clock was
set back: a board without a battery starts in the past, or an hour of local time comes twice. The daemon then adds an
offset to the device's timestamps. They continue behind the newest one, until the device's own timestamps are newer.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from emotion_daemon.rules.history import ROUNDING
from shared.batch import MAX_CLOCK_SKEW, Batch, Cumulative

BATCHES = 3
"""Older batches in a row, without a newer one between them, that show a clock that was set back."""

DOUBTFUL_SECONDS = 8.0
"""Seconds that the row lasts at least if its counters do not grow. Copies of earlier batches look the same."""

LATE_FOLLOWS_WITHIN = timedelta(minutes=1)
"""A late batch that arrives longer after the late one before belongs to another backlog."""

LONGEST_WAIT = timedelta(days=30)
"""A batch that is older than this has not waited at a broker."""

_JITTER = timedelta(seconds=1)
NO_OFFSET = timedelta()


class Row(NamedTuple):
    """Older batches that arrived one after the other while the device's newest timestamp was `newest`.

    `first` and `last` are the timestamps of two of them, which arrived at `arrived` and `last_arrived`. `grows` is true
    if each of them reported more seconds than are stored, and of no person fewer.
    """

    newest: datetime
    first: datetime
    last: datetime
    arrived: datetime
    last_arrived: datetime
    batches: int
    grows: bool

    @classmethod
    def of(cls, stamp: datetime, received_at: datetime, *, newest: datetime, grows: bool) -> "Row":
        """A row of one batch."""
        return cls(newest, stamp, stamp, received_at, received_at, 1, grows)

    def followed_by(self, stamp: datetime, received_at: datetime, *, newest: datetime, grows: bool) -> "Row":
        """Return the row with one batch more. A batch that does not fit begins a new row.

        A device that sends whole seconds may send several batches with one timestamp. Such a batch counts if it grows,
        and is otherwise perhaps the same message once more.
        """
        grows = self.grows and grows
        in_a_burst = stamp - self.first > received_at - self.arrived + _JITTER
        after_a_pause = received_at - self.last_arrived > stamp - self.last + _JITTER
        queued = in_a_burst or after_a_pause  # a live device's batches arrive as they are made
        if self.newest != newest or stamp < self.last or (queued and not grows):
            return Row.of(stamp, received_at, newest=newest, grows=grows)
        if stamp == self.last and not grows:
            return self._replace(grows=False)
        return self._replace(last=stamp, last_arrived=received_at, batches=self.batches + 1, grows=grows)

    def late_since(self, stamp: datetime, received_at: datetime) -> datetime | None:
        """The timestamp of the late batch before if the batch at `stamp` follows it, or None."""
        follows = self.last <= stamp and received_at - self.last_arrived <= LATE_FOLLOWS_WITHIN
        return self.last if follows else None

    def shows_fallback(self, received_at: datetime) -> bool:
        """Return True if the clock was set back; the last batch of the row arrived at `received_at`."""
        certain = self.grows or self.newest - self.last > LONGEST_WAIT
        lasted = (received_at - self.arrived).total_seconds()
        return self.batches >= BATCHES and (certain or lasted >= DOUBTFUL_SECONDS)


class Clocks(NamedTuple):
    """By device: the offset of a clock that was set back, when the newest batch arrived, and older batches since.

    Another daemon received the newest batches of the devices in `elsewhere`.
    """

    offsets: Mapping[str, timedelta] = MappingProxyType({})
    arrivals: Mapping[str, datetime] = MappingProxyType({})
    rows: Mapping[str, Row] = MappingProxyType({})
    elsewhere: Collection[str] = frozenset()


class Placed(NamedTuple):
    """A batch with the timestamp that counts.

    `elapsed` is the time since the batch before if the timestamps do not tell it. `late_since` is the timestamp of the
    late batch before, if this one is late and continues it.
    """

    batch: Batch
    elapsed: timedelta | None = None
    late_since: datetime | None = None


class ClockFallback:
    """The clocks of a group's devices: `place` each batch, then take `offsets`, `rows` and `fallen`."""

    def __init__(self, clocks: Clocks, now: datetime) -> None:
        self.offsets: dict[str, timedelta] = {}
        """The offset of each device that has one or had one, after the group."""
        self.rows: dict[str, Row] = {}
        self.fallen: dict[str, timedelta] = {}
        """By how much each clock was set back that this group shows to be."""
        self._stored = clocks
        self._arrivals: dict[str, datetime] = {}
        self._now = now

    def offset(self, device_id: str) -> timedelta:
        """The offset of the device's timestamps, 0 for a clock that was not set back."""
        changed = self.offsets.get(device_id)
        return self._stored.offsets.get(device_id, NO_OFFSET) if changed is None else changed

    def place(self, batch: Batch, newest: datetime, grows: Callable[[], bool]) -> Placed:
        """Decide which timestamp counts. `newest` is the device's newest so far; `grows` is asked only if in doubt."""
        device_id, stamp = batch.device_id, batch.timestamp
        now = self._now if batch.received_at is None else batch.received_at
        offset = self.offset(device_id)
        arrival = self._arrivals.get(device_id) or self._stored.arrivals.get(device_id)
        waited = None if arrival is None else max(now - arrival, NO_OFFSET)
        if offset:
            shifted = stamp + offset
            if stamp >= newest:
                self.offsets[device_id] = NO_OFFSET
                passed = shifted - newest if waited is None else min(shifted - newest, waited)
                return Placed(batch, max(stamp - newest, passed))
            tolerance = NO_OFFSET if batch.received_at is None else MAX_CLOCK_SKEW
            if newest <= shifted <= _latest(newest, now, waited) + tolerance:
                return Placed(_at(shifted, batch))
            if shifted < newest:
                batch = _at(shifted, batch)
        if batch.received_at is None:
            return Placed(batch)
        before = self.rows.get(device_id) or self._stored.rows.get(device_id)
        grown = self._came_by_one_way(device_id) and grows()
        if before is None:
            late_since, row = None, Row.of(stamp, now, newest=newest, grows=grown)
        else:
            late_since = None if offset else before.late_since(stamp, now)
            row = before.followed_by(stamp, now, newest=newest, grows=grown)
        self.rows[device_id] = row
        if not row.shows_fallback(now):
            return Placed(batch, late_since=late_since)
        passed = max(row.last - row.first, waited or NO_OFFSET)
        placed = min(newest + passed, _latest(newest, now, waited))
        self.offsets[device_id] = placed - stamp
        self.fallen[device_id] = placed - stamp - offset
        return Placed(_at(placed, batch), passed)

    def arrived(self, batch: Batch) -> None:
        """Remember when the device's newest batch arrived."""
        if batch.received_at is not None:
            self._arrivals[batch.device_id] = batch.received_at

    def _came_by_one_way(self, device_id: str) -> bool:
        """Return True if this daemon received the device's newest batch, too: one broker delivers in order.

        A device that has moved to another broker leaves older batches with the first one. They may grow, too.
        """
        return device_id in self._arrivals or device_id not in self._stored.elsewhere


def grows(people: Mapping[str, Cumulative], stored: Callable[[str], Cumulative | None]) -> bool:
    """Return True if a person has more seconds of an emotion than are stored, and no one has fewer."""
    more = False
    for person_id, new in people.items():
        old = stored(person_id)
        if old is None:
            more = True
            continue
        changes = (new.happy - old.happy, new.sad - old.sad, new.angry - old.angry, new.neutral - old.neutral)
        if min(changes) < -ROUNDING:
            return False
        more = more or max(changes) > ROUNDING
    return more


def _latest(newest: datetime, now: datetime, waited: timedelta | None) -> datetime:
    """The latest timestamp that an offset may lead to: now, or as far ahead as the newest one was."""
    return max(now, newest + (waited or NO_OFFSET))


def _at(stamp: datetime, batch: Batch) -> Batch:
    """The batch at `stamp`. `clock_skew` says how far its own timestamp is off."""
    skew = batch.clock_skew
    if skew is None:
        skew = NO_OFFSET if batch.received_at is None else batch.timestamp - batch.received_at
    return msgspec.structs.replace(batch, timestamp=stamp, clock_skew=skew)
