"""Write people, devices, history, statuses and dead letters of one group in one transaction."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import Connection

from emotion_daemon.rules.fold import Folded, PersonKey, Report, StoredState
from emotion_daemon.rules.history import Row
from emotion_daemon.rules.outcome import Info, Presence, Rejected, Status
from emotion_daemon.storage import dead_letters
from emotion_daemon.storage.changes import Changes
from emotion_daemon.storage.dialects import Rows
from emotion_daemon.storage.state_cache import StateCache
from emotion_daemon.storage.statements import Statement, Statements
from shared.batch import EMOTIONS, Batch

_NO_SECONDS = (0.0,) * len(EMOTIONS)

_ROWS_A_STATEMENT = 5_000  # a quarter of a second on PostgreSQL


def _nothing() -> None:
    """The default of `between`."""


class Transaction:
    """The operations of one transaction, opened by Store.transaction. `changes` collects what others have to learn.

    A stored timestamp later than `latest` was written while the daemon's clock was wrong: it does not hold up newer
    batches. `between` is called after every few thousand rows, so that a long write does not stop everything else.
    """

    def __init__(
        self, connection: Connection, statements: Statements, state: StateCache, *, latest: datetime, totals_only: bool
    ) -> None:
        self.connection = connection
        self.changes = Changes()
        self._statements = statements
        self._state = state
        self._latest = latest
        self._totals_only = totals_only

    def read_state(self, batches: Collection[Batch], others: Collection[Status | Info] = ()) -> StoredState:
        """Return the stored state of the people and devices in `batches`, until the next transaction.

        On PostgreSQL other daemons wait from now on that write these devices, or those of `others`.
        """
        other_ids = {each.device_id for each in others}
        return self._state.read(self.connection, batches, other_ids, latest=self._latest)

    def write(self, folded: Folded, *, between: Callable[[], None] = _nothing) -> None:
        """Write people and devices unless their rows are newer, and add to the history.

        `folded` was folded over what `read_state` has returned. In totals-only mode the history's seconds are also
        added to the device's totals, and no person is written.
        """
        statements = self._statements
        timestamp = cache(statements.timestamp)  # a batch's people share one; its conversion costs as much as a row
        latest = timestamp(self._latest)
        hours = folded.minutes.hours()
        sums = _sums_of(hours)
        updates, newcomers = self._people_rows(folded.people, timestamp, latest)
        batches = sorted(folded.devices.items())
        devices = ((device_id, timestamp(batch.timestamp), latest) for device_id, batch in batches)
        states = (
            (
                device_id,
                timestamp(received_at),
                self._state.daemon_id,
                in_view,
                _skew(batch, received_at),
                folded.clocks.offset(device_id).total_seconds(),
                *sums.get(device_id, _NO_SECONDS),
                *listened.now,
                None if listened.since is None else timestamp(listened.since),
            )
            for device_id, (batch, in_view) in sorted(folded.heard.items())
            if (received_at := batch.received_at) is not None and (listened := folded.listened[device_id])
        )
        minutes = ((device_id, timestamp(minute), *seconds) for device_id, minute, *seconds in folded.minutes.rows())
        hour_rows = ((device_id, timestamp(hour), *seconds) for device_id, hour, *seconds in hours)
        totals = ((device_id, *seconds) for device_id, seconds in sorted(sums.items()))
        unheard = ((device_id, *sums[device_id]) for device_id in sorted(sums.keys() - folded.heard.keys()))
        for statement, parts in (
            (statements.update_person, _parts(updates)),
            (statements.add_total, _parts(totals))
            if self._totals_only
            else (statements.upsert_person, _parts(newcomers)),
            (statements.upsert_device, _parts(devices)),
            (statements.add_minute, _parts_without_repetition(minutes, key=2)),
            (statements.add_hour, _parts(hour_rows)),
        ):
            self._write_parts(statement, parts, between)
        self._raise(statements.upsert_state, states, between)
        self._raise(statements.add_history_total, unheard, between)
        self.changes.folded.append(folded)
        # The statements about device_state have raised the others.
        self.changes.devices |= folded.changed_devices - folded.heard.keys() - sums.keys()

    def _people_rows(
        self, people: Mapping[PersonKey, Report], timestamp: Callable[[datetime], Any], latest: Any
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """The rows of people who are certainly stored, for `update_person`, and of the others, for `upsert_person`."""
        stored = self._state.stored_people
        updates, newcomers = [], []
        for key in sorted(people):  # all daemons on one PostgreSQL write in one order, so that none waits
            cumulative, last_seen, active_at, now, _ = astuple(people[key])
            seen = timestamp(last_seen)
            active = seen if active_at is last_seen else active_at and timestamp(active_at)
            seconds = cumulative.happy, cumulative.sad, cumulative.angry, cumulative.neutral
            if key in stored:
                updates.append((*seconds, seen, active, now, *key, seen, latest))
            else:
                newcomers.append((*key, *seconds, seen, active, now, latest))
        return updates, newcomers

    def write_presence(self, messages: Iterable[Status | Info]) -> None:
        """Store the newest status and statistics of each device, after `write`.

        If another daemon has received the device's newest batch, the message may be of a former connection, from a
        queue or a broker that was cut off. It waits in memory until this daemon receives the newest batch.
        """
        waiting = self._state.waiting
        newest: dict[str, Presence] = {}
        for folded in self.changes.folded:
            newest |= {device_id: waiting[device_id] for device_id in waiting.keys() & folded.heard.keys()}
        for message in messages:
            before = newest.get(message.device_id) or waiting.get(message.device_id, Presence())
            newest[message.device_id] = before.followed_by(message)
        elsewhere, stored = self._state.read_presence(self.connection, sorted(newest))
        timestamp = self._statements.timestamp
        rows = []
        for device_id in sorted(newest.keys() - elsewhere):
            status, info = newest[device_id]
            said, said_at, statistics = stored.get(device_id, (None, None, None))
            if status is not None:
                said, said_at = status.status, status.received_at
            if info is not None:
                statistics = info.info
            rows.append((device_id, said, said_at and timestamp(said_at), statistics))
        self._raise(self._statements.upsert_presence, rows)
        self.changes.waiting |= {
            device_id: newest[device_id] if device_id in elsewhere else None for device_id in newest
        }

    def reject(self, messages: Sequence[Rejected], *, between: Callable[[], None] = _nothing) -> int:
        """Store `messages` as dead letters, and return how many were omitted: see storage/dead_letters.py.

        They raise no revision: the API counts them anew each second. A message that the broker sent again, and that
        is stored already, is not stored twice.
        """
        erased = self._state.devices_with_tombstones(self.connection) if messages else frozenset()
        rows = []
        for message in messages:
            row = dead_letters.row_of(message, erased=erased, totals_only=self._totals_only)
            if message.sent_again:
                between()
            if not message.sent_again or not dead_letters.is_stored(self.connection, row):
                rows.append(row)
        return dead_letters.store(self.connection, rows)

    def raise_revisions(self) -> None:
        """Tell the API which answers have changed: to be called last."""
        self._raise(self._statements.raise_revision, ((device_id,) for device_id in sorted(self.changes.devices)))

    def _raise(
        self, statement: Statement, rows: Iterable[tuple[Any, ...]], between: Callable[[], None] = _nothing
    ) -> None:
        """Execute a statement that raises the revisions of its devices."""
        rows = list(rows)
        self._write_parts(statement, _parts(rows), between)
        self.changes.raised.update(row[0] for row in rows)

    def _write_parts(self, statement: Statement, parts: Iterable[Rows], between: Callable[[], None]) -> None:
        for number, rows in enumerate(parts):
            if number:
                between()
            statement.execute(self.connection, rows)


def _parts(rows: Iterable[tuple[Any, ...]]) -> Iterator[Rows]:
    """The rows in lists for one statement each."""
    rows = iter(rows)
    while part := list(islice(rows, _ROWS_A_STATEMENT)):
        yield part


def _parts_without_repetition(rows: Iterable[tuple[Any, ...]], *, key: int) -> Iterator[Rows]:
    """As `_parts`, for rows of which several may have the same key, the first `key` values: not those of one list."""
    part: list[tuple[Any, ...]] = []
    keys: set[tuple[Any, ...]] = set()
    for row in rows:
        if row[:key] in keys or len(part) == _ROWS_A_STATEMENT:
            yield part
            part, keys = [], set()
        part.append(row)
        keys.add(row[:key])
    if part:
        yield part


def _sums_of(hours: Iterable[Row]) -> dict[str, Sequence[float]]:
    """The seconds of each emotion, a device."""
    sums: dict[str, Sequence[float]] = {}
    for device_id, _, *seconds, _, _ in hours:
        before = sums.get(device_id)
        sums[device_id] = seconds if before is None else [a + b for a, b in zip(before, seconds, strict=True)]
    return sums


def _skew(batch: Batch, received_at: datetime) -> float:
    """Seconds that the device's clock was ahead of `received_at`; below 0 this may be how long the batch has waited."""
    return (batch.timestamp - received_at if batch.clock_skew is None else batch.clock_skew).total_seconds()
