"""The selects. Each transaction ends before its response is sent, because it holds back SQLite's checkpoint."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import astuple
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    FromClause,
    Integer,
    Select,
    String,
    Table,
    Text,
    and_,
    bindparam,
    case,
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

from emotion_api.devices import DeviceRow
from emotion_api.history import MINUTE, Bucket, Read
from emotion_api.overview import HOURS, Part, Shown, Sums
from emotion_api.summary import NO_TIME, EmotionTotals, Now, PeoplePage, PersonRow, finite
from shared.batch import EMOTIONS
from shared.database import code_point_collation
from shared.schema import (
    device,
    device_state,
    device_total,
    emotion_hour,
    emotion_minute,
    person_emotion,
    rejected_message,
)

Revision: TypeAlias = tuple[Any, ...] | None
"""Another one means that a response may be another; None if the database knows nothing of the device."""

_DEVICE_ID = bindparam("device_id", type_=Text)

REVISION = select(device_state.c.revision).where(device_state.c.device_id == _DEVICE_ID)

ALL_REVISIONS = select(func.count(), func.sum(device_state.c.revision))
"""Every commit that changes a response about a device raises the sum."""


class State(NamedTuple):
    """The state of PostgreSQL as one query read it. `version` is None on a standby, `lag` on a primary.

    No transaction was committed between two equal versions. `lag` is the age in seconds of the newest transaction that
    the standby has replayed. `revisions` are those of all responses about each device; of None, about all devices.
    """

    version: str | None
    lag: float | None
    revisions: Mapping[str | None, Revision]


_VERSION = case(
    (
        ~func.pg_is_in_recovery(),
        func.concat_ws(" ", func.pg_postmaster_start_time(), func.pg_current_snapshot(), type_=Text),
    )
)
"""PostgreSQL's version of all data: the server process, and the transactions that are visible. NULL on a standby."""

_LAG = case(
    (
        func.pg_is_in_recovery(),
        cast(func.extract("epoch", func.clock_timestamp() - func.pg_last_xact_replay_timestamp()), Float),
    )
)
"""Seconds since the newest transaction that a standby has replayed. NULL on a primary."""

_ASKED = func.unnest(bindparam("devices", type_=ARRAY(Text))).table_valued("device_id").render_derived()

_REVISIONS = select(_ASKED.c.device_id, device_state.c.revision, _VERSION, _LAG).outerjoin_from(
    _ASKED, device_state, device_state.c.device_id == _ASKED.c.device_id
)


def _seconds(table: FromClause, prefix: str = "time") -> list[ColumnElement[float]]:
    return [table.c[f"{prefix}_{emotion}"] for emotion in EMOTIONS]


def _sums(table: FromClause) -> list[ColumnElement[float]]:
    """The sums of each emotion's seconds. PostgreSQL ends with an error if a sum is too large, SQLite with infinity."""
    return [func.sum(_at_most(_LARGEST, column)) for column in _seconds(table)]


def _at_most(largest: float, column: ColumnElement[float]) -> ColumnElement[float]:
    return case((column > largest, largest), else_=column)


_LARGEST = 1e300

_MOST_SECONDS = 1e15
"""The most seconds of an emotion in an hour: the sum of four is an integer for the databases and for JSON."""

_REQUESTED = select(cast(_DEVICE_ID, Text).label("device_id")).subquery()

_OF_DEVICE = person_emotion.c.device_id == _DEVICE_ID

_DEVICE = (
    select(
        device.c.device_name,
        device.c.updated_at,
        exists(
            select(person_emotion.c.id)
            .where(person_emotion.c.device_id == _REQUESTED.c.device_id)
            .limit(1)
            .offset(bindparam("many", type_=Integer))
            .correlate(_REQUESTED)
        ),
        device_state.c.received_at,
        device_state.c.people,
        device_state.c.covered_since,
        *_seconds(device_total),
        *_seconds(device_state),
        *_seconds(device_state, "now"),
    )
    .select_from(_REQUESTED)
    .outerjoin(device, device.c.device_id == _REQUESTED.c.device_id)
    .outerjoin(device_total, device_total.c.device_id == _REQUESTED.c.device_id)
    .outerjoin(device_state, device_state.c.device_id == _REQUESTED.c.device_id)
)
"""One row, also if an operator has deleted the device's own."""

# The timestamps as the driver has them: UtcDateTime's conversion takes longer than SQLite takes for the row.
_PEOPLE = select(
    person_emotion.c.person_id,
    *_seconds(person_emotion),
    person_emotion.c.emotion_now,
    type_coerce(person_emotion.c.active_at, String),
    type_coerce(person_emotion.c.last_seen, String),
).where(_OF_DEVICE)

_TOTALS = select(*_sums(person_emotion)).where(_OF_DEVICE)

_STATE = (
    device_state.c.received_at,
    device_state.c.people,
    device_state.c.clock_skew,
    device_state.c.clock_offset,
    device_state.c.status,
    device_state.c.status_at,
    device_state.c.info,
)

_DEVICES = select(device.c.device_id, device.c.device_name, device.c.updated_at, *_STATE).outerjoin_from(
    device, device_state, device.c.device_id == device_state.c.device_id
)

_other_state = device_state.alias()

# Daemons publish their own presence, too: a client id that has received batches is a daemon's.
_ONLY_CONNECTED = select(device_state.c.device_id, null(), null(), *_STATE).where(
    device_state.c.status == "online",
    ~exists().where(device.c.device_id == device_state.c.device_id),
    ~exists().where(_other_state.c.received_by == device_state.c.device_id),
)

_ANY_DEVICE = (
    select(device.c.device_id, device_state.c.revision)
    .outerjoin(device_state, device.c.device_id == device_state.c.device_id)
    .limit(1)
)

_REJECTED = (
    select(rejected_message.c.topic, func.count())
    .where(rejected_message.c.received_at >= bindparam("since"))
    .group_by(rejected_message.c.topic)
)

DEVICES_AT_ONCE = 500

ROWS_AT_ONCE = 1_000
"""Rows that are added up in one select. If each is a bucket of its own, this takes 10 ms, and other requests wait."""


def _buckets(table: Table, time: Column[datetime]) -> Select[*tuple[Any, ...]]:
    """The sums of a device's next `at_once` rows from `start` to before `end`, by `step` seconds from `origin` on."""
    rows = (
        select(table, time.label("time"))
        .where(table.c.device_id == _DEVICE_ID, time >= bindparam("start"), time < bindparam("end"))
        .order_by(time)
        .limit(bindparam("at_once", type_=Integer))
        .subquery()
    )
    since = cast(extract("epoch", rows.c.time), BigInteger) - bindparam("origin", type_=BigInteger)
    bucket = since // bindparam("step", type_=BigInteger)
    return select(
        bucket.label("bucket"),
        func.max(rows.c.most_people),
        func.sum(rows.c.covered),
        func.count(),
        func.max(rows.c.time),
        *_sums(rows),
    ).group_by("bucket")


_OF_MINUTES = _buckets(emotion_minute, emotion_minute.c.minute)
_OF_HOURS = _buckets(emotion_hour, emotion_hour.c.hour)


_DEVICE_IDS = bindparam("device_ids", type_=Text, expanding=True)


def _between(table: Table, time: Column[datetime]) -> tuple[ColumnElement[bool], ...]:
    """Several devices and a span: each device is a range of the primary key."""
    return table.c.device_id.in_(_DEVICE_IDS), time >= bindparam("start"), time < bindparam("end")


def _sums_by_device(table: Table, time: Column[datetime]) -> Select[*tuple[Any, ...]]:
    return (
        select(table.c.device_id, func.max(table.c.most_people), func.sum(table.c.covered), *_sums(table))
        .where(*_between(table, time))
        .group_by(table.c.device_id)
    )


_MINUTES_BY_DEVICE = _sums_by_device(emotion_minute, emotion_minute.c.minute)
_HOURS_BY_DEVICE = _sums_by_device(emotion_hour, emotion_hour.c.hour)

_SHOWN = select(device_state.c.device_id, device_state.c.covered_since, *_seconds(device_state, "now"))

_TOTAL = reduce(add, (_at_most(_MOST_SECONDS, column) for column in _seconds(emotion_hour)))

_HOURS = select(
    emotion_hour.c.device_id,
    type_coerce(emotion_hour.c.hour, String),
    cast(func.round(_TOTAL), BigInteger),
).where(*_between(emotion_hour, emotion_hour.c.hour))


class DeviceFound(NamedTuple):
    """The stored state of a device apart from its people. `name` and the times are None if there are none.

    `others` are the seconds of people who are not stored, `history` those that the history ever counted. `now` is what
    the device showed last, `covered_since` when the daemon began to store for which time it heard the device.
    """

    name: str | None
    updated_at: datetime | None
    has_many_people: bool
    received_at: datetime | None
    others: EmotionTotals
    history: EmotionTotals
    now: Now
    covered_since: datetime | None


def state(connection: Connection, devices: Collection[str | None]) -> State:
    """PostgreSQL's present state, with the revisions of `devices`, of which there is one at least."""
    first: Sequence[Any] | None = None  # the version must be no newer than any revision
    found: dict[str | None, Revision] = {}
    named = [device_id for device_id in devices if device_id is not None]
    if None in devices:
        first = connection.execute(ALL_REVISIONS.add_columns(_VERSION, _LAG)).one()
        found[None] = tuple(first[:-2])
    if named:
        rows = connection.execute(_REVISIONS, {"devices": named}).all()
        found |= {device_id: None if revision is None else (revision,) for device_id, revision, *_ in rows}
        first = first or rows[0]
    assert first is not None
    version, lag = first[-2:]
    return State(version, lag, found)


def standby_lag(connection: Connection) -> float | None:
    """The `lag` of State at PostgreSQL."""
    return connection.scalar(select(_LAG))


def any_device(connection: Connection) -> None:
    """Read one device and its revision: this fails if the tables are missing or of an older version."""
    connection.execute(_ANY_DEVICE).all()


def is_about_the_schema(error: Exception) -> bool:
    """Return True if a statement failed because a table or column does not exist. SQLite has no error code for it."""
    driver: object = getattr(error, "orig", None) or error
    message = str(driver)
    return message.startswith(("no such table", "no such column")) or getattr(driver, "sqlstate", None) in (
        "42P01",
        "42703",
    )


def device_found(connection: Connection, device_id: str, *, many: int) -> DeviceFound:
    """Return the stored state of the device. It has many people if an index has more than `many`."""
    row = connection.execute(_DEVICE, {"device_id": device_id, "many": many}).one()
    name, updated_at, has_many_people, received_at, people, covered_since, *seconds = row
    others, history, now = (
        _totals_of(seconds[at : at + len(EMOTIONS)]) for at in range(0, len(seconds), len(EMOTIONS))
    )
    shown = Now(people or 0, EmotionTotals(*(round(each, 3) for each in astuple(now))))
    return DeviceFound(name, updated_at, has_many_people, received_at, others, history, shown, covered_since)


def people(connection: Connection, device_id: str, *, at_once: int) -> Iterator[list[PersonRow]]:
    """The device's people in lists of `at_once`, the last one shorter, in no particular order.

    A collation would sort them differently in each database.
    """
    cursor = connection.execute(_PEOPLE, {"device_id": device_id}).cursor
    assert cursor is not None
    while rows := cursor.fetchmany(at_once):  # the driver's tuples: SQLAlchemy's rows take half as long again
        yield _as_utc(rows)


def totals(connection: Connection, device_id: str) -> EmotionTotals:
    """The seconds of all people of a device, added up by the database: the last digits may differ from an exact sum."""
    row = connection.execute(_TOTALS, {"device_id": device_id}).one()
    return EmotionTotals(*(finite(total or 0.0) for total in row))


def has_person(connection: Connection, device_id: str, person_id: str, page: PeoplePage) -> bool:
    """Return True if the device has reported this person as `page` requires."""
    query = select(person_emotion.c.id).where(_OF_DEVICE, person_emotion.c.person_id == person_id, *_seen(page))
    return connection.execute(query, {"device_id": device_id}).scalar() is not None


def page(connection: Connection, device_id: str, page: PeoplePage, *, at_most: int) -> list[PersonRow]:
    """The first `at_most` of the device's people after `page.after` and seen since `page.since`, in their order.

    SQLite compares timestamps as texts, which is right for those in the form that the daemon writes.
    """
    c = person_emotion.c
    person_id = collate(c.person_id, code_point_collation(connection))
    query = _PEOPLE.where(*_seen(page)).order_by(c.last_seen.desc(), person_id).limit(at_most)
    if page.after is not None:
        other = person_emotion.alias()
        seen = (
            select(other.c.last_seen)
            .where(other.c.device_id == _DEVICE_ID, other.c.person_id == page.after)
            .scalar_subquery()
        )
        query = query.where(or_(c.last_seen < seen, and_(c.last_seen == seen, person_id > page.after)))
    return _as_utc(_drivers_rows(connection, query, {"device_id": device_id}))


def devices(connection: Connection) -> Iterator[list[DeviceRow]]:
    """Every device, also those that are connected and have not sent a batch yet, in no particular order."""
    for query in (_DEVICES, _ONLY_CONNECTED):
        for rows in connection.execute(query).partitions(DEVICES_AT_ONCE):
            yield [DeviceRow._make(row) for row in rows]


def rejected(connection: Connection, since: datetime) -> Mapping[str, int]:
    """Return the number of messages that were rejected since then, by topic."""
    return {topic: count for topic, count in connection.execute(_REJECTED, {"since": since})}


def buckets(connection: Connection, device_id: str, read: Read) -> Iterator[list[Bucket]]:
    """Yield the sums of the device's rows, from ROWS_AT_ONCE rows at a time: a bucket may come in parts."""
    query = _OF_MINUTES if read.row_seconds == MINUTE else _OF_HOURS
    origin, step = read.start, read.sum_seconds
    start, end = (datetime.fromtimestamp(seconds, UTC) for seconds in (read.start, read.end))
    while start < end:
        parameters = {"device_id": device_id, "start": start, "end": end, "origin": origin, "step": step}
        rows = connection.execute(query, {**parameters, "at_once": ROWS_AT_ONCE}).all()
        yield [
            Bucket(origin + number * step, tuple(seconds), most_people, covered)
            for number, most_people, covered, _, _, *seconds in rows
        ]
        if sum(row[3] for row in rows) < ROWS_AT_ONCE:
            return
        start = max(row[4] for row in rows) + timedelta(microseconds=1)


def shown(connection: Connection) -> dict[str, Shown]:
    """Return the emotions of each device's last seconds, and since when its `covered` is known."""
    return {
        device_id: Shown(_totals_of(seconds), covered_since)
        for device_id, covered_since, *seconds in connection.execute(_SHOWN)
    }


def sums(connection: Connection, device_ids: Sequence[str], part: Part) -> Iterator[tuple[str, Sums]]:
    """Yield the sums of a part of the history of each of the devices that have any."""
    query = _HOURS_BY_DEVICE if part.of_hours else _MINUTES_BY_DEVICE
    parameters = {"device_ids": device_ids, "start": part.start, "end": part.end}
    for device_id, *values in _drivers_rows(connection, query, parameters):
        yield device_id, Sums._make(values)


def hours(connection: Connection, device_ids: Sequence[str], first: datetime) -> dict[str, list[int]]:
    """Return the whole seconds of all emotions in each of HOURS hours from `first` on, of the devices that have any."""
    parameters = {"device_ids": device_ids, "start": first, "end": first + HOURS * timedelta(hours=1)}
    found: dict[str, list[int]] = {}
    places: dict[object, int] = {}  # of the driver's timestamps, of which there are only HOURS
    for device_id, hour, seconds in _drivers_rows(connection, _HOURS, parameters):
        if hour not in places:
            places[hour] = (_aware([hour])[0] - first) // timedelta(hours=1)
        found.setdefault(device_id, [0] * HOURS)[places[hour]] = seconds
    return found


def _drivers_rows(connection: Connection, query: Select[Any], parameters: Mapping[str, object]) -> Sequence[Any]:
    """The driver's tuples: SQLAlchemy's rows take half as long again."""
    cursor = connection.execute(query, parameters).cursor
    assert cursor is not None
    return cursor.fetchall()


def _seen(page: PeoplePage) -> list[ColumnElement[bool]]:
    c = person_emotion.c
    limits = ((c.last_seen, page.since), (c.last_seen, page.active_since), (c.active_at, page.active_since))
    return [column >= since for column, since in limits if since is not None]


def _totals_of(seconds: Sequence[float | None]) -> EmotionTotals:
    return NO_TIME if seconds[0] is None else EmotionTotals(*(finite(each or 0.0) for each in seconds))


def _as_utc(rows: Sequence[tuple[Any, ...]]) -> list[PersonRow]:
    """The driver's rows with aware timestamps."""
    if not rows:
        return []
    # By column, because a loop over rows of any width takes 1.5 times as long.
    *columns, active, seen = zip(*rows, strict=True)
    times = _aware(seen)
    # Most people are active in the batch in which they are seen: this spares half of the conversions.
    active_times = [
        at if text == when else _aware([text])[0] if text is not None else None
        for text, when, at in zip(active, seen, times, strict=True)
    ]
    return list(zip(*columns, active_times, times, strict=True))


def _aware(times: Sequence[Any]) -> list[datetime]:
    """Timestamps of SQLite's driver, which are texts, or of PostgreSQL's, which are naive times.

    The daemon's texts have no time zone, but another program's may have one.
    """
    if isinstance(times[0], datetime):
        return [each.replace(tzinfo=UTC) for each in times]
    parse = datetime.fromisoformat
    try:
        return [parse(each + "+00:00") for each in times]
    except ValueError:
        return [parse(each).replace(tzinfo=UTC) for each in times]
