"""The stored state that a group is folded over: read from the database, or remembered from the last commit.

To read it for each group would cost more than all else. The daemon is the only writer of its SQLite file: what it has
committed is still stored, unless SQLite's `data_version` says that another connection has committed since. On
PostgreSQL several daemons may write and get the same batches. The devices' rows are locked, and what is remembered of
a device is still stored if its revision is the one that this daemon has read or written last.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import repeat
from types import MappingProxyType
from typing import TypeAlias

from sqlalchemy import Connection, select

from emotion_daemon.rules.clock_fallback import ClockFallback, Clocks, Row
from emotion_daemon.rules.fold import Folded, PersonKey, Report, StoredState
from emotion_daemon.rules.listening import Listened
from emotion_daemon.rules.outcome import Presence
from emotion_daemon.rules.tombstones import Tombstone, Tombstones, by_device
from emotion_daemon.storage.changes import Changes
from emotion_daemon.storage.dialects import Dialect, parts
from shared.batch import EMOTIONS, MAX_CLOCK_SKEW, Batch, Cumulative
from shared.schema import device, device_state, forgotten_person, person_emotion

MAX_REMEMBERED = 100_000
"""Most people that are remembered, and most devices: 45 MB."""

StoredPresence: TypeAlias = tuple[str | None, datetime | None, str | None]
"""Status, when it was received, and statistics."""

_OUTDATED = -1  # no revision is below 0

_REPORT = (
    person_emotion.c.device_id,
    person_emotion.c.person_id,
    *(person_emotion.c[f"time_{emotion}"] for emotion in EMOTIONS),
    person_emotion.c.last_seen,
    person_emotion.c.active_at,
    person_emotion.c.emotion_now,
)
_DEVICE = (
    device.c.device_id,
    device.c.updated_at,
    device_state.c.received_at,
    device_state.c.received_by,
    device_state.c.clock_offset,
)

_PRESENCE = (
    device_state.c.device_id,
    device_state.c.received_by,
    device_state.c.status,
    device_state.c.status_at,
    device_state.c.info,
)


class StateCache:
    """Reads the stored state, and remembers it and what is committed.

    `daemon_id` is the client id of this daemon. A person's spare seconds are stored nowhere, and nothing about people
    if `people_are_stored` is false. The cache remembers that also while other daemons write about the device.
    """

    def __init__(self, dialect: Dialect, daemon_id: str, *, people_are_stored: bool) -> None:
        self.daemon_id = daemon_id
        self.waiting: dict[str, Presence] = {}
        """The presence, as it was said here, of devices of which another daemon has received the newest batch."""
        self._dialect = dialect
        self._people_are_stored = people_are_stored
        self._people: dict[PersonKey, Report] = {}
        self._outdated: dict[PersonKey, Report] = {}
        self._revisions: dict[str, int] = {}
        self._followed: set[str] = set()
        self._devices: dict[str, datetime] = {}
        self._arrivals: dict[str, datetime] = {}
        self._elsewhere: set[str] = set()
        self._offsets: dict[str, timedelta] = {}
        self._rows: dict[str, Row] = {}
        self._listened: dict[str, Listened] = {}
        self._tombstones: Tombstones | None = None
        self._version = -1
        self._latest: datetime | None = None

    def read(
        self, connection: Connection, batches: Collection[Batch], others: Collection[str], *, latest: datetime
    ) -> StoredState:
        """Return the stored state of the people and devices in `batches`, and of others, until the next transaction.

        A row with a timestamp later than `latest` was written under a wrong clock and counts as not stored. To be
        called in the transaction that writes. The transaction may write the state of devices in `others`, too.
        """
        self._forget_if_outdated(connection, latest)
        devices = {batch.device_id for batch in batches}
        self._dialect.lock_devices(connection, devices, new=devices - self._revisions.keys(), others=others)
        self._forget_if_changed(connection, devices)
        devices -= self._devices.keys()
        tombstones = self._read_tombstones(connection, devices)
        new = devices - self._read_devices(connection, sorted(devices), latest)
        if self._people_are_stored:
            new -= _with_people(connection, sorted(new))
            known = self._people
            unknown = {
                key
                for batch in batches
                if batch.device_id not in new
                for key in zip(repeat(batch.device_id), batch.people, strict=False)
                if key not in known
            }
            self._read_people(connection, sorted(unknown), latest)
        return StoredState(
            MappingProxyType(self._people),
            MappingProxyType(self._devices),
            tombstones,
            Clocks(
                MappingProxyType(self._offsets),
                MappingProxyType(self._arrivals),
                MappingProxyType(self._rows),
                self._elsewhere,
            ),
            latest - MAX_CLOCK_SKEW,
            () if self._people_are_stored else {batch.device_id for batch in batches} - self._followed,
            MappingProxyType(self._listened),
        )

    def read_presence(
        self, connection: Connection, devices: Sequence[str]
    ) -> tuple[set[str], dict[str, StoredPresence]]:
        """Return those of which another daemon has received the newest batch, and what is stored about all.

        On PostgreSQL other daemons that write the presence of the same devices wait from now on.
        """
        elsewhere: set[str] = set()
        stored: dict[str, StoredPresence] = {}
        for part in parts(devices):
            query = select(*_PRESENCE).where(_PRESENCE[0].in_(part)).order_by(_PRESENCE[0]).with_for_update()
            for device_id, received_by, status, status_at, info in connection.execute(query):
                stored[device_id] = status, status_at, info
                if received_by not in (None, self.daemon_id):
                    elsewhere.add(device_id)
        return elsewhere, stored

    @property
    def stored_people(self) -> Collection[PersonKey]:
        """Those who certainly have a row, so that an update suffices.

        Empty on PostgreSQL: another program may have deleted the row, and an upsert takes hardly longer.
        """
        return self._people.keys() if self._dialect.single_writer else ()

    def devices_with_tombstones(self, connection: Connection) -> Collection[str]:
        """The devices of which a person was erased."""
        if self._dialect.single_writer and self._tombstones is not None:
            return self._tombstones.keys()
        return read_tombstones(connection).keys()

    def committed(self, changes: Changes, *, latest: datetime) -> None:
        """Remember what a transaction has committed; `latest` as in `read`."""
        for folded in changes.folded:
            self._remember(folded, latest)
        for device_id, presence in changes.waiting.items():
            if presence is None:
                self.waiting.pop(device_id, None)
            else:
                self.waiting[device_id] = presence
        if len(self.waiting) > MAX_REMEMBERED:
            self.waiting.clear()
        for key in changes.deleted_people:
            self._people.pop(key, None)
        for device_id, times in changes.raised.items():
            if device_id in self._revisions:
                self._revisions[device_id] += times
        if changes.tombstones:
            self._tombstones = None
            self._revisions = dict.fromkeys(self._revisions, _OUTDATED)

    def failed(self) -> None:
        """A transaction failed, and may have been committed all the same.

        In totals-only mode the people stay: the device's timestamp tells whether a batch was counted already.
        """
        if self._people_are_stored:
            self._forget()
        self._forget_devices()

    def _remember(self, folded: Folded, latest: datetime) -> None:
        if any(batch.timestamp > latest for batch in folded.devices.values()):  # the clock was set back meanwhile
            self._forget()
            return
        self._people.update(folded.people)
        if not self._people_are_stored:
            self._followed.update(folded.devices)
        self._devices.update((device_id, batch.timestamp) for device_id, batch in folded.devices.items())
        for device_id, (batch, _) in folded.heard.items():
            if batch.received_at is not None:
                self._arrivals[device_id] = batch.received_at
                self._elsewhere.discard(device_id)
        self._remember_clocks(folded.clocks)
        self._listened.update(folded.listened)
        if len(self._people) > MAX_REMEMBERED:
            self._forget_people_who_left()
        if len(self._devices) > MAX_REMEMBERED:
            self._forget()

    def _remember_clocks(self, clocks: ClockFallback) -> None:
        for device_id, offset in clocks.offsets.items():
            if offset:
                self._offsets[device_id] = offset
            else:
                self._offsets.pop(device_id, None)
        self._rows.update(clocks.rows)

    def _forget_devices(self) -> None:
        """Forget what is stored about devices. Rows of older batches, and silences, are stored nowhere, and stay."""
        self._revisions.clear()
        self._devices.clear()
        self._arrivals.clear()
        self._elsewhere.clear()
        self._offsets.clear()
        if len(self._rows) > MAX_REMEMBERED:
            self._rows.clear()
        if len(self._listened) > MAX_REMEMBERED:
            self._listened.clear()

    def _forget(self) -> None:
        self._people.clear()
        self._outdated.clear()
        self._followed.clear()
        self._forget_devices()
        self._tombstones = None

    def _forget_people_who_left(self) -> None:
        """Forget everyone who was not in a device's newest batch, or all people if that is not half of them."""
        newest = self._devices
        in_view = {key: report for key, report in self._people.items() if newest.get(key[0]) == report.last_seen}
        self._people = in_view if len(in_view) < MAX_REMEMBERED // 2 else {}

    def _forget_if_outdated(self, connection: Connection, latest: datetime) -> None:
        if self._latest is not None and latest < self._latest:  # the clock was set back: some of it cannot be right
            self._forget()
        self._latest = latest
        version = self._dialect.data_version(connection)
        if version != self._version:
            self._forget()
        self._version = version

    def _forget_if_changed(self, connection: Connection, devices: set[str]) -> None:
        """Forget those of the locked `devices` that another program has changed."""
        if self._dialect.single_writer:
            return
        revisions = {**dict.fromkeys(devices, 0), **self._dialect.revisions(connection, devices)}
        known = devices & self._revisions.keys()
        changed = {device_id for device_id in known if self._revisions[device_id] != revisions[device_id]}
        self._revisions |= revisions
        self._elsewhere -= changed
        for remembered in (self._devices, self._arrivals, self._offsets):
            for device_id in changed & remembered.keys():
                del remembered[device_id]
        if changed and self._people_are_stored:
            if len(self._outdated) > MAX_REMEMBERED:
                self._outdated.clear()
            self._outdated |= self._forget_people(changed)

    def _forget_people(self, devices: Collection[str]) -> dict[PersonKey, Report]:
        """Forget the people of these devices, and return them."""
        forgotten = {key: report for key, report in self._people.items() if key[0] in devices}
        for key in forgotten:
            del self._people[key]
        return forgotten

    def _read_tombstones(self, connection: Connection, devices: Collection[str]) -> Tombstones:
        """Return all tombstones. Those of `devices` may have changed."""
        before = self._tombstones
        if self._dialect.single_writer:
            self._tombstones = read_tombstones(connection) if before is None else before
        elif devices or before is None:
            before = before or {}
            found = read_tombstones(connection, devices)
            others = {device_id: each for device_id, each in before.items() if device_id not in devices}
            self._tombstones = {**others, **found}
            erased = {device_id for device_id in devices if found.get(device_id) != before.get(device_id)}
            if erased:  # someone among their people may have been erased since
                self._outdated.clear()
                self._forget_people(erased)
        return self._tombstones or {}

    def _read_devices(self, connection: Connection, wanted: Sequence[str], latest: datetime) -> set[str]:
        """Read the devices' newest timestamps; return those that ever sent a batch."""
        found = set()
        for part in parts(wanted):
            query = (
                select(*_DEVICE)
                .outerjoin_from(device, device_state, device.c.device_id == device_state.c.device_id)
                .where(device.c.device_id.in_(part), device.c.updated_at.is_not(None))
            )
            for device_id, timestamp, received_at, received_by, offset in connection.execute(query):
                found.add(device_id)
                if timestamp <= latest:
                    self._devices[device_id] = timestamp
                    if received_at is not None:
                        self._arrivals[device_id] = received_at
                    if received_by not in (None, self.daemon_id):
                        self._elsewhere.add(device_id)
                    if offset:
                        self._offsets[device_id] = timedelta(seconds=offset)
        return found

    def _read_people(
        self,
        connection: Connection,
        wanted: Sequence[PersonKey],
        latest: datetime,
    ) -> None:
        """A person who was not written since has the same spare seconds."""
        row = person_emotion.c
        for part in parts(wanted):
            keys, values = self._dialect.keys_table(part)
            same = (keys.c.device_id == row.device_id) & (keys.c.person_id == row.person_id)
            query = select(*_REPORT).select_from(keys).join(person_emotion, same).where(row.last_seen <= latest)
            for device_id, person_id, *seconds, last_seen, active_at, now in connection.execute(query, values):
                key = (device_id, person_id)
                remembered = self._outdated.pop(key, None)
                spare = remembered.spare if remembered is not None and remembered.last_seen == last_seen else 0.0
                self._people[key] = Report(Cumulative(*seconds), last_seen, active_at, now, spare)


def _with_people(connection: Connection, devices: Sequence[str]) -> set[str]:
    """The devices without a row of their own that have people: an operator may have deleted the row."""
    found: set[str] = set()
    for part in parts(devices):
        query = select(person_emotion.c.device_id).where(person_emotion.c.device_id.in_(part)).distinct()
        found.update(connection.scalars(query))
    return found


def read_tombstones(connection: Connection, devices: Collection[str] | None = None) -> Tombstones:
    """The tombstones of `devices`, or all of them."""
    columns = forgotten_person.c
    query = select(columns.device_id, columns.salt, columns.digest, columns.until)
    if devices is None:
        return by_device(Tombstone(*row) for row in connection.execute(query))
    rows = (
        Tombstone(*row)
        for part in parts(sorted(devices))
        for row in connection.execute(query.where(columns.device_id.in_(part)))
    )
    return by_device(rows)
