"""Every transaction that changes an answer about a device raises the device's revision, and only that one's."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select

from emotion_admin.devices import set_name
from emotion_admin.person import Person, forget
from emotion_daemon.rules.outcome import Rejected, Status
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.totals_migration import leave_only_totals
from shared.batch import Batch, Cumulative, Topics
from shared.schema import device_state
from tests.databases import migrated

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)
TOPICS = Topics("emotions")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with migrated(database_url) as engine:
        yield engine


def batch(device_id: str, second: int, *people: str) -> Batch:
    stamp = NOON + timedelta(seconds=second)
    return Batch(device_id, stamp, {person: Cumulative(happy=second) for person in people}, stamp)


def commit(engine: Engine, *batches: Batch, totals_only: bool = False) -> None:
    store = Store(engine, totals_only=totals_only)
    with store.transaction() as transaction:
        transaction.write(store.fold(batches, transaction.read_state(batches)))


def revisions(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(select(device_state.c.device_id, device_state.c.revision)).all()
        return {device_id: revision for device_id, revision in rows}


@pytest.mark.parametrize("totals_only", [False, True])
def test_a_batch_raises_the_revision_of_its_device_only(engine: Engine, totals_only: bool) -> None:
    commit(engine, batch("jetson_1", 1, "anna"), batch("jetson_2", 1, "bob"), totals_only=totals_only)
    before = revisions(engine)
    commit(engine, batch("jetson_1", 2, "anna"), totals_only=totals_only)

    assert revisions(engine) == before | {"jetson_1": before["jetson_1"] + 1}


def test_a_late_batch_that_brings_a_person_raises_it(engine: Engine) -> None:
    commit(engine, batch("jetson_1", 10, "anna"))
    before = revisions(engine)
    commit(engine, batch("jetson_1", 5, "bob"))

    assert revisions(engine)["jetson_1"] > before["jetson_1"]


def test_a_status_raises_it(engine: Engine) -> None:
    with Store(engine).transaction() as transaction:
        transaction.write_presence([Status("jetson_1", "online", NOON)])
    first = revisions(engine)
    with Store(engine).transaction() as transaction:
        transaction.write_presence([Status("jetson_1", "offline", NOON)])

    assert revisions(engine)["jetson_1"] > first["jetson_1"] > 0


def test_a_dead_letter_raises_none_because_the_list_of_devices_is_built_anew_each_second(engine: Engine) -> None:
    with Store(engine).transaction() as transaction:
        topic = TOPICS.batch("jetson_1")
        messages = [Rejected(topic, "a reason", b"x", NOON, device_id=owner) for owner in ("jetson_1", None)]
        transaction.reject(messages)

    assert revisions(engine) == {}


def test_a_new_name_raises_it(engine: Engine) -> None:
    set_name(engine, "jetson_1", "Entrance")
    first = revisions(engine)
    set_name(engine, "jetson_1", "Hall")

    assert revisions(engine)["jetson_1"] > first["jetson_1"] > 0


def test_erasing_a_person_raises_that_of_a_known_device(engine: Engine) -> None:
    commit(engine, batch("jetson_1", 1, "anna"))
    before = revisions(engine)
    forget(engine, TOPICS, Person("jetson_1", "anna"), hours=1, now=NOON)
    erased = revisions(engine)
    forget(engine, TOPICS, Person("jetson_1", "bob"), hours=1, now=NOON)
    not_stored = revisions(engine)
    forget(engine, TOPICS, Person("jetson_2", "bob"), hours=1, now=NOON)

    assert not_stored["jetson_1"] > erased["jetson_1"] > before["jetson_1"]
    assert revisions(engine) == not_stored


def test_turning_people_into_totals_raises_it(engine: Engine) -> None:
    commit(engine, batch("jetson_1", 1, "anna"))
    before = revisions(engine)
    leave_only_totals(engine)

    assert revisions(engine)["jetson_1"] > before["jetson_1"]
