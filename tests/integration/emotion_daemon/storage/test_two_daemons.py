"""Two daemons on one PostgreSQL that write about the same devices: each notices what the other has changed."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, event, select, update

from emotion_admin.person import Person, forget
from emotion_daemon.rules.fold import PersonKey
from emotion_daemon.rules.outcome import Info, Rejected, Status
from emotion_daemon.storage import dead_letters
from emotion_daemon.storage.statements import raise_revision
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.transaction import Transaction
from shared.batch import Batch, Cumulative, Topics
from shared.database import writer_engine
from shared.schema import device, device_state, emotion_minute, person_emotion, rejected_message
from tests.databases import check_hours, disposing, migrated, waits_for_a_lock
from tests.postgresql import PostgreSQL
from tests.waiting import wait_until

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)
TOPICS = Topics("emotions")
DEVICES = ("jetson_1", "jetson_2")
PEOPLE = ("anna", "bert", "carl")


@pytest.fixture
def engines(postgresql: PostgreSQL) -> Iterator[list[Engine]]:
    url = postgresql.new_database()
    with ExitStack() as stack:
        yield [stack.enter_context(migrated(url)), stack.enter_context(disposing(writer_engine(url)))]


def batch(device_id: str, second: int, *people: str, happy: float = 0.0) -> Batch:
    stamp = NOON + timedelta(seconds=second)
    return Batch(device_id, stamp, dict.fromkeys(people, Cumulative(happy)), stamp)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def online(second: int) -> Status:
    return Status("jetson_1", "online", at(second))


def offline(second: int) -> Status:
    return Status("jetson_1", "offline", at(second))


def info(text: str | None) -> Info:
    return Info("jetson_1", text)


def commit(store: Store, *batches: Batch, statuses: tuple[Status | Info, ...] = ()) -> None:
    with store.transaction() as transaction:
        transaction.write(store.fold(batches, transaction.read_state(batches, statuses)))
        transaction.write_presence(statuses)


def seconds(engine: Engine) -> dict[PersonKey, float]:
    row = person_emotion.c
    with engine.connect() as connection:
        rows = connection.execute(select(row.device_id, row.person_id, row.time_happy)).all()
    return {(device_id, person_id): happy for device_id, person_id, happy in rows}


def shown(engine: Engine) -> float:
    with engine.connect() as connection:
        return sum(map(float, connection.scalars(select(emotion_minute.c.time_happy))))


def test_each_counts_from_what_the_other_has_written(engines: list[Engine]) -> None:
    one, other = map(Store, engines)
    for second in range(0, 20, 2):
        commit(one, batch("jetson_1", second, "anna", happy=float(second)))
        commit(other, batch("jetson_1", second + 1, "anna", happy=second + 1.0))

    assert seconds(engines[0]) == {("jetson_1", "anna"): 19}
    assert shown(engines[0]) == pytest.approx(19)


def test_a_group_that_raises_a_revision_twice_is_no_change_by_others(engines: list[Engine]) -> None:
    store = Store(engines[0])
    commit(store, batch("jetson_1", 0, "anna"), statuses=(Status("jetson_1", "online", NOON),))
    commit(store, batch("jetson_1", 1, "anna"), statuses=(Status("jetson_1", "offline", NOON),))
    read = []

    def note(*parts: object) -> None:
        if str(parts[2]).startswith("SELECT person_emotion"):
            read.append(parts[2])

    event.listen(engines[0], "before_cursor_execute", note)
    commit(store, batch("jetson_1", 2, "anna"))

    assert read == []


def test_a_new_connection_may_lead_to_another_server_so_all_is_read_again(engines: list[Engine]) -> None:
    """The revision is the same there by chance: the standby lacked the last commit, and got another one."""
    store = Store(engines[0])
    commit(store, batch("jetson_1", 1, "anna", happy=1.0))
    engines[0].dispose()
    with engines[1].begin() as connection:
        connection.execute(update(person_emotion).values(last_seen=NOON + timedelta(seconds=5), time_happy=5.0))
    commit(store, batch("jetson_1", 2, "anna", happy=2.0))

    assert seconds(engines[1]) == {("jetson_1", "anna"): 5}
    assert shown(engines[1]) == 0


def test_who_was_erased_elsewhere_does_not_return(engines: list[Engine]) -> None:
    store = Store(engines[0])
    commit(store, batch("jetson_1", 1, "anna", "bert"))
    for person in ("anna", "carl"):  # carl was never stored
        forget(engines[1], TOPICS, Person("jetson_1", person), hours=1, now=NOON)
    commit(store, batch("jetson_1", 2, *PEOPLE))

    assert seconds(engines[0]).keys() == {("jetson_1", "bert")}


def test_a_device_whose_row_an_operator_has_deleted_gets_one_again(engines: list[Engine]) -> None:
    store = Store(engines[0])
    commit(store, batch("jetson_1", 1, "anna"))
    with engines[1].begin() as connection:
        connection.execute(delete(device))
    commit(store, batch("jetson_1", 2, "anna"))

    with engines[0].connect() as connection:
        assert connection.scalars(select(device.c.updated_at)).all() == [NOON + timedelta(seconds=2)]


def commit_in_thread(store: Store, *batches: Batch, statuses: tuple[Status | Info, ...] = ()) -> threading.Thread:
    thread = threading.Thread(target=commit, args=(store, *batches), kwargs={"statuses": statuses}, daemon=True)
    thread.start()
    return thread


def test_a_daemon_does_not_wait_for_another_one_with_other_devices(engines: list[Engine]) -> None:
    one, other = map(Store, engines)
    with one.transaction() as transaction:
        batches = [batch("jetson_1", 0, "anna")]
        transaction.write(one.fold(batches, transaction.read_state(batches)))
        transaction.reject([Rejected("emotions/x", "not JSON", b"{", NOON)])
        thread = commit_in_thread(other, batch("jetson_2", 0, "anna"), statuses=(Status("jetson_3", "online", NOON),))
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_daemons_with_batches_and_statuses_of_the_same_devices_wait_at_the_beginning(engines: list[Engine]) -> None:
    """If they waited in the middle, each could hold a row that the other needs."""
    one, other = map(Store, engines)
    url = engines[0].url.render_as_string(hide_password=False)
    commit(one, batch("jetson_1", 0), batch("jetson_2", 0))
    with one.transaction() as transaction:
        batches, statuses = [batch("jetson_1", 1, "anna")], [Status("jetson_2", "online", NOON)]
        known = transaction.read_state(batches, statuses)
        crosswise = (Status("jetson_1", "online", NOON),)
        thread = commit_in_thread(other, batch("jetson_2", 1, "bert"), statuses=crosswise)
        wait_until(lambda: waits_for_a_lock(url), seconds=30, what="the second daemon waits")
        transaction.write(one.fold(batches, known))
        transaction.write_presence(statuses)
    thread.join(timeout=30)

    assert seconds(engines[0]).keys() == {("jetson_1", "anna"), ("jetson_2", "bert")}


def test_two_daemons_delete_the_oldest_dead_letters_without_waiting(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has deleted a letter above its topic's quota. The other one would wait for that, and hold the older ones."""
    one, other = map(Store, engines)

    def reject(transaction: Transaction, topic: str, second: int = 3_600) -> None:
        transaction.reject([Rejected(topic, "not JSON", b"{", at(second))])

    def delete_the_oldest() -> None:
        with other.transaction() as transaction:
            reject(transaction, "c")

    with one.transaction() as transaction:
        for topic in "bbaa":
            reject(transaction, topic, 0)
    monkeypatch.setattr(dead_letters, "QUOTA", 2)
    with ThreadPoolExecutor(1) as pool, one.transaction() as transaction:
        reject(transaction, "a")
        monkeypatch.setattr(dead_letters, "MAX_DEAD_LETTERS", 1)
        pool.submit(delete_the_oldest).result(timeout=30)
        reject(transaction, "d")

    with engines[0].connect() as connection:
        assert connection.scalars(select(rejected_message.c.topic)).all() == ["d"]


def test_two_daemons_with_presences_of_unknown_devices_do_not_wait_for_each_other(engines: list[Engine]) -> None:
    """No row of theirs can be locked at the beginning, so all are written in one order."""
    one, other = map(Store, engines)
    url = engines[0].url.render_as_string(hide_password=False)
    crosswise = (Status("jetson_1", "online", NOON), Info("jetson_2", "{}"))
    waiting: list[threading.Thread] = []

    def in_the_middle(*parts: Any) -> None:
        if parts[2].startswith("INSERT INTO device_state") and not waiting:
            waiting.append(commit_in_thread(other, statuses=crosswise))
            wait_until(lambda: waits_for_a_lock(url), seconds=30, what="the second daemon waits")

    event.listen(engines[0], "after_cursor_execute", in_the_middle)
    commit(one, statuses=(Status("jetson_2", "online", NOON), Info("jetson_1", "{}")))
    waiting[0].join(timeout=30)

    with engines[0].connect() as connection:
        assert connection.scalars(select(device_state.c.device_id).order_by(device_state.c.device_id)).all() == [
            "jetson_1",
            "jetson_2",
        ]


class TestPresence:
    """A device moves from one broker to another, and the former one sends what it still has, or publishes the will."""

    @pytest.fixture
    def stores(self, engines: list[Engine]) -> list[Store]:
        return [Store(engine, daemon_id=f"daemon-{number}") for number, engine in enumerate(engines, 1)]

    def stored(self, engine: Engine) -> tuple[str | None, datetime | None, str | None]:
        row = device_state.c
        with engine.connect() as connection:
            return tuple(connection.execute(select(row.status, row.status_at, row.info)).one())

    def test_the_will_of_the_former_connection_replaces_nothing(
        self, engines: list[Engine], stores: list[Store]
    ) -> None:
        former, present = stores
        commit(former, batch("jetson_1", 0), statuses=(online(0), info("1")))
        commit(present, statuses=(online(2), info("2")))
        commit(present, batch("jetson_1", 3))
        commit(former, statuses=(offline(5), info("1")))

        assert self.stored(engines[0]) == ("online", at(2), "2")

    def test_the_will_may_come_before_the_first_batch_of_the_new_connection(
        self, engines: list[Engine], stores: list[Store]
    ) -> None:
        former, present = stores
        commit(former, batch("jetson_1", 0), statuses=(online(0),))
        commit(present, statuses=(online(2),))
        commit(former, statuses=(offline(3),))
        assert self.stored(engines[0]) == ("offline", at(3), None)
        commit(present, batch("jetson_1", 4))

        assert self.stored(engines[0]) == ("online", at(2), None)

    def test_the_queue_of_the_former_broker_replaces_nothing(self, engines: list[Engine], stores: list[Store]) -> None:
        former, present = stores
        commit(present, batch("jetson_1", 9), statuses=(online(8), info("2")))
        commit(former, batch("jetson_1", 1), batch("jetson_1", 2), statuses=(online(10), info("1"), offline(10)))

        assert self.stored(engines[0]) == ("online", at(8), "2")

    def test_a_device_that_returns_is_believed_from_its_first_batch(
        self, engines: list[Engine], stores: list[Store]
    ) -> None:
        former, present = stores
        commit(former, batch("jetson_1", 0), statuses=(online(0), info("1")))
        commit(present, batch("jetson_1", 2), statuses=(online(2), info("2")))
        commit(former, statuses=(offline(3),))
        commit(former, statuses=(online(4),))
        commit(former, batch("jetson_1", 5))
        commit(present, statuses=(offline(6),))
        assert self.stored(engines[0]) == ("online", at(4), "2")
        commit(former, statuses=(offline(7), info(None)))

        assert self.stored(engines[0]) == ("offline", at(7), None)

    def test_a_device_without_batches_is_believed_everywhere(self, engines: list[Engine], stores: list[Store]) -> None:
        for second, store in enumerate(stores * 2):
            commit(store, statuses=(online(second), info(str(second))))

        assert self.stored(engines[0]) == ("online", at(3), "3")

    def test_what_waits_is_not_lost_if_the_commit_fails(self, engines: list[Engine], stores: list[Store]) -> None:
        former, present = stores
        commit(former, batch("jetson_1", 0))
        commit(present, statuses=(online(2),))
        batches = [batch("jetson_1", 3)]
        with suppress(ZeroDivisionError), present.transaction() as transaction:
            transaction.write(present.fold(batches, transaction.read_state(batches)))
            transaction.write_presence([offline(3)])
            raise ZeroDivisionError
        assert self.stored(engines[0]) == (None, None, None)
        commit(present, batch("jetson_1", 4))

        assert self.stored(engines[0]) == ("online", at(2), None)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_they_do_in_turn_the_newest_is_stored_and_no_more_time_than_has_passed(
    engines: list[Engine], seed: int
) -> None:
    chance = random.Random(seed)
    stores = list(map(Store, engines))
    sent: list[Batch] = []
    expected: dict[PersonKey, float] = {}

    def publish(second: int) -> Batch:
        people = chance.sample(PEOPLE, chance.randint(1, 3))
        sent.append(batch(chance.choice(DEVICES), second, *people, happy=float(second)))
        expected.update({(sent[-1].device_id, each): float(second) for each in people})
        return sent[-1]

    for turn in range(60):
        batches = [publish(3 * turn + n) for n in range(chance.randint(1, 3))]
        batches += chance.sample(sent, min(len(sent), chance.randint(0, 2)))  # the broker sends them again
        commit(chance.choice(stores), *batches)
        if turn % 7 == 0:
            gone = chance.choice([*expected])
            with chance.choice(stores).transaction() as transaction:
                row = person_emotion.c
                transaction.connection.execute(
                    delete(person_emotion).where(row.device_id == gone[0], row.person_id == gone[1])
                )
                transaction.changes.devices.add(gone[0])
                transaction.changes.deleted_people.add(gone)
            del expected[gone]
            sent = [each for each in sent if gone[1] not in each.people]  # else it brings the person back
        if turn % 11 == 0:
            with engines[0].begin() as connection:
                raise_revision(connection, chance.choice(DEVICES))

    assert seconds(engines[0]) == expected
    assert shown(engines[0]) <= len(DEVICES) * len(PEOPLE) * 180
    with engines[0].connect() as connection:
        check_hours(connection)
