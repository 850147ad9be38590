"""A valid batch with random edits: it is stored in both databases exactly as a plain reading of the rules has it, or
refused for a reason, and nothing else ever happens."""

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from emotion_daemon.rules.fold import fold
from emotion_daemon.storage.migrations import upgrade
from emotion_daemon.storage.store import Store
from shared.batch import EMOTIONS, Batch, DecodeError, decode
from shared.database import writer_engine
from shared.schema import person_emotion
from tests.postgresql import PostgreSQL

RECEIVED_AT = datetime(2025, 11, 14, 12, 35, tzinfo=UTC)
EXAMPLE = (
    b'{"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z", "people": ['
    b'{"person_id": "1", "cumulative": {"happy": 123.5, "sad": 20.0, "angry": 10.0}}, '
    b'{"person_id": 2, "cumulative": {"happy": 0, "neutral": 1e-3}}]}'
)

People = dict[str, tuple[float, ...]]


class Reading(NamedTuple):
    """The content of a valid batch."""

    timestamp: datetime
    people: People


# --- the rules, read plainly ----------------------------------------------------------------------------------------


class Invalid(Exception):
    """Raised by the plain reading."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, a name that comes twice included."""


def require(condition: bool) -> None:
    if not condition:
        raise Invalid


def plain_reading(payload: bytes) -> Reading:
    """The documented rules over Python's own JSON. Raises Invalid."""
    try:
        value = json.loads(payload.decode(), object_pairs_hook=Pairs, parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode()  # no lone surrogate, in ignored values neither
    except (ValueError, RecursionError) as error:
        raise Invalid from error
    fields = _fields(value, required=("device_id", "timestamp", "people"))
    for device_id in fields["device_id"]:
        require(isinstance(device_id, str))
    require(fields["device_id"][-1] == "jetson_1")
    require(all(isinstance(timestamp, str) for timestamp in fields["timestamp"]))
    people = [_people(listed) for listed in fields["people"]][-1]
    return Reading(_stamp(fields["timestamp"][-1]), people)


def _no_number(name: str) -> None:
    raise ValueError(name)


def _fields(value: object, *, required: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """The values of each name, all of which have to be valid; the last one counts."""
    require(isinstance(value, Pairs))
    assert isinstance(value, Pairs)
    fields: dict[str, list[Any]] = {}
    for name, entry in value:
        fields.setdefault(name, []).append(entry)
    require(all(name in fields for name in required))
    return fields


def _people(value: object) -> People:
    require(type(value) is list)
    assert isinstance(value, list)
    return dict(_person(entry) for entry in value)


def _person(value: object) -> tuple[str, tuple[float, ...]]:
    fields = _fields(value, required=("person_id", "cumulative"))
    person_id = [_person_id(entry) for entry in fields["person_id"]][-1]
    require(not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in person_id))
    return person_id, [_cumulative(entry) for entry in fields["cumulative"]][-1]


def _person_id(value: object) -> str:
    require(type(value) in (int, str))
    text = str(value)
    require(1 <= len(text) <= 128)
    return text


def _cumulative(value: object) -> tuple[float, ...]:
    fields = _fields(value)
    return tuple([_seconds(entry) for entry in fields.get(name, [0])][-1] for name in EMOTIONS)


def _seconds(value: object) -> float:
    require(type(value) in (int, float))
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except OverflowError as error:
        raise Invalid from error
    require(0 <= seconds < math.inf)
    return seconds


def _stamp(text: str) -> datetime:
    date, *time = re.split("[Tt ]", text, maxsplit=1)  # Python takes any character there, and spaces elsewhere
    require(set(date) <= set("0123456789-W") and all(set(t.rstrip("Zz")) <= set("0123456789:.,+-") for t in time))
    try:
        stamp = datetime.fromisoformat(text)
        stamp = stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)
    except ValueError as error:
        raise Invalid from error
    except OverflowError:
        return RECEIVED_AT
    believable = datetime(2020, 1, 1, tzinfo=UTC) <= stamp <= RECEIVED_AT + timedelta(seconds=60)
    return stamp if believable else RECEIVED_AT


# --- the edits ------------------------------------------------------------------------------------------------------

TOKENS = (
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\",
        b"-",
        b"+",
        b".",
        b"e",
        b"0",
        b"9" * 20,
        b"\x00",
        b"\xff",
        b"\n",
    ),
    *(b"1e400", b"1e308", b"-0", b"NaN", b"Infinity", b"null", b"true", b"{}", b"[]", b'""', b"\xef\xbb\xbf"),
    *(
        b"\\u0000",
        b"\\ud800",
        b"\\ud83d\\ude00",
        b"\xed\xa0\x80",
        b"\xc3\xa9",
        b"\xf0\x9f\x98\x80",
        b'"x": 1, ',
        b'"x": "\xff", ',
    ),
)
edits = st.tuples(
    st.integers(0, len(EXAMPLE))
    | st.sampled_from([at for at in range(len(EXAMPLE)) if EXAMPLE[at - 1 : at] in b'{"[ ']),
    st.just(0) | st.integers(0, 20),
    st.sampled_from(TOKENS) | st.binary(max_size=4) | st.just(b""),
)


def edit(payload: bytes, at: int, removed: int, put: bytes) -> bytes:
    return payload[:at] + put + payload[at + removed :]


numbers = st.integers() | st.integers(-(10**30), 10**30) | st.floats() | st.sampled_from((2**63, 2**64, -1, 10**400))
CONTROLS = "\x00\x1f\x7f\x85\n\ud800\udfff\ud7ff\u00a0\U0001f600"
texts = (
    st.text(max_size=5)
    | st.text(CONTROLS + "ab", max_size=5)
    | st.sampled_from(("", "\x00", "\ud800", "x" * 128, "x" * 129, "1", "NaN", "jetson_1"))
)
stamps = st.datetimes(timezones=st.none() | st.timezones() | st.just(UTC), allow_imaginary=False).map(
    datetime.isoformat
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | stamps,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(EMOTIONS), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(("device_id", "timestamp", "people", "person_id", "cumulative", *EMOTIONS, "joy"))
seconds_of = st.dictionaries(names, numbers, max_size=4)
fitting = st.fixed_dictionaries({"person_id": texts | st.integers(), "cumulative": seconds_of})


@st.composite
def restructured(draw: st.DrawFn) -> bytes:
    """The example, some of whose values are replaced by others, or got a neighbour."""
    batch = json.loads(EXAMPLE)
    for _ in range(draw(st.integers(1, 3))):
        person = draw(st.sampled_from(batch["people"]))
        if not isinstance(person, dict) or not isinstance(person.get("cumulative"), dict):
            break
        holder, name, fits = draw(
            st.sampled_from(
                (
                    (batch, "device_id", texts),
                    (batch, "timestamp", stamps),
                    (batch, "firmware", values),
                    (batch["people"], 0, fitting),
                    (person, "person_id", texts | st.integers()),
                    (person, "cumulative", seconds_of),
                    (person, "age", values),
                    (person["cumulative"], "sad", numbers),
                    (person["cumulative"], "joy", values),
                )
            )
        )
        holder[name] = draw(fits | fits | fits | values)
    return json.dumps(batch, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def cut_up(draw: st.DrawFn) -> bytes:
    """The example with some bytes taken out and others put in."""
    payload = EXAMPLE
    for at, removed, put in draw(st.lists(edits, min_size=1, max_size=3)):
        payload = edit(payload, at, removed, put)
    return payload


# --- the tests ------------------------------------------------------------------------------------------------------


class Database:
    """A real one; `keep` stores a batch and returns what the database then has of it."""

    def __init__(self, url: str) -> None:
        self._engine: Engine = writer_engine(url)
        upgrade(self._engine)
        self._store = Store(self._engine)

    def keep(self, batch: Batch) -> People:
        with self._store.transaction() as transaction:
            transaction.write(fold([batch]))
        table = person_emotion.c
        columns = (table.time_happy, table.time_sad, table.time_angry, table.time_neutral, table.last_seen)
        query = select(table.person_id, *columns).where(table.device_id == batch.device_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        assert {row.last_seen for row in rows} <= {batch.timestamp}
        return {row[0]: tuple(row[1:5]) for row in rows}

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
def databases(sqlite_url: str, postgresql: PostgreSQL) -> Iterator[tuple[Database, Database]]:
    both = Database(sqlite_url), Database(postgresql.new_database())
    yield both
    for database in both:
        database.close()


def test_an_edited_batch_is_stored_exactly_or_refused(
    databases: tuple[Database, Database],
    request: pytest.FixtureRequest,
    record_property: Any,
) -> None:
    examples = 20_000 if request.config.getoption("--full") else 400
    stored = refused = 0

    @seed(request.config.getoption("--seed"))
    @settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    @given(cut_up() | restructured())
    def run(payload: bytes) -> None:
        nonlocal stored, refused
        try:
            batch = decode(payload, device_id="jetson_1", received_at=RECEIVED_AT)
        except DecodeError:
            refused += 1
            with pytest.raises(Invalid):
                plain_reading(payload)
            return
        stored += 1
        expected = plain_reading(payload)
        assert batch.timestamp == expected.timestamp
        # A device of its own: a batch that is older than what is stored of a person would change nothing.
        own = msgspec.structs.replace(batch, device_id=f"device_{stored}")
        assert [database.keep(own) for database in databases] == [expected.people] * 2

    run()
    record_property("rounds", stored + refused)
    print(f"{stored} stored, {refused} refused, --seed {request.config.getoption('--seed')}")

    assert stored > examples / 20
    assert refused > examples / 20
