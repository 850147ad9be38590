"""The daemon's upserts, built by SQLAlchemy and compiled once per engine.

They run through exec_driver_sql with rows as plain tuples: Connection.execute would spend more time on turning each
row from a dictionary into a tuple than SQLite spends on storing it (25 against 10 µs a row, 2,500 rows a transaction).
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    Table,
    bindparam,
    case,
    func,
    literal_column,
    update,
)

from emotion_daemon.rules.history import HOUR, MINUTE
from emotion_daemon.storage.dialects import Rows, dialect_of
from shared.batch import EMOTIONS
from shared.schema import UtcDateTime, device, device_state, device_total, emotion_hour, emotion_minute, person_emotion

_TIMES = [f"time_{emotion}" for emotion in EMOTIONS]
_NOW = [f"now_{emotion}" for emotion in EMOTIONS]
_HEARD = ["device_id", "received_at", "received_by", "people", "clock_skew", "clock_offset"]

_ONE: ColumnElement[int] = literal_column("1", type_=Integer)
_ZERO: ColumnElement[float] = literal_column("0.0", type_=Float)


class Statement:
    """One compiled statement, which writes many rows."""

    def __init__(self, engine: Engine, statement: Any, columns: Sequence[str], common: Sequence[str] = ()) -> None:
        """The placeholders are those of `columns`, then those that have the same value in all rows."""
        compiled = statement.compile(dialect=engine.dialect)
        assert compiled.positiontup == [*columns, *common], "rows are passed as tuples, in this order"
        self._text = str(compiled)
        self._columns = len(columns)
        self._dialect = dialect_of(engine)

    def execute(self, connection: Connection, rows: Rows) -> None:
        """Write the rows. No two of them may have the same key."""
        self._dialect.execute(connection, self._text, rows, columns=self._columns)


class Statements:
    """The upserts of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.upsert_person = _upsert_newer(
            engine, person_emotion, key=["device_id", "person_id"], timestamp="last_seen"
        )
        self.update_person = _update_person(engine)
        self.upsert_device = _upsert_newer(engine, device, key=["device_id"], timestamp="updated_at")
        self.upsert_state = _upsert_state(
            engine,
            [*_HEARD, *_TIMES, *_NOW, "covered_since"],
            added=_TIMES,
            once=["covered_since"],
        )
        self.add_history_total = _upsert_state(engine, ["device_id", *_TIMES], added=_TIMES)
        self.upsert_presence = _upsert_state(engine, ["device_id", "status", "status_at", "info"])
        self.raise_revision = _upsert_state(engine, ["device_id"])
        self.add_minute = _add(engine, emotion_minute, ["device_id", "minute"], most_covered=MINUTE)
        self.add_hour = _add(engine, emotion_hour, ["device_id", "hour"], most_covered=HOUR)
        self.add_total = _add(engine, device_total, ["device_id"])
        process = UtcDateTime().dialect_impl(engine.dialect).bind_processor(engine.dialect)
        assert process is not None
        self.timestamp: Callable[[datetime], Any] = process
        """Convert a time to what the driver takes."""


def raise_revision(connection: Connection, device_id: str) -> None:
    """Tell the API that answers about the device have changed. Every program that changes its rows calls this."""
    _upsert_state(connection.engine, ["device_id"]).execute(connection, [(device_id,)])


def _upsert_newer(engine: Engine, table: Table, *, key: list[str], timestamp: str) -> Statement:
    """`INSERT … ON CONFLICT (key) DO UPDATE …` unless the stored timestamp is newer.

    A stored timestamp later than `latest` was written under a wrong clock and counts as old. The placeholders are those
    of the columns, then `latest`.
    """
    columns = [c.name for c in table.columns if c.name not in ("id", "device_name")]
    statement = dialect_of(engine).insert_rows(table, columns, {})
    stored, new = table.c[timestamp], statement.excluded[timestamp]
    replaceable = (new >= stored) | (stored > bindparam("latest"))
    statement = statement.on_conflict_do_update(
        index_elements=key,
        set_={name: statement.excluded[name] for name in columns if name not in key},
        where=replaceable | stored.is_(None) if stored.nullable else replaceable,
    )
    return Statement(engine, statement, columns, ["latest"])


def _update_person(engine: Engine) -> Statement:
    """An update of a stored person unless the row is newer. SQLite takes two thirds of the time of an upsert.

    The placeholders are those of the seconds and times, the key, `last_seen` again, and `latest` as in _upsert_newer.
    """
    columns = [*_TIMES, "last_seen", "active_at", "emotion_now"]
    new: dict[str, Any] = {name: bindparam(name) for name in columns}
    row = person_emotion.c
    replaceable = (row.last_seen <= bindparam("new_last_seen")) | (row.last_seen > bindparam("latest"))
    its_row = row.device_id == bindparam("its_device"), row.person_id == bindparam("its_id")
    statement = update(person_emotion).where(*its_row, replaceable).values(new)
    return Statement(engine, statement, [*columns, "its_device", "its_id", "new_last_seen"], ["latest"])


def _upsert_state(
    engine: Engine, columns: list[str], *, added: Sequence[str] = (), once: Sequence[str] = ()
) -> Statement:
    """An upsert of these columns of `device_state` that raises `revision`: the key first.

    It adds to those `added`, and sets those `once` only if they are null.
    """
    key, *others = columns
    statement = dialect_of(engine).insert_rows(device_state, columns, {"revision": _ONE})
    new = statement.excluded
    changes: dict[str, Any] = {name: new[name] for name in others}
    changes |= {name: device_state.c[name] + new[name] for name in added}
    changes |= {name: func.coalesce(device_state.c[name], new[name]) for name in once}
    changes["revision"] = device_state.c.revision + _ONE
    return Statement(engine, statement.on_conflict_do_update(index_elements=[key], set_=changes), columns)


def _add(engine: Engine, table: Table, key: list[str], *, most_covered: float | None = None) -> Statement:
    """Add seconds to a row, or insert it. `covered` becomes no more than `most_covered`, as two daemons may overlap."""
    columns = table.c
    statement = dialect_of(engine).insert_rows(table, columns.keys(), {})
    new = statement.excluded
    changes: dict[str, Any] = {f"time_{name}": columns[f"time_{name}"] + new[f"time_{name}"] for name in EMOTIONS}
    if most_covered is not None:
        more = new.most_people > columns.most_people
        changes["most_people"] = case((more, new.most_people), else_=columns.most_people)
        most: ColumnElement[float] = literal_column(str(most_covered), type_=Float)
        covered = func.coalesce(columns.covered, _ZERO) + new.covered
        changes["covered"] = case((covered > most, most), else_=covered)
    return Statement(engine, statement.on_conflict_do_update(index_elements=key, set_=changes), columns.keys())
