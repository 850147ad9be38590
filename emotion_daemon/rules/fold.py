"""Fold a group of batches into its changes of people, devices and history. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from emotion_daemon.rules.clock_fallback import ClockFallback, Clocks, Placed, grows
from emotion_daemon.rules.history import LONGEST_GAP, ROUNDING, SLACK, Minutes, increment
from emotion_daemon.rules.listening import LONGEST_COVERED, Listened, Listening, Seconds
from emotion_daemon.rules.tombstones import Tombstones, suppressed
from shared.batch import Batch, Cumulative

PersonKey = tuple[str, str]
"""(device id, person id)"""


ACTIVE_SECONDS = 10.0
"""Seconds for which a person counts as in view after the counters grew: a detector may miss a face in a frame."""


class Report(msgspec.Struct, frozen=True, gc=False):
    """A device's last report about one person; `last_seen` is the timestamp of that batch.

    `active_at` is the timestamp of the last batch in which the person's counters had grown, None if they never have.
    `emotion_now` is the emotion that grew most then, None if they never have or an earlier version stored the person.
    `spare` are the seconds that the person may still catch up on: see `history.SLACK`. They are not stored.
    """

    cumulative: Cumulative
    last_seen: datetime
    active_at: datetime | None = None
    emotion_now: str | None = None
    spare: float = 0.0


class StoredState(NamedTuple):
    """The stored state of a group: its people, its devices' newest timestamps and clocks, and tombstones.

    `now` is the time of the transaction, by the daemon's clock. The devices in `unknown_people` sent their
    previous batch to another process, and no person is stored: their people may be anyone. `listened` is what this
    process remembers of devices.
    """

    people: Mapping[PersonKey, Report] = MappingProxyType({})
    devices: Mapping[str, datetime] = MappingProxyType({})
    tombstones: Tombstones = MappingProxyType({})
    clocks: Clocks = Clocks()
    now: datetime = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)
    unknown_people: Collection[str] = frozenset()
    listened: Mapping[str, Listened] = MappingProxyType({})


class Heard(NamedTuple):
    """A device's newest batch, and how many people were in view: their counters grew in the last ACTIVE_SECONDS."""

    batch: Batch
    in_view: int


class Folded(NamedTuple):
    """`people`, `devices` (each one's newest batch) and `minutes` are what to write.

    `heard` has each device's newest batch if its time of receipt is known and it is not stored already.
    `updated_counts` has, for each batch, the number of people it changed. `changed_devices` are those about which
    anything is written. `capped` has, for each device, the seconds beyond the elapsed time, which the history drops; a
    device's first batch does not count. `clocks` has the clocks that were set back. `suppressed` is the number of
    entries about erased people. `listened` is what to remember of the group's devices.
    """

    people: dict[PersonKey, Report]
    devices: dict[str, Batch]
    heard: dict[str, Heard]
    minutes: Minutes
    updated_counts: list[int]
    changed_devices: set[str]
    capped: dict[str, float]
    clocks: ClockFallback
    suppressed: int = 0
    listened: Mapping[str, Listened] = MappingProxyType({})


NO_STATE = StoredState()
_NO_TIME = Cumulative()
_NO_SECONDS = (0.0, 0.0, 0.0, 0.0)
_ACTIVE = timedelta(seconds=ACTIVE_SECONDS)


def fold(batches: Iterable[Batch], state: StoredState = NO_STATE) -> Folded:
    """Fold `batches`, in the order they were received, over what is stored: a person who is not stored counts as new.

    A batch older than a person's stored report changes nothing for that person, unless the device's clock was set back:
    see clock_fallback. A batch as old is applied again and adds nothing to the history if it says the same: a message
    may come twice.
    """
    folding = Fold(state)
    for batch in batches:
        folding.add(folding.place(batch))
    return folding.result()


class Fold:
    """One group's fold under way: `place` and `add` each batch, then take the `result`."""

    def __init__(self, state: StoredState) -> None:
        self.people: dict[PersonKey, Report] = {}
        self._stored = state.people.get
        self._stored_devices = state.devices
        self._tombstones = state.tombstones
        self._unknown_people = set(state.unknown_people)
        self._listened = state.listened
        self._elsewhere = state.clocks.elsewhere
        self._listening: dict[str, Listening] = {}
        self._clocks = ClockFallback(state.clocks, state.now)
        self._devices: dict[str, Batch] = {}
        self._heard: dict[str, Heard] = {}
        self._minutes = Minutes()
        self._updated_counts: list[int] = []
        self._capped: dict[str, float] = {}
        self._changed_devices: set[str] = set()
        self._suppressed = 0

    def newest(self, device_id: str) -> datetime | None:
        """The newest timestamp of the device so far."""
        batch = self._devices.get(device_id)
        return self._stored_devices.get(device_id) if batch is None else batch.timestamp

    def place(self, batch: Batch) -> Placed:
        """Return the batch with the timestamp that counts, and without erased people."""
        device_id = batch.device_id
        newest = self.newest(device_id)
        if newest is None or (newest <= batch.timestamp and not self._clocks.offset(device_id)):
            placed = Placed(batch)
        else:
            placed = self._clocks.place(batch, newest, lambda: grows(batch.people, self._cumulative_of(device_id)))
        if device_id in self._tombstones:
            placed, count = suppressed(placed, self._tombstones)
            self._suppressed += count
        return placed

    def add(self, placed: Placed, *, counts: bool = True) -> None:
        """Fold one batch. If it no longer `counts`, only its device is heard."""
        batch, elapsed, late_since = placed
        device_id, timestamp = batch.device_id, batch.timestamp
        previous = self.newest(device_id)
        listening = self._listening.get(device_id) or self._listen(device_id)
        since, gap, passed, covered = timestamp, 0.0, 0.0, 0.0
        newer = previous is None or previous <= timestamp
        if newer:
            self._devices[device_id] = batch
            self._changed_devices.add(device_id)
            if previous is not None:
                since = previous
                passed = (timestamp - previous).total_seconds()
                gap = min(passed if elapsed is None else elapsed.total_seconds(), LONGEST_GAP)
                if passed <= LONGEST_COVERED:
                    covered = passed
        people = batch.people if counts else {}
        if not newer:
            since = self._known_before(batch, late_since)
            gap = min((timestamp - since).total_seconds(), LONGEST_GAP)
        if device_id in self._unknown_people:
            self._unknown_people.discard(device_id)
            if previous is not None:
                self._set_baseline(batch)
        updated, in_view, seconds = self._add_people(batch, people, since, gap, is_first=previous is None)
        self._updated_counts.append(updated)
        if newer or updated:
            self._changed_devices.add(device_id)
            self._minutes.add(device_id, since, timestamp, seconds, in_view, covered)
        if newer:
            listening.heard(previous, timestamp, passed, seconds)
        else:
            for begin, end in listening.late(timestamp):
                self._minutes.add(device_id, begin, end, _NO_SECONDS, covered=(end - begin).total_seconds())
        if newer and batch.received_at is not None and self._stored_devices.get(device_id) != timestamp:
            self._heard[device_id] = Heard(batch, in_view)
            self._clocks.arrived(batch)

    def result(self) -> Folded:
        """Return all changes of the batches."""
        return Folded(
            self.people,
            self._devices,
            self._heard,
            self._minutes,
            self._updated_counts,
            self._changed_devices,
            self._capped,
            self._clocks,
            self._suppressed,
            {
                device_id: listening.result(newest)
                for device_id, listening in self._listening.items()
                if (newest := self.newest(device_id)) is not None
            },
        )

    def _listen(self, device_id: str) -> Listening:
        before, newest = self._listened.get(device_id), self._stored_devices.get(device_id)
        listening = Listening(before, newest, elsewhere=device_id in self._elsewhere)
        self._listening[device_id] = listening
        return listening

    def _cumulative_of(self, device_id: str) -> Callable[[str], Cumulative | None]:
        def find(person_id: str) -> Cumulative | None:
            report = self.people.get((device_id, person_id)) or self._stored((device_id, person_id))
            return None if report is None else report.cumulative

        return find

    def _known_before(self, batch: Batch, late_since: datetime | None) -> datetime:
        """The time from which a late batch may count: the newest earlier report about one of its people.

        `late_since` is the timestamp of the late batch before. What is stored of the device is newer.
        """
        timestamp, latest = batch.timestamp, late_since
        for person_id in batch.people:
            key = (batch.device_id, person_id)
            report = self.people.get(key) or self._stored(key)
            if report is not None and report.last_seen <= timestamp and (latest is None or latest < report.last_seen):
                latest = report.last_seen
        return timestamp if latest is None else latest

    def _set_baseline(self, batch: Batch) -> None:
        """Count the batch's people from their present counters on: what they showed before is perhaps counted."""
        for person_id, cumulative in batch.people.items():
            key = (batch.device_id, person_id)
            if self._stored(key) is None:
                self.people.setdefault(key, Report(cumulative, batch.timestamp))

    def _add_people(
        self, batch: Batch, people: Mapping[str, Cumulative], since: datetime, gap: float, *, is_first: bool
    ) -> tuple[int, int, Seconds]:
        """The numbers of people that the batch changed, and of those in view, and the seconds that they showed.

        `since` and `gap` tell of the device's batch before.
        """
        device_id, timestamp = batch.device_id, batch.timestamp
        reports, stored = self.people, self._stored
        longest = gap + SLACK
        active_since = timestamp - _ACTIVE
        updated = in_view = 0
        happy = sad = angry = neutral = beyond = 0.0
        for person_id, cumulative in people.items():
            key = (device_id, person_id)
            report = reports.get(key) or stored(key)
            if report is None:
                # Nothing tells since when: at most since the batch before, which did not name this person.
                before, allowed, active_at, now = _NO_TIME, gap, None, None
            else:
                before, allowed, active_at, now = report.cumulative, report.spare, report.active_at, report.emotion_now
                if report.last_seen is since:  # in the batch before: this spares most people a subtraction
                    allowed += gap
                elif report.last_seen <= timestamp:
                    allowed += (timestamp - report.last_seen).total_seconds()
                else:
                    continue
                if allowed > longest:
                    allowed = longest
            more_happy, more_sad, more_angry, more_neutral, spare, excess, most = increment(cumulative, before, allowed)
            if more_happy + more_sad + more_angry + more_neutral + excess > ROUNDING:
                active_at, now = timestamp, most
                in_view += 1
            elif active_at is not None and active_at >= active_since:
                in_view += 1
            reports[key] = Report(cumulative, timestamp, active_at, now, spare)
            happy += more_happy
            sad += more_sad
            angry += more_angry
            neutral += more_neutral
            beyond += excess
            updated += 1
        if beyond and not is_first:
            self._capped[device_id] = self._capped.get(device_id, 0.0) + beyond
        return updated, in_view, (happy, sad, angry, neutral)
