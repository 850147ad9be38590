"""Dead letters: the stored part of an invalid message, and the quota of a topic."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Connection, Delete, bindparam, delete, func, insert, select

from emotion_daemon.rules.outcome import Rejected
from shared.schema import rejected_message

STORED_PAYLOAD = 64 * 1024
"""Most bytes of a dead letter's payload that are stored."""

STORED_TOPIC = 1_000
"""Most characters of its topic that are stored; a valid topic is shorter."""

MAX_DEAD_LETTERS = 10_000
"""Most dead letters that are stored; the oldest are deleted first."""

QUOTA, QUOTA_BYTES = 1_000, 4 * 2**20
"""Most dead letters of one topic that are stored, and bytes of their payloads; the oldest are deleted first.

No more than that is stored within QUOTA_TIME: a device that floods the daemon would otherwise fill the disk's queue.
"""

QUOTA_TIME = timedelta(minutes=1)

HIDDEN_TOPIC, HIDDEN_REASON = "…", "the topic belongs to no device"
"""Topic and reason of a dead letter of no device once a person was erased: its topic may name the person."""

SENT_AHEAD = 2_000
"""More messages than a broker sends before it waits for a PUBACK: an older dead letter is not sent again."""

Row: TypeAlias = dict[str, Any]

_letter = rejected_message.c
_of_topics = _letter.topic.in_(bindparam("topics", expanding=True))
_bytes = func.length(_letter.payload)

_RECENT = (
    select(_letter.topic, func.count(), func.sum(_bytes))
    .where(_letter.received_at >= bindparam("since"), _of_topics)
    .group_by(_letter.topic)
)
_COUNTED = (
    select(
        _letter.id,
        func.row_number().over(partition_by=_letter.topic, order_by=_letter.id.desc()).label("number"),
        func.sum(_bytes).over(partition_by=_letter.topic, order_by=_letter.id.desc()).label("bytes"),
    )
    .where(_of_topics)
    .subquery()
)
_ABOVE_QUOTA = (_COUNTED.c.number > bindparam("quota")) | (_COUNTED.c.bytes > bindparam("quota_bytes"))


def _delete(condition: ColumnElement[bool]) -> Delete:
    """Delete rows, except those that another transaction on PostgreSQL deletes: two could wait for each other."""
    ids = select(_letter.id).where(condition).with_for_update(skip_locked=True)
    return delete(rejected_message).where(_letter.id.in_(ids))


_DELETE_ABOVE_QUOTA = _delete(_letter.id.in_(select(_COUNTED.c.id).where(_ABOVE_QUOTA)))


def row_of(message: Rejected, *, erased: Collection[str], totals_only: bool) -> Row:
    """The row of a message. A payload is not stored if a person of its device, in `erased`, may be in it."""
    topic, reason, is_suppressed = message.topic, message.reason, message.device_id in erased
    if message.device_id is None and erased:  # the topic itself may name a person, and the reason quotes it
        topic, reason, is_suppressed = HIDDEN_TOPIC, HIDDEN_REASON, True
    return {
        "received_at": message.received_at,
        "topic": topic[:STORED_TOPIC],
        "reason": f"{reason}; payload not stored: a person was erased" if is_suppressed else reason,
        "payload": b"" if is_suppressed or totals_only else message.payload[:STORED_PAYLOAD],
        "payload_size": len(message.payload),
    }


def is_stored(connection: Connection, row: Row) -> bool:
    """Return True if an equal row is among the newest stored ones: 70 ms for 2,000 of 64 KiB."""
    newest = select(func.max(_letter.id)).scalar_subquery()
    same = (_letter[name] == row[name] for name in ("topic", "payload_size", "payload"))
    query = select(_letter.id).where(_letter.id > newest - SENT_AHEAD, *same).limit(1)
    return connection.execute(query).first() is not None


def store(connection: Connection, rows: Sequence[Row]) -> int:
    """Insert `rows`, and delete the oldest beyond the quota of their topics and beyond MAX_DEAD_LETTERS.

    Returns how many were omitted, because the quota of their topic is used up for QUOTA_TIME.
    """
    within = _within_quota(connection, rows) if rows else []
    if within:
        connection.execute(insert(rejected_message), within)
        quota = {"topics": _topics(within), "quota": QUOTA, "quota_bytes": QUOTA_BYTES}
        connection.execute(_DELETE_ABOVE_QUOTA, quota)
        newest_to_go = select(_letter.id).order_by(_letter.id.desc()).offset(MAX_DEAD_LETTERS).limit(1)
        connection.execute(_delete(_letter.id <= newest_to_go.scalar_subquery()))
    return len(rows) - len(within)


def _within_quota(connection: Connection, rows: Sequence[Row]) -> list[Row]:
    since = max(row["received_at"] for row in rows) - QUOTA_TIME
    letters: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for topic, count, size in connection.execute(_RECENT, {"since": since, "topics": _topics(rows)}):
        letters[topic], sizes[topic] = count, int(size)
    within = []
    for row in rows:
        topic, size = row["topic"], len(row["payload"])
        if letters[topic] < QUOTA and sizes[topic] + size <= QUOTA_BYTES:
            letters[topic] += 1
            sizes[topic] += size
            within.append(row)
    return within


def _topics(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({row["topic"] for row in rows})
