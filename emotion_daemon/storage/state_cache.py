"""What is stored of the people and devices that a group is about: read from the database, or remembered. And who of
them was erased.

To read it for each group would cost more than all else. The daemon is the only writer of its SQLite file, so what it
committed last is still there, unless SQLite's `data_version` says that somebody else has committed since. On
PostgreSQL several daemons may write, and get the same batches: there the devices' rows are locked, and all is read.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Any, TypeVar

from sqlalchemy import ARRAY, Connection, FromClause, Text, bindparam, func, select
from sqlalchemy.dialects import postgresql

from emotion_daemon.rules.fold import Folded, Known, PersonKey, Report
from emotion_daemon.rules.tombstones import Forgotten, Tombstone, by_device
from shared.batch import Batch, Cumulative
from shared.schema import device, forgotten_person, person_emotion

MAX_REMEMBERED = 100_000
"""How many people are remembered, and how many devices: 45 MB."""

_ROWS_A_SELECT = 1_000

_REPORT = (
    person_emotion.c.device_id,
    person_emotion.c.person_id,
    person_emotion.c.time_happy,
    person_emotion.c.time_sad,
    person_emotion.c.time_angry,
    person_emotion.c.time_neutral,
    person_emotion.c.last_seen,
)


class KnownRows:
    """Reads what is known, and remembers it where `alone` says that nobody else writes.

    What only this process knows, a person's spare time, is remembered in any case; and all about people where they are
    not `stored`.
    """

    def __init__(self, *, alone: bool, stored: bool = True) -> None:
        self._alone = alone
        self._stored = stored
        self._people: dict[PersonKey, Report] = {}
        self._devices: dict[str, datetime] = {}
        self._version = -1
        self._latest: datetime | None = None
        self._forgotten: Forgotten | None = None

    def read(self, connection: Connection, batches: Collection[Batch], *, latest: datetime) -> Known:
        """What is stored of everybody in `batches`, and of others.

        What has a later stamp than `latest` was written under a wrong clock, and is not known. To be called in the
        transaction that writes.
        """
        self._look_for_others(connection, latest)
        devices = {batch.device_id for batch in batches}
        people: set[PersonKey] = set()
        for batch in batches:
            people.update(zip(repeat(batch.device_id), batch.people, strict=False))
        if self._alone:
            devices -= self._devices.keys()
            people -= self._people.keys()
        else:
            self._devices.clear()
            if connection.dialect.name == "postgresql":
                lock_devices(connection, sorted(devices))
        forgotten = self._read_forgotten(connection, devices)
        new = devices - self._read_devices(connection, sorted(devices), latest)
        if not self._stored:
            return Known(self._people, self._devices, forgotten)
        new -= _with_people(connection, sorted(new))
        before = {key: self._people.pop(key) for key in people & self._people.keys()}
        self._read_people(connection, sorted(key for key in people if key[0] not in new), before, latest)
        return Known(self._people, self._devices, forgotten)

    def forgotten(self, connection: Connection) -> Forgotten:
        """Everybody who was erased, after `read`."""
        return read_forgotten(connection) if self._forgotten is None or not self._alone else self._forgotten

    def committed(self, folded: Folded) -> None:
        """What was folded over that is stored now."""
        self._people.update(folded.people)
        self._devices.update((device_id, batch.timestamp) for device_id, batch in folded.devices.items())
        if len(self._people) > MAX_REMEMBERED:
            self._forget_who_left()
        if len(self._devices) > MAX_REMEMBERED:
            self.forget()

    def drop(self, people: Collection[PersonKey]) -> None:
        """They were deleted: whoever comes back is new."""
        for key in people:
            self._people.pop(key, None)

    def failed(self) -> None:
        """A transaction failed: nobody knows whether it was committed.

        Where people are not stored it does not matter: by the stamp of the device `fold_newer` sees what was counted.
        """
        if self._stored:
            self.forget()
        self._devices.clear()

    def forget(self) -> None:
        """Nobody knows any more what is stored: read it anew."""
        self._people.clear()
        self._devices.clear()
        self._forgotten = None

    def _read_forgotten(self, connection: Connection, devices: Collection[str]) -> Forgotten:
        """Who was erased: where nobody else writes, remembered of all devices, else read of `devices`."""
        if self._alone:
            if self._forgotten is None:
                self._forgotten = read_forgotten(connection)
            return self._forgotten
        forgotten = read_forgotten(connection, devices)
        if not forgotten.items() <= (self._forgotten or {}).items():
            self._people.clear()  # among them may be who was erased since
            self._forgotten = {**(self._forgotten or {}), **forgotten}
        return forgotten

    def _look_for_others(self, connection: Connection, latest: datetime) -> None:
        if self._latest is not None and latest < self._latest:  # the clock was set back: some of it cannot be right
            self.forget()
        self._latest = latest
        if self._alone:
            version = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
            if version != self._version:
                self.forget()
            self._version = version

    def _read_devices(self, connection: Connection, wanted: Sequence[str], latest: datetime) -> set[str]:
        """Returns those that ever sent a batch."""
        found = set()
        for part in _parts(wanted):
            query = select(device.c.device_id, device.c.updated_at).where(
                device.c.device_id.in_(part), device.c.updated_at.is_not(None)
            )
            for device_id, stamp in connection.execute(query):
                found.add(device_id)
                if stamp <= latest:
                    self._devices[device_id] = stamp
        return found

    def _read_people(
        self,
        connection: Connection,
        wanted: Sequence[PersonKey],
        before: Mapping[PersonKey, Report],
        latest: datetime,
    ) -> None:
        """`before` is what was remembered of them: who was not written since has the same spare time."""
        row = person_emotion.c
        for part in _parts(wanted):
            keys, values = _keys(connection, part)
            same = (keys.c.device_id == row.device_id) & (keys.c.person_id == row.person_id)
            query = select(*_REPORT).select_from(keys).join(person_emotion, same).where(row.last_seen <= latest)
            for device_id, person_id, happy, sad, angry, neutral, last_seen in connection.execute(query, values):
                key = (device_id, person_id)
                remembered = before.get(key)
                spare = remembered.spare if remembered is not None and remembered.last_seen == last_seen else 0.0
                self._people[key] = Report(Cumulative(happy, sad, angry, neutral), last_seen, spare)

    def _forget_who_left(self) -> None:
        """Whoever was not in the newest batch of a device, or everybody where that is not half of them."""
        newest = self._devices
        in_view = {key: report for key, report in self._people.items() if newest.get(key[0]) == report.last_seen}
        self._people = in_view if len(in_view) < MAX_REMEMBERED // 2 else {}


_Row = TypeVar("_Row")


def _parts(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    for start in range(0, len(rows), _ROWS_A_SELECT):
        yield rows[start : start + _ROWS_A_SELECT]


def _with_people(connection: Connection, devices: Sequence[str]) -> set[str]:
    """Those of whom somebody is stored although they have no row: an operator may have deleted it."""
    found: set[str] = set()
    for part in _parts(devices):
        query = select(person_emotion.c.device_id).where(person_emotion.c.device_id.in_(part)).distinct()
        found.update(connection.scalars(query))
    return found


def read_forgotten(connection: Connection, devices: Collection[str] | None = None) -> Forgotten:
    """The tombstones of `devices`, or all there are."""
    columns = forgotten_person.c
    query = select(columns.device_id, columns.salt, columns.digest, columns.until)
    if devices is None:
        return by_device(Tombstone(*row) for row in connection.execute(query))
    rows = (
        Tombstone(*row)
        for part in _parts(sorted(devices))
        for row in connection.execute(query.where(columns.device_id.in_(part)))
    )
    return by_device(rows)


def lock_devices(connection: Connection, devices: Sequence[str]) -> None:
    """Have other daemons wait that write the same devices: in one order, so that none waits in a circle."""
    insert = postgresql.insert(device).on_conflict_do_nothing()
    for part in _parts(devices):
        connection.execute(insert, [{"device_id": device_id} for device_id in part])
        rows = select(device.c.device_id).where(device.c.device_id.in_(part)).order_by(device.c.device_id)
        connection.execute(rows.with_for_update()).all()


def _keys(connection: Connection, keys: Sequence[PersonKey]) -> tuple[FromClause, dict[str, Any]]:
    """A table of `keys`, and the parameters of the statement that it stands in.

    Exactly these: two lists of ids, one of devices and one of people, would also bring everybody else they name
    together. PostgreSQL reads a whole table for a list of pairs.
    """
    if connection.dialect.name == "sqlite":
        pairs = func.json_each(bindparam("keys")).table_valued("value").c.value
        columns = (
            func.json_extract(pairs, f"$[{at}]").label(name) for at, name in enumerate(("device_id", "person_id"))
        )
        return select(*columns).subquery(), {"keys": json.dumps(keys, ensure_ascii=False)}
    texts = (bindparam(name, type_=ARRAY(Text)) for name in ("devices", "people"))
    table = func.unnest(*texts).table_valued("device_id", "person_id").render_derived()
    devices, people = zip(*keys, strict=True)
    return table, {"devices": list(devices), "people": list(people)}
