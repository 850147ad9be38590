"""What a group of batches changes: people, devices and history. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from emotion_daemon.rules.history import LONGEST_GAP, SLACK, Minutes, increment
from emotion_daemon.rules.tombstones import Tombstones, suppress
from shared.batch import Batch, Cumulative

PersonKey = tuple[str, str]
"""(device id, person id)"""


class Report(msgspec.Struct, frozen=True, gc=False):
    """What a device reported last about one person; `last_seen` is the timestamp of that batch.

    `spare` are the seconds that the person may still catch up on: see `history.SLACK`. They are not stored.
    """

    cumulative: Cumulative
    last_seen: datetime
    spare: float = 0.0


class StoredState(NamedTuple):
    """What is stored about a group: its people, its devices' newest timestamps, and the tombstones of erased people."""

    people: Mapping[PersonKey, Report] = MappingProxyType({})
    devices: Mapping[str, datetime] = MappingProxyType({})
    tombstones: Tombstones = MappingProxyType({})


class Folded(NamedTuple):
    """`people`, `devices` (each one's newest batch) and `minutes` are what to write.

    `heard` has each device's last received batch, late or not, unless it is stored already. `updated_counts` has, for
    each batch, the number of people it changed. `changed_devices` are those about which anything is written.
    `capped` has, for each device, the seconds beyond the elapsed time, which the history drops; a device's first batch
    does not count. `suppressed` is the number of entries about erased people.
    """

    people: dict[PersonKey, Report]
    devices: dict[str, Batch]
    heard: dict[str, Batch]
    minutes: Minutes
    updated_counts: list[int]
    changed_devices: set[str]
    capped: dict[str, float]
    suppressed: int = 0


NO_STATE = StoredState()
_NO_TIME = Cumulative()


def fold(batches: Iterable[Batch], state: StoredState = NO_STATE) -> Folded:
    """Fold `batches`, in the order they were received, over what is stored: a person who is not stored counts as new.

    A batch older than a person's stored report changes nothing for that person. A batch as old is applied again and
    adds nothing to the history if it says the same: a message may come twice.
    """
    batches, suppressed = suppress(batches, state.tombstones)
    folding = Fold(state)
    for batch in batches:
        folding.add(batch, batch.people)
    return folding.result(suppressed)


class Fold:
    """One group's fold under way: `add` each batch, then take the `result`."""

    def __init__(self, state: StoredState) -> None:
        self.people: dict[PersonKey, Report] = {}
        self._stored = state.people.get
        self._stored_devices = state.devices
        self._devices: dict[str, Batch] = {}
        self._heard: dict[str, Batch] = {}
        self._minutes = Minutes()
        self._updated_counts: list[int] = []
        self._capped: dict[str, float] = {}
        self._changed_devices: set[str] = set()

    def newest(self, device_id: str) -> datetime | None:
        """The newest timestamp of the device so far."""
        batch = self._devices.get(device_id)
        return self._stored_devices.get(device_id) if batch is None else batch.timestamp

    def add(self, batch: Batch, people: Mapping[str, Cumulative]) -> None:
        """Fold one batch; of its people those in `people` count."""
        device_id, timestamp = batch.device_id, batch.timestamp
        previous = self.newest(device_id)
        if batch.received_at is not None and self._stored_devices.get(device_id) != timestamp:
            self._heard[device_id] = batch
        since, gap = timestamp, 0.0
        if previous is None or previous <= timestamp:
            self._devices[device_id] = batch
            self._changed_devices.add(device_id)
            if previous is not None:
                since, gap = previous, min((timestamp - previous).total_seconds(), LONGEST_GAP)
        updated = self._add_people(batch, people, since, gap, is_first=previous is None)
        self._updated_counts.append(updated)

    def result(self, suppressed: int = 0) -> Folded:
        """What the batches change, all together; `suppressed` as in Folded."""
        return Folded(
            self.people,
            self._devices,
            self._heard,
            self._minutes,
            self._updated_counts,
            self._changed_devices,
            self._capped,
            suppressed,
        )

    def _add_people(
        self, batch: Batch, people: Mapping[str, Cumulative], since: datetime, gap: float, *, is_first: bool
    ) -> int:
        """The number of people that the batch changed. `since` and `gap` tell of the device's batch before."""
        device_id, timestamp = batch.device_id, batch.timestamp
        reports, stored = self.people, self._stored
        longest = gap + SLACK
        updated = 0
        happy = sad = angry = neutral = beyond = 0.0
        for person_id, cumulative in people.items():
            key = (device_id, person_id)
            report = reports.get(key) or stored(key)
            if report is None:
                # Nothing tells since when: at most since the batch before, which did not name this person.
                before, allowed = _NO_TIME, gap
            else:
                before, allowed = report.cumulative, report.spare
                if report.last_seen is since:  # in the batch before: this spares most people a subtraction
                    allowed += gap
                elif report.last_seen <= timestamp:
                    allowed += (timestamp - report.last_seen).total_seconds()
                else:
                    continue
                if allowed > longest:
                    allowed = longest
            more_happy, more_sad, more_angry, more_neutral, spare, excess = increment(cumulative, before, allowed)
            reports[key] = Report(cumulative, timestamp, spare)
            happy += more_happy
            sad += more_sad
            angry += more_angry
            neutral += more_neutral
            beyond += excess
            updated += 1
        if updated:
            self._changed_devices.add(device_id)
            self._minutes.add(device_id, since, timestamp, (happy, sad, angry, neutral), len(people))
        if beyond and not is_first:
            self._capped[device_id] = self._capped.get(device_id, 0.0) + beyond
        return updated
