"""What the daemon writes in one transaction: people, devices, history, statuses, dead letters."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import Connection, delete, func, insert, select

from emotion_daemon.rules.fold import Folded, StoredState
from emotion_daemon.rules.outcome import Rejected, Status
from emotion_daemon.storage.changes import Changes
from emotion_daemon.storage.state_cache import StateCache
from emotion_daemon.storage.statements import Statements
from shared.batch import Batch
from shared.schema import rejected_message

STORED_PAYLOAD = 64 * 1024
"""How many bytes of a dead letter's payload are stored."""

STORED_TOPIC = 1_000
"""How many characters of its topic are stored; a valid topic is shorter."""

MAX_DEAD_LETTERS = 10_000
"""How many dead letters are stored; the oldest are deleted first."""

SENT_AHEAD = 2_000
"""More messages than a broker sends before it waits for a PUBACK: an older dead letter is not sent again."""

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

    def read_state(self, batches: Collection[Batch]) -> StoredState:
        """What is stored of the people and devices in `batches`, for the fold; valid until the next transaction."""
        return self._state.read(self.connection, batches, latest=self._latest)

    def write(self, folded: Folded, *, between: Callable[[], None] = _nothing) -> None:
        """Upsert people and devices unless their rows are newer, and add to the history.

        `folded` was folded over what `read_state` has returned. In totals-only mode the history's seconds are also
        added to the device's totals, and no person is written.
        """
        statements = self._statements
        timestamp = cache(statements.timestamp)  # a batch's people share one; its conversion costs as much as a row
        latest = timestamp(self._latest)
        # All daemons on one PostgreSQL write in one order, so that two never wait for each other.
        reports = ((key, folded.people[key]) for key in sorted(folded.people))
        people = ((*key, *astuple(report.cumulative), timestamp(report.last_seen), latest) for key, report in reports)
        batches = sorted(folded.devices.items())
        devices = ((device_id, timestamp(batch.timestamp), latest) for device_id, batch in batches)
        states = (
            (device_id, timestamp(received_at), len(batch.people), _skew(batch, received_at))
            for device_id, batch in sorted(folded.heard.items())
            if (received_at := batch.received_at) is not None
        )
        minutes = ((device_id, timestamp(minute), *seconds) for device_id, minute, *seconds in folded.minutes.rows())
        sums = sorted(folded.minutes.sums().items()) if self._totals_only else []
        totals = ((device_id, *seconds) for device_id, seconds in sums)
        for statement, rows in (
            (statements.add_total, totals) if self._totals_only else (statements.upsert_person, people),
            (statements.upsert_device, devices),
            (statements.upsert_state, states),
            (statements.add_minute, minutes),
        ):
            self._write_rows(statement, rows, between)
        self.changes.folded.append(folded)
        self.changes.devices |= folded.changed_devices - folded.heard.keys()  # upsert_state has raised the others

    def write_statuses(self, statuses: Iterable[Status]) -> None:
        """Store the newest status of each device."""
        newest = sorted({each.device_id: each for each in statuses}.items())
        timestamp = self._statements.timestamp
        rows = ((device_id, each.status, timestamp(each.received_at)) for device_id, each in newest)
        self._write_rows(self._statements.upsert_status, rows, _nothing)

    def reject(self, messages: Sequence[Rejected], *, between: Callable[[], None] = _nothing) -> None:
        """Store `messages` as dead letters, and delete the oldest beyond MAX_DEAD_LETTERS.

        A message that the broker sent again, and that is stored already, is not stored twice. A payload is not stored
        if an erased person may be in it.
        """
        erased = self._state.devices_with_tombstones(self.connection) if messages else frozenset()
        rows = []
        for message in messages:
            row = self._dead_letter(message, erased)
            if not message.sent_again or not self._is_stored(row, between):
                rows.append(row)
        if not rows:
            return
        self.changes.devices |= {message.device_id for message in messages if message.device_id is not None}
        self.connection.execute(insert(rejected_message), rows)
        row_id = rejected_message.c.id
        newest_to_go = select(row_id).order_by(row_id.desc()).offset(MAX_DEAD_LETTERS).limit(1).scalar_subquery()
        self.connection.execute(delete(rejected_message).where(row_id <= newest_to_go))

    def _dead_letter(self, message: Rejected, erased: Collection[str]) -> dict[str, Any]:
        """The row of a message; `erased` are the devices of which a person was erased."""
        topic, reason, is_suppressed = message.topic, message.reason, message.device_id in erased
        if message.device_id is None and erased:  # the topic itself may name a person, and the reason quotes it
            topic, reason, is_suppressed = "…", "the topic belongs to no device", True
        return {
            "received_at": message.received_at,
            "topic": topic[:STORED_TOPIC],
            "reason": f"{reason}; payload not stored: a person was erased" if is_suppressed else reason,
            "payload": b"" if is_suppressed or self._totals_only else message.payload[:STORED_PAYLOAD],
            "payload_size": len(message.payload),
        }

    def _is_stored(self, row: Mapping[str, Any], between: Callable[[], None]) -> bool:
        between()  # a search through 2,000 dead letters of 64 KiB takes 70 ms
        table = rejected_message.c
        newest = select(func.max(table.id)).scalar_subquery()
        same = (table[name] == row[name] for name in ("topic", "payload_size", "payload"))
        query = select(table.id).where(table.id > newest - SENT_AHEAD, *same).limit(1)
        return self.connection.execute(query).first() is not None

    def raise_revisions(self) -> None:
        """Tell the API which answers have changed: to be called last."""
        rows = ((device_id,) for device_id in sorted(self.changes.devices))
        self._write_rows(self._statements.raise_revision, rows, _nothing)

    def _write_rows(self, statement: str, rows: Iterable[tuple[Any, ...]], between: Callable[[], None]) -> None:
        rows = iter(rows)
        part = list(islice(rows, _ROWS_A_STATEMENT))
        while part:
            self.connection.exec_driver_sql(statement, part)
            part = list(islice(rows, _ROWS_A_STATEMENT))
            if part:
                between()


def _skew(batch: Batch, received_at: datetime) -> float:
    """Seconds that the device's clock was ahead of `received_at`; below 0 this may be how long the batch has waited."""
    return (batch.timestamp - received_at if batch.clock_skew is None else batch.clock_skew).total_seconds()
