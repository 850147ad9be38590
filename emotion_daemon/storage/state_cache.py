"""The stored state that a group is folded over: read from the database, or remembered from the last commit.

To read it for each group would cost more than all else. The daemon is the only writer of its SQLite file: what it has
committed is still stored, unless SQLite's `data_version` says that another connection has committed since. On
PostgreSQL several daemons may write and get the same batches: the devices' rows are locked, and all is read.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import repeat
from types import MappingProxyType

from sqlalchemy import Connection, select

from emotion_daemon.rules.clock_fallback import ClockFallback, Clocks, Row
from emotion_daemon.rules.fold import Folded, PersonKey, Report, StoredState
from emotion_daemon.rules.tombstones import Tombstone, Tombstones, by_device
from emotion_daemon.storage.changes import Changes
from emotion_daemon.storage.dialects import Dialect, parts
from shared.batch import EMOTIONS, MAX_CLOCK_SKEW, Batch, Cumulative
from shared.schema import device, device_state, forgotten_person, person_emotion

MAX_REMEMBERED = 100_000
"""Most people that are remembered, and most devices: 45 MB."""

_REPORT = (
    person_emotion.c.device_id,
    person_emotion.c.person_id,
    *(person_emotion.c[f"time_{emotion}"] for emotion in EMOTIONS),
    person_emotion.c.last_seen,
    person_emotion.c.active_at,
)
_DEVICE = (
    device.c.device_id,
    device.c.updated_at,
    device_state.c.received_at,
    device_state.c.received_by,
    device_state.c.clock_offset,
)


class StateCache:
    """Reads the stored state. If `remembers`, it keeps what was committed last; the daemon must be the only writer.

    `daemon_id` is the client id of this daemon. A person's spare seconds are stored nowhere: the cache remembers them
    in any case, and all about people if `people_are_stored` is false.
    """

    def __init__(self, dialect: Dialect, daemon_id: str, *, remembers: bool, people_are_stored: bool) -> None:
        self.daemon_id = daemon_id
        self._dialect = dialect
        self._remembers = remembers
        self._people_are_stored = people_are_stored
        self._people: dict[PersonKey, Report] = {}
        self._followed: set[str] = set()
        self._devices: dict[str, datetime] = {}
        self._arrivals: dict[str, datetime] = {}
        self._elsewhere: set[str] = set()
        self._offsets: dict[str, timedelta] = {}
        self._rows: dict[str, Row] = {}
        self._tombstones: Tombstones | None = None
        self._version = -1
        self._latest: datetime | None = None

    def read(self, connection: Connection, batches: Collection[Batch], *, latest: datetime) -> StoredState:
        """Return the stored state of the people and devices in `batches`, and of others, until the next transaction.

        A row with a timestamp later than `latest` was written under a wrong clock and counts as not stored. To be
        called in the transaction that writes.
        """
        self._forget_if_outdated(connection, latest)
        devices = {batch.device_id for batch in batches}
        people: set[PersonKey] = set()
        for batch in batches:
            people.update(zip(repeat(batch.device_id), batch.people, strict=False))
        if self._remembers:
            devices -= self._devices.keys()
            people -= self._people.keys()
        else:
            self._forget_devices()
            self._dialect.lock_devices(connection, sorted(devices))
        tombstones = self._read_tombstones(connection, devices)
        new = devices - self._read_devices(connection, sorted(devices), latest)
        if self._people_are_stored:
            new -= _with_people(connection, sorted(new))
            before = {key: self._people.pop(key) for key in people & self._people.keys()}
            self._read_people(connection, sorted(key for key in people if key[0] not in new), before, latest)
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
        )

    def is_stored(self, key: PersonKey) -> bool:
        """Return True if the person certainly has a row, so that an update suffices.

        Always False if several daemons may write: each would lock rows in two orders, those of its updates and those of
        its upserts, and two daemons could wait for each other.
        """
        return self._remembers and key in self._people

    def devices_with_tombstones(self, connection: Connection) -> Collection[str]:
        """The devices of which a person was erased."""
        if self._remembers and self._tombstones is not None:
            return self._tombstones.keys()
        return read_tombstones(connection).keys()

    def committed(self, changes: Changes, *, latest: datetime) -> None:
        """Remember what a transaction has committed; `latest` as in `read`."""
        for folded in changes.folded:
            self._remember(folded, latest)
        for key in changes.deleted_people:
            self._people.pop(key, None)
        if changes.tombstones:
            self._tombstones = None

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
        """Forget what is stored about devices. Rows of older batches are stored nowhere, and stay."""
        self._devices.clear()
        self._arrivals.clear()
        self._elsewhere.clear()
        self._offsets.clear()
        if len(self._rows) > MAX_REMEMBERED:
            self._rows.clear()

    def _forget(self) -> None:
        self._people.clear()
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
        if self._remembers:
            version = self._dialect.data_version(connection)
            if version != self._version:
                self._forget()
            self._version = version

    def _read_tombstones(self, connection: Connection, devices: Collection[str]) -> Tombstones:
        if self._remembers:
            if self._tombstones is None:
                self._tombstones = read_tombstones(connection)
            return self._tombstones
        tombstones = read_tombstones(connection, devices)
        if not tombstones.items() <= (self._tombstones or {}).items():
            self._people.clear()  # someone among them may have been erased since
            self._tombstones = {**(self._tombstones or {}), **tombstones}
        return tombstones

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
        before: Mapping[PersonKey, Report],
        latest: datetime,
    ) -> None:
        """`before` is what was remembered of them: a person who was not written since has the same spare seconds."""
        row = person_emotion.c
        for part in parts(wanted):
            keys, values = self._dialect.keys_table(part)
            same = (keys.c.device_id == row.device_id) & (keys.c.person_id == row.person_id)
            query = select(*_REPORT).select_from(keys).join(person_emotion, same).where(row.last_seen <= latest)
            for device_id, person_id, *seconds, last_seen, active_at in connection.execute(query, values):
                key = (device_id, person_id)
                remembered = before.get(key)
                spare = remembered.spare if remembered is not None and remembered.last_seen == last_seen else 0.0
                self._people[key] = Report(Cumulative(*seconds), last_seen, active_at, spare)


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
