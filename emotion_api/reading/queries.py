"""The selects. A transaction ends before its answer is sent: as long as it lasts it holds back SQLite's checkpoint."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    String,
    Text,
    and_,
    bindparam,
    cast,
    collate,
    exists,
    extract,
    func,
    null,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError

from emotion_api.devices import DeviceRow
from emotion_api.history import Bucket, Span
from emotion_api.summary import NO_TIME, EmotionTotals, PeoplePage, PersonRow, finite
from shared.schema import device, device_state, device_total, emotion_minute, person_emotion, rejected_message

_DEVICE_0003 = select(device.c.device_name, device.c.updated_at).where(device.c.device_id == bindparam("device_id"))
"""For a database without the table of totals: its daemon is from an older version."""

_ASKED_FOR = select(cast(bindparam("device_id"), Text).label("device_id")).subquery()

_DEVICE = (
    select(
        device.c.device_name,
        device.c.updated_at,
        device_total.c.time_happy,
        device_total.c.time_sad,
        device_total.c.time_angry,
        device_total.c.time_neutral,
    )
    .select_from(_ASKED_FOR)
    .outerjoin(device, device.c.device_id == _ASKED_FOR.c.device_id)
    .outerjoin(device_total, device_total.c.device_id == _ASKED_FOR.c.device_id)
)
"""One row, whatever there is of the device: an operator may have deleted its own."""

_OF_DEVICE = person_emotion.c.device_id == bindparam("device_id")

_TIMES = (
    person_emotion.c.time_happy,
    person_emotion.c.time_sad,
    person_emotion.c.time_angry,
    person_emotion.c.time_neutral,
)

# The stamps as the driver has them: UtcDateTime's conversion takes longer than SQLite takes for the row.
_PEOPLE = select(person_emotion.c.person_id, *_TIMES, type_coerce(person_emotion.c.last_seen, String)).where(_OF_DEVICE)

_NEXT_PERSON = select(person_emotion.c.id).where(_OF_DEVICE).limit(1).offset(bindparam("people"))

_TOTALS = select(*map(func.sum, _TIMES)).where(_OF_DEVICE)

# PostgreSQL ends with an error where a sum is too large for it, SQLite with infinity.
_TOTALS_POSTGRESQL = select(*(func.sum(func.least(column, 1e300)) for column in _TIMES)).where(_OF_DEVICE)

_STATE = (
    device_state.c.received_at,
    device_state.c.people,
    device_state.c.clock_skew,
    device_state.c.status,
    device_state.c.status_at,
)

_DEVICES = select(device.c.device_id, device.c.device_name, device.c.updated_at, *_STATE).outerjoin_from(
    device, device_state, device.c.device_id == device_state.c.device_id
)

_ONLY_CONNECTED = select(device_state.c.device_id, null(), null(), *_STATE).where(
    device_state.c.status == "online", ~exists().where(device.c.device_id == device_state.c.device_id)
)

_REJECTED = (
    select(rejected_message.c.topic, func.count())
    .where(rejected_message.c.received_at >= bindparam("since"))
    .group_by(rejected_message.c.topic)
)

DEVICES_AT_ONCE = 500

MINUTES_AT_ONCE = 5_000
"""Rows that are added up in one select: 4 ms."""

_MINUTES = (
    select(emotion_minute)
    .where(
        emotion_minute.c.device_id == bindparam("device_id"),
        emotion_minute.c.minute >= bindparam("start"),
        emotion_minute.c.minute < bindparam("end"),
    )
    .order_by(emotion_minute.c.minute)
    .limit(bindparam("at_once", type_=Integer))
    .subquery()
)

_EMOTIONS = (_MINUTES.c.time_happy, _MINUTES.c.time_sad, _MINUTES.c.time_angry, _MINUTES.c.time_neutral)

_BUCKET = cast(extract("epoch", _MINUTES.c.minute), BigInteger) // bindparam("step", type_=BigInteger)


def _buckets(seconds: Iterable[ColumnElement[float]]) -> Select[*tuple[Any, ...]]:
    return select(
        _BUCKET.label("bucket"),
        *map(func.sum, seconds),
        func.max(_MINUTES.c.most_people),
        func.count(),
        func.max(_MINUTES.c.minute),
    ).group_by("bucket")


_BUCKETS = _buckets(_EMOTIONS)
_BUCKETS_POSTGRESQL = _buckets(func.least(column, 1e300) for column in _EMOTIONS)


class DeviceFound(NamedTuple):
    """`name` and `updated_at` are None where there is no such device; `others` are seconds of people not stored."""

    name: str | None = None
    updated_at: datetime | None = None
    others: EmotionTotals = NO_TIME


_ANY_DEVICE = select(device.c.device_id).limit(1)


def any_device(connection: Connection) -> str | None:
    """The id of one of the devices, None where there is none yet: whether the table can be read."""
    return connection.execute(_ANY_DEVICE).scalar()


def device_row(connection: Connection, device_id: str) -> DeviceFound:
    """What is stored of the device beside its people. To be called first in a transaction."""
    try:
        row = connection.execute(_DEVICE, {"device_id": device_id}).one()
    except DBAPIError as error:
        if not lacks_a_table(error):
            raise
        connection.rollback()  # PostgreSQL answers nothing more in this transaction
        old = connection.execute(_DEVICE_0003, {"device_id": device_id}).one_or_none()
        return DeviceFound() if old is None else DeviceFound(*old)
    name, updated_at, *seconds = row
    return DeviceFound(name, updated_at, EmotionTotals(*map(finite, seconds)) if seconds[0] is not None else NO_TIME)


def lacks_a_table(error: Exception) -> bool:
    """Whether a statement failed because there is no such table. SQLite has no code of its own for it."""
    driver: object = getattr(error, "orig", None)
    return "no such table" in str(driver) or getattr(driver, "sqlstate", None) == "42P01"


def has_more_people_than(connection: Connection, device_id: str, people: int) -> bool:
    """Whether the device has more than so many people: from an index, without counting all of them."""
    return connection.execute(_NEXT_PERSON, {"device_id": device_id, "people": people}).scalar() is not None


def people(connection: Connection, device_id: str, *, at_once: int) -> Iterator[list[PersonRow]]:
    """The device's people in lists of `at_once`, the last shorter; in no particular order.

    A collation would sort them differently in each database.
    """
    cursor = connection.execute(_PEOPLE, {"device_id": device_id}).cursor
    assert cursor is not None
    aware = _as_utc(connection)
    while rows := cursor.fetchmany(at_once):  # the driver's tuples: SQLAlchemy's rows take half as long again
        yield aware(rows)


def totals(connection: Connection, device_id: str) -> EmotionTotals:
    """The seconds of all people of a device, added up by the database: the last digits may differ from an exact sum."""
    query = _TOTALS if connection.dialect.name == "sqlite" else _TOTALS_POSTGRESQL
    row = connection.execute(query, {"device_id": device_id}).one()
    return EmotionTotals(*(finite(total or 0.0) for total in row))


def has_person(connection: Connection, device_id: str, person_id: str, since: datetime | None) -> bool:
    """Whether the device has reported this person, at `since` or later."""
    query = select(person_emotion.c.id).where(_OF_DEVICE, person_emotion.c.person_id == person_id, *_seen(since))
    return connection.execute(query, {"device_id": device_id}).scalar() is not None


def page(connection: Connection, device_id: str, part: PeoplePage, *, at_most: int) -> list[PersonRow]:
    """The first `at_most` of the device's people behind `part.after` and seen since `part.since`, in their order.

    SQLite compares stamps as texts, which is right for those of the form that the daemon writes.
    """
    c = person_emotion.c
    person_id = c.person_id if connection.dialect.name == "sqlite" else collate(c.person_id, "C")  # code points
    query = _PEOPLE.where(*_seen(part.since)).order_by(c.last_seen.desc(), person_id).limit(at_most)
    if part.after is not None:
        other = person_emotion.alias()
        seen = (
            select(other.c.last_seen)
            .where(other.c.device_id == bindparam("device_id"), other.c.person_id == part.after)
            .scalar_subquery()
        )
        query = query.where(or_(c.last_seen < seen, and_(c.last_seen == seen, person_id > part.after)))
    cursor = connection.execute(query, {"device_id": device_id}).cursor
    assert cursor is not None
    return _as_utc(connection)(cursor.fetchall())


def devices(connection: Connection) -> Iterator[list[DeviceRow]]:
    """Every device, and those that are connected and have not sent a batch yet; in no particular order."""
    for query in (_DEVICES, _ONLY_CONNECTED):
        for rows in connection.execute(query).partitions(DEVICES_AT_ONCE):
            yield [DeviceRow(*row) for row in rows]


def rejected(connection: Connection, since: datetime) -> Mapping[str, int]:
    """How many messages were rejected since then, by their topic."""
    return {topic: count for topic, count in connection.execute(_REJECTED, {"since": since})}


def buckets(connection: Connection, device_id: str, span: Span) -> Iterator[list[Bucket]]:
    """What the device's minutes in the span add up to, MINUTES_AT_ONCE at a time: a bucket may come in parts."""
    query = _BUCKETS if connection.dialect.name == "sqlite" else _BUCKETS_POSTGRESQL
    start, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (span.start, span.end))
    while start < end:
        rows = connection.execute(
            query, {"device_id": device_id, "start": start, "end": end, "step": span.step, "at_once": MINUTES_AT_ONCE}
        ).all()
        yield [Bucket(*row[:6]) for row in rows]
        if sum(row[6] for row in rows) < MINUTES_AT_ONCE:
            return
        start = max(start, *(row[7] for row in rows)) + timedelta(microseconds=1)


def _seen(since: datetime | None) -> list[ColumnElement[bool]]:
    return [] if since is None else [person_emotion.c.last_seen >= since]


def _as_utc(connection: Connection) -> Callable[[Sequence[tuple[Any, ...]]], list[PersonRow]]:
    return _text_as_utc if connection.dialect.name == "sqlite" else _naive_as_utc


def _text_as_utc(rows: Sequence[tuple[Any, ...]]) -> list[PersonRow]:
    """SQLite has the stamps as text: the daemon's have no time zone, another program's may."""
    parse = datetime.fromisoformat
    try:  # written for speed: this takes 0.14 us a row, what stands below 1.3
        return [
            (who, happy, sad, angry, neutral, parse(seen + "+00:00")) for who, happy, sad, angry, neutral, seen in rows
        ]
    except ValueError:
        return _naive_as_utc((*most, parse(seen)) for *most, seen in rows)


def _naive_as_utc(rows: Iterable[tuple[Any, ...]]) -> list[PersonRow]:
    """PostgreSQL's driver has the stamps parsed, and without a time zone."""
    return [(*most, seen.replace(tzinfo=UTC)) for *most, seen in rows]
