"""The selects. A transaction ends before its answer is sent: as long as it lasts it holds back SQLite's checkpoint."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, String, bindparam, func, select, type_coerce

from emotion_api.summary import EmotionTotals, PersonRow, finite
from shared.schema import device, person_emotion

_DEVICE = select(device.c.device_name, device.c.updated_at).where(device.c.device_id == bindparam("device_id"))

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

_ANY_DEVICE = select(device.c.device_id).limit(1)


def any_device(connection: Connection) -> str | None:
    """The id of one of the devices, None where there is none yet: whether the table can be read."""
    return connection.execute(_ANY_DEVICE).scalar()


def device_row(connection: Connection, device_id: str) -> tuple[str | None, datetime | None]:
    """The device's `device_name` and `updated_at`, both None where there is no such device."""
    row = connection.execute(_DEVICE, {"device_id": device_id}).one_or_none()
    return (None, None) if row is None else (row.device_name, row.updated_at)


def has_more_people_than(connection: Connection, device_id: str, people: int) -> bool:
    """Whether the device has more than so many people: from an index, without counting all of them."""
    return connection.execute(_NEXT_PERSON, {"device_id": device_id, "people": people}).scalar() is not None


def people(connection: Connection, device_id: str, *, at_once: int) -> Iterator[list[PersonRow]]:
    """The device's people in lists of `at_once`, the last shorter; in no particular order.

    A collation would sort them differently in each database.
    """
    cursor = connection.execute(_PEOPLE, {"device_id": device_id}).cursor
    assert cursor is not None
    aware = _text_as_utc if connection.dialect.name == "sqlite" else _naive_as_utc
    while rows := cursor.fetchmany(at_once):  # the driver's tuples: SQLAlchemy's rows take half as long again
        yield aware(rows)


def totals(connection: Connection, device_id: str) -> EmotionTotals:
    """The seconds of all people of a device, added up by the database: the last digits may differ from an exact sum."""
    query = _TOTALS if connection.dialect.name == "sqlite" else _TOTALS_POSTGRESQL
    row = connection.execute(query, {"device_id": device_id}).one()
    return EmotionTotals(*(finite(total or 0.0) for total in row))


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
