"""Delete rows that are older than the operator allows, a few at a time, and tombstones that are no longer needed.

One pass an hour walks each table by its primary key, because an index on `last_seen` would slow every batch. A step is
one transaction of a few milliseconds, so a batch never waits longer than that.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Connection, Integer, Select, bindparam, delete, func, select, update
from sqlalchemy.exc import DBAPIError

from emotion_daemon.monitoring.outage import Outage
from emotion_daemon.monitoring.report import Report
from emotion_daemon.rules.tombstones import STORED_AFTER_END
from emotion_daemon.storage.dialects import dialect_of
from emotion_daemon.storage.errors import is_temporary, reason
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.transaction import Transaction
from shared.batch import EARLIEST_TIMESTAMP, MAX_CLOCK_SKEW
from shared.schema import (
    device,
    device_state,
    emotion_hour,
    emotion_minute,
    forgotten_person,
    person_emotion,
    rejected_message,
)

log = logging.getLogger(__name__)

PASS_SECONDS = 3600.0
"""From the beginning of one pass to that of the next."""

SETTLE_SECONDS = 300.0
"""Seconds that the clock must run evenly before a pass begins: a wrong clock is usually set soon after the start."""

STEADY_SECONDS = 24 * 3600.0
"""Seconds that the clock must run evenly if it agrees with no device's clock."""

RETRY_SECONDS = 60.0

BUSY_SECONDS = 0.25
"""Seconds between two steps while messages keep arriving."""

JUMP_SECONDS = 60.0
"""A clock that goes ahead or falls back by more between two steps was set."""

AGREES = timedelta(minutes=5)
HEARD_WITHIN = timedelta(hours=1)
"""A device's clock agrees if its batch was received within HEARD_WITHIN and the timestamp is off by at most AGREES."""

BEHIND = timedelta(hours=1)
"""If a device's timestamps are further behind, the age of its people counts by the device's own clock."""

PEOPLE_A_STEP = 1_000
DELETED_PEOPLE_A_STEP = 200
DEVICES_A_STEP = 10
HOURS_A_STEP = 8  # 480 minutes
REJECTED_A_STEP = 20  # of up to 64 KiB
TOMBSTONES_A_STEP = 200

_HOUR = timedelta(hours=1)

_At: TypeAlias = int | str

# On PostgreSQL the deleting transaction first locks people and dead letters, and skips those that another one locked.

_person, _rejected_row, _hour, _minute = person_emotion.c, rejected_message.c, emotion_hour.c, emotion_minute.c

_PART = select(_person.id).where(_person.id > bindparam("at")).order_by(_person.id).limit(PEOPLE_A_STEP).subquery()
_END_OF_PART = select(func.max(_PART.c.id))
_OLD_PEOPLE = (
    select(_person.id, _person.device_id, _person.person_id, _person.last_seen)
    .where(_person.id > bindparam("at"), _person.id <= bindparam("end"), _person.last_seen < bindparam("cutoff"))
    .order_by(_person.id)
    .limit(DELETED_PEOPLE_A_STEP)
)
_DELETE_PEOPLE = delete(person_emotion).where(_person.id.in_(bindparam("ids", expanding=True)))

_OLD_REJECTED = (
    select(_rejected_row.id)
    .where(_rejected_row.received_at < bindparam("cutoff"))
    .order_by(_rejected_row.received_at)
    .limit(REJECTED_A_STEP)
)
_DELETE_REJECTED = delete(rejected_message).where(_rejected_row.id.in_(bindparam("ids", expanding=True)))

_NEXT_DEVICE = select(_hour.device_id).where(_hour.device_id > bindparam("at")).order_by(_hour.device_id).limit(1)
_OLD_HOURS = (
    select(_hour.hour)
    .where(_hour.device_id == bindparam("device_id"), _hour.hour <= bindparam("newest"))
    .order_by(_hour.hour)
    .limit(bindparam("left", type_=Integer))
)
_DELETE_HOUR = delete(emotion_hour).where(_hour.device_id == bindparam("its_device"), _hour.hour == bindparam("start"))
_FORGET_COVERED = (
    update(device_state)
    .where(device_state.c.device_id == bindparam("its_device"), device_state.c.covered_since < bindparam("end"))
    .values(covered_since=bindparam("end"))
)
_DELETE_ITS_MINUTES = delete(emotion_minute).where(
    _minute.device_id == bindparam("its_device"),
    _minute.minute >= bindparam("start"),
    _minute.minute < bindparam("end"),
)

_tombstone = forgotten_person.c
_OLD_TOMBSTONES = (
    select(_tombstone.device_id, _tombstone.digest)
    .where(_tombstone.until < bindparam("cutoff"))
    .order_by(_tombstone.device_id, _tombstone.digest)
    .limit(bindparam("most", type_=Integer))
)
_DELETE_TOMBSTONE = delete(forgotten_person).where(
    _tombstone.device_id == bindparam("its_device"), _tombstone.digest == bindparam("its_digest")
)

_AGREES = select(device_state.c.device_id).where(
    device_state.c.received_at.between(bindparam("since"), bindparam("until")),
    device_state.c.clock_skew.between(-AGREES.total_seconds(), AGREES.total_seconds()),
)

_BEHIND = (
    select(device.c.device_id, device.c.updated_at, device_state.c.received_at, device_state.c.clock_skew)
    .join(device_state, device.c.device_id == device_state.c.device_id)
    .where(device_state.c.clock_skew < -BEHIND.total_seconds(), device.c.updated_at.is_not(None))
)


class _Found(NamedTuple):
    """The old rows that one step has found, and where the next step begins: None at the end of the table."""

    rows: Sequence[Any]
    at: _At | None


class Cutoff(NamedTuple):
    """Rows older than `timestamp` are deleted; rows of a device in `behind` only if they are older by so much more."""

    timestamp: datetime
    behind: Mapping[str, timedelta]

    def of(self, device_id: str) -> datetime:
        """The limit for rows of that device."""
        return self.timestamp - self.behind.get(device_id, timedelta())


class _Table(NamedTuple):
    """One table of a pass: how a step finds and deletes rows, where it begins, and what the log calls the rows.

    `find` runs twice: without a lock, and again in the transaction that deletes what it then finds.
    """

    name: str
    find: Callable[..., _Found]
    delete: Callable[[Transaction, Sequence[Any]], int]
    begin: _At
    words: str


class Retention:
    """Deletes what is too old, whenever `step` is called. `people_days` and `history_days`: None keeps for ever.

    The daemon does not delete by age until it trusts its clock. It trusts a clock that has run evenly for
    SETTLE_SECONDS and agrees with a device's clock, or that has run evenly for STEADY_SECONDS; if the clock is set,
    this begins anew. Tombstones are deleted STORED_AFTER_END after their end, once a device's clock agrees: the
    device's batch has not waited, so the broker has already sent every batch that a tombstone was for.
    """

    def __init__(
        self,
        store: Store,
        *,
        report: Report,
        people_days: float | None,
        history_days: float | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._report = report
        self._people_days = people_days
        self._history_days = history_days
        self._now = now
        self._monotonic = monotonic
        self._outage = Outage(log, then=f"trying again every {RETRY_SECONDS:.0f} s")
        self._steady = _Steady(now(), monotonic())
        self._due = self._busy_due = monotonic() + SETTLE_SECONDS
        self._began = 0.0
        self._tables: list[_Table] = []  # those that this pass has not gone through yet
        self._at: _At = 0
        self._deleted: Counter[str] = Counter()
        self._doubted = False

    @property
    def is_due(self) -> bool:
        """Return True if a step is due, so that the loop need not wait for messages."""
        return self._monotonic() >= self._due

    def step(self, *, idle: bool) -> None:
        """Do a little, if it is time to; with messages there, not `idle`, only now and then.

        An outage of the database is logged and waited out. Raises the database's other errors, and DatabaseFileError.
        """
        monotonic = self._monotonic()
        if self._steady.was_set(self._now(), monotonic):
            self._tables.clear()
            self._wait(SETTLE_SECONDS)
        if monotonic < (self._due if idle else self._busy_due):
            return
        try:
            if self._tables:
                self._delete()
            else:
                self._begin()
        except DBAPIError as error:
            if not is_temporary(error):
                raise
            self._failed(reason(error))
        else:
            self._outage.over(now=monotonic)

    def _begin(self) -> None:
        """Begin a pass, if the clock can be believed."""
        now = self._now()
        with self._store.reading() as connection:
            agrees = _agrees_with_a_camera(connection, now)
            behind = _behind(connection)
            tables = self._tables_of_a_pass(now, behind)
            if agrees and (tombstones := self._old_tombstones(connection, now)) is not None:
                tables.append(tombstones)
        if not tables:
            self._wait(PASS_SECONDS)
            return
        if not agrees and self._steady.seconds(self._monotonic()) < STEADY_SECONDS:
            self._doubt()
            return
        self._doubted = False
        self._tables = tables
        self._at = self._tables[0].begin
        self._deleted.clear()
        self._began = self._monotonic()
        self._busy_due = self._began + BUSY_SECONDS

    def _tables_of_a_pass(self, now: datetime, behind: Mapping[str, timedelta]) -> list[_Table]:
        tables = []
        if self._people_days is not None:
            timestamp = now - timedelta(days=self._people_days)
            people, letters = partial(_find_people, Cutoff(timestamp, behind)), partial(_find_dead_letters, timestamp)
            words = f"people not seen since {timestamp:%Y-%m-%dT%H:%M:%SZ}"
            tables += [
                _Table(person_emotion.name, people, _delete_people, 0, words),
                _Table(rejected_message.name, letters, _delete_dead_letters, 0, "dead letters as old as that"),
            ]
        if self._history_days is not None:
            timestamp = now - timedelta(days=self._history_days)
            words = f"device-minutes of the history before {timestamp:%Y-%m-%dT%H:%M:%SZ}"
            hours = partial(_find_hours, Cutoff(timestamp, behind))
            tables.append(_Table(emotion_minute.name, hours, _delete_hours, "", words))
        return tables

    def _old_tombstones(self, connection: Connection, now: datetime) -> _Table | None:
        """Return the table of tombstones, or None if no tombstone is old enough."""
        timestamp = now - STORED_AFTER_END
        if connection.execute(_OLD_TOMBSTONES, {"cutoff": timestamp, "most": 1}).first() is None:
            return None
        words = f"tombstones that ended before {timestamp:%Y-%m-%dT%H:%M:%SZ}"
        return _Table(forgotten_person.name, partial(_find_tombstones, timestamp), _delete_tombstones, 0, words)

    def _delete(self) -> None:
        """One step of the pass."""
        table = self._tables[0]
        with self._store.reading() as connection:
            found = table.find(connection, self._at)
        if found.rows:
            with self._store.transaction() as transaction:
                found = table.find(transaction.connection, self._at, locking=True)
                deleted = table.delete(transaction, found.rows) if found.rows else 0
            self._deleted[table.words] += deleted
            self._report.pruned(table.name, deleted)
        self._busy_due = self._monotonic() + BUSY_SECONDS
        if found.at is not None:
            self._at = found.at
            return
        del self._tables[0]
        if self._tables:
            self._at = self._tables[0].begin
        else:
            self._end()

    def _end(self) -> None:
        if self._deleted:
            counts = ", ".join(f"{count} {words}" for words, count in self._deleted.items())
            log.info("deleted for their age, in %.1f s: %s", self._monotonic() - self._began, counts)
        self._due = self._busy_due = self._began + PASS_SECONDS

    def _doubt(self) -> None:
        self._wait(SETTLE_SECONDS)
        if not self._doubted:
            self._doubted = True
            log.warning(
                "the daemon deletes nothing by age: no batch of the last hour agrees with this machine's clock. Check "
                "the clock. The daemon trusts it once a device agrees, or after it ran evenly for %.0f h",
                STEADY_SECONDS / 3600,
            )

    def _failed(self, why: str) -> None:
        self._outage.failed(f"cannot delete rows for their age: {why}", now=self._monotonic())
        self._wait(RETRY_SECONDS)

    def _wait(self, seconds: float) -> None:
        self._due = self._busy_due = self._monotonic() + seconds


class _Steady:
    """For how long the clock of data has run as evenly as the monotonic one."""

    def __init__(self, now: datetime, monotonic: float) -> None:
        self._since = monotonic
        self._ahead = now.timestamp() - monotonic

    def was_set(self, now: datetime, monotonic: float) -> bool:
        """Return True if the clock was set since the last call. A machine that slept looks the same."""
        ahead, before = now.timestamp() - monotonic, self._ahead
        self._ahead = ahead
        if abs(ahead - before) <= JUMP_SECONDS:
            return False
        self._since = monotonic
        return True

    def seconds(self, monotonic: float) -> float:
        """Return the seconds for which the clock has run evenly."""
        return monotonic - self._since


def _agrees_with_a_camera(connection: Connection, now: datetime) -> bool:
    heard = {"since": now - HEARD_WITHIN, "until": now + MAX_CLOCK_SKEW}
    return connection.execute(_AGREES.limit(1), heard).first() is not None


def _behind(connection: Connection) -> dict[str, timedelta]:
    """Return by how much each device's timestamps are behind, for devices beyond BEHIND."""
    ages = {}
    for device_id, newest, received_at, skew in connection.execute(_BEHIND):
        age, behind = received_at - newest, timedelta(seconds=-skew)
        # A clock that fell back is further behind than the newest timestamp, which is from before. The daemon replaces
        # timestamps of a clock that cannot be right.
        if behind <= received_at - EARLIEST_TIMESTAMP:
            age = max(age, behind)
        if age > BEHIND:
            ages[device_id] = age
    return ages


def _locking(query: Select[Any], locking: bool) -> Select[Any]:
    return query.with_for_update(skip_locked=True) if locking else query


def _find_people(cutoff: Cutoff, connection: Connection, at: _At, *, locking: bool = False) -> _Found:
    end = connection.execute(_END_OF_PART, {"at": at}).scalar()
    if end is None:
        return _Found((), None)
    found = connection.execute(_locking(_OLD_PEOPLE, locking), {"at": at, "end": end, "cutoff": cutoff.timestamp}).all()
    if len(found) == DELETED_PEOPLE_A_STEP:
        end = found[-1].id
    return _Found([each for each in found if each.last_seen < cutoff.of(each.device_id)], end)


def _delete_people(transaction: Transaction, rows: Sequence[Any]) -> int:
    transaction.connection.execute(_DELETE_PEOPLE, {"ids": [each.id for each in rows]})
    transaction.changes.devices.update(each.device_id for each in rows)
    transaction.changes.deleted_people.update((each.device_id, each.person_id) for each in rows)
    return len(rows)


def _find_dead_letters(timestamp: datetime, connection: Connection, at: _At, *, locking: bool = False) -> _Found:
    old = connection.scalars(_locking(_OLD_REJECTED, locking), {"cutoff": timestamp}).all()
    return _Found(old, at if len(old) == REJECTED_A_STEP else None)


def _delete_dead_letters(transaction: Transaction, ids: Sequence[Any]) -> int:
    """No revision: the API counts dead letters anew each second."""
    transaction.connection.execute(_DELETE_REJECTED, {"ids": ids})
    return len(ids)


def _find_tombstones(timestamp: datetime, connection: Connection, at: _At, *, locking: bool = False) -> _Found:
    """Other daemons on one PostgreSQL delete the same rows in the same order, so that none waits for another."""
    old = connection.execute(_OLD_TOMBSTONES, {"cutoff": timestamp, "most": TOMBSTONES_A_STEP}).all()
    return _Found(old, at if len(old) == TOMBSTONES_A_STEP else None)


def _delete_tombstones(transaction: Transaction, rows: Sequence[Any]) -> int:
    for device_id, hashed in rows:
        transaction.connection.execute(_DELETE_TOMBSTONE, {"its_device": device_id, "its_digest": hashed})
    transaction.changes.tombstones = True
    return len(rows)


def _find_hours(cutoff: Cutoff, connection: Connection, at: _At, *, locking: bool = False) -> _Found:
    """The oldest whole hours of the next devices behind `at`: the rest of a device comes in the next step.

    They are not locked here: `_delete_hours` first locks the devices, as a daemon does that adds to a late minute.
    """
    found: list[dict[str, Any]] = []
    for _ in range(DEVICES_A_STEP):
        device_id = connection.execute(_NEXT_DEVICE, {"at": at}).scalar()
        if device_id is None:
            return _Found(found, None)
        left = HOURS_A_STEP - len(found)
        wanted = {"device_id": device_id, "newest": cutoff.of(device_id) - _HOUR, "left": left}
        old = connection.scalars(_OLD_HOURS, wanted).all()
        found += ({"its_device": device_id, "start": hour, "end": hour + _HOUR} for hour in old)
        if len(old) == left:
            break
        at = device_id
    return _Found(found, at)


def _delete_hours(transaction: Transaction, hours: Sequence[Any]) -> int:
    """Delete the hours with their minutes; return the number of minutes. It is no longer known what they covered."""
    ends = {each["its_device"]: each["end"] for each in hours}
    dialect_of(transaction.connection).lock_devices(transaction.connection, (), new=(), others=ends)
    minutes = transaction.connection.execute(_DELETE_ITS_MINUTES, hours).rowcount
    transaction.connection.execute(_DELETE_HOUR, hours)
    transaction.connection.execute(_FORGET_COVERED, [{"its_device": each, "end": ends[each]} for each in sorted(ends)])
    transaction.changes.devices |= ends.keys()
    return minutes
