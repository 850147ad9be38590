"""The loop, with a broker in memory and a real SQLite file."""

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from prometheus_client import generate_latest
from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from emotion_daemon.ingest import IDLE_SECONDS, STOP_PATIENCE_SECONDS, Ingest, LeftWithBrokerError
from emotion_daemon.monitoring.device_rates import Rate
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.monitoring.report import Report
from emotion_daemon.mqtt.publish_packet import Message
from emotion_daemon.retention import BUSY_SECONDS, SETTLE_SECONDS, Retention
from emotion_daemon.rules.fold import Folded, fold
from emotion_daemon.rules.tombstones import digest
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.transaction import Transaction
from shared.batch import Batch, Cumulative, Topics, encode
from shared.schema import device, device_state, forgotten_person, person_emotion, rejected_message
from tests.databases import migrated
from tests.fakes import FakeSource, Reply

TOPICS = Topics("emotions")
TOPIC = TOPICS.batch("jetson_1")
REPLY_TOPIC = TOPICS.reply("jetson_1")
NOW = datetime(2025, 11, 14, 13, 0, tzinfo=UTC)


def at(second: int) -> datetime:
    return datetime(2025, 11, 14, 12, 0, second, tzinfo=UTC)


def batch(second: int = 0, device_id: str = "jetson_1", **happy: float) -> bytes:
    """A payload of `second` after noon, in which each named person has been happy for so long."""
    return batch_of(happy, second, device_id)


def batch_of(happy: Mapping[str, float], second: int = 0, device_id: str = "jetson_1") -> bytes:
    return encode(device_id, at(second), {person: {"happy": value} for person, value in happy.items()})


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    with migrated(sqlite_url) as engine:
        yield engine


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


LIMIT = Rate(messages=2, bytes=10_000)
"""The most that a device may send a second."""


class Clock:
    """Monotonic seconds that pass while the loop waits."""

    def __init__(self, source: FakeSource) -> None:
        self.seconds = 0.0
        source.on_wait = self.wait

    def __call__(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


def loop(
    source: FakeSource,
    store: Store,
    *,
    heartbeat: Heartbeat | None = None,
    metrics: Metrics | None = None,
    own_id: str = "",
    stopping: Callable[[], bool] = lambda: False,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> Ingest:
    return Ingest(
        source=source,
        store=store,
        topics=TOPICS,
        report=Report(heartbeat, metrics, device_limit=LIMIT, monotonic=monotonic),
        own_id=own_id,
        stopping=stopping,
        now=lambda: NOW,
        monotonic=monotonic,
    )


@pytest.fixture
def ingest(source: FakeSource, engine: Engine) -> Ingest:
    return loop(source, Store(engine))


def happy(engine: Engine) -> dict[tuple[str, str], float]:
    table = person_emotion.c
    with engine.connect() as connection:
        rows = connection.execute(select(table.device_id, table.person_id, table.time_happy)).all()
    return {(device_id, person_id): value for device_id, person_id, value in rows}


def rejected(engine: Engine) -> list[tuple[str, bytes]]:
    with engine.connect() as connection:
        query = select(rejected_message.c.topic, rejected_message.c.payload).order_by(rejected_message.c.id)
        return [(topic, payload) for topic, payload in connection.execute(query)]


def reasons(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(rejected_message.c.reason).order_by(rejected_message.c.id)))


class TestStep:
    def test_nothing_to_receive_is_no_group(self, ingest: Ingest, engine: Engine) -> None:
        assert ingest.step() == 0
        assert happy(engine) == {}

    def test_a_batch_is_stored_and_acknowledged(self, ingest: Ingest, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1.5))
        messages = ingest.step()

        assert messages == 1
        assert happy(engine) == {("jetson_1", "anna"): 1.5}
        assert source.held == []

    def test_the_device_gets_its_stamp(self, ingest: Ingest, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(7))
        ingest.step()

        with engine.connect() as connection:
            rows = connection.execute(select(device)).all()
        assert rows == [("jetson_1", None, at(7))]

    def test_what_is_no_batch_is_recorded_and_acknowledged(
        self, ingest: Ingest, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, b"\xff")
        ingest.step()

        assert rejected(engine) == [(TOPIC, b"\xff")]
        assert source.held == []

    @pytest.mark.parametrize("place", [0, 124, 249])
    @pytest.mark.parametrize("poison", [b"", b"\xff", b"[" * 100_000, b"x" * 1_000_000, batch(0, "jetson_2", anna=9)])
    def test_one_bad_message_takes_none_of_its_group_with_it(
        self, ingest: Ingest, source: FakeSource, engine: Engine, poison: bytes, place: int
    ) -> None:
        good = [batch_of({f"p{number}": 1.0}) for number in range(249)]
        for payload in [*good[:place], poison, *good[place:]]:
            source.publish(TOPIC, payload)
        ingest.step()

        assert len(happy(engine)) == 249
        assert len(rejected(engine)) == 1
        assert source.held == []

    @pytest.mark.parametrize(
        "topic", ["emotions/no device/batch", "emotions//batch", "emotions/+/batch", "other", "\ufffd"]
    )
    def test_a_topic_without_a_device_is_recorded_and_acknowledged(
        self, ingest: Ingest, source: FakeSource, engine: Engine, topic: str
    ) -> None:
        source.publish(topic, batch(anna=1))
        ingest.step()

        assert rejected(engine) == [(topic, batch(anna=1))]
        assert source.held == []

    def test_a_late_batch_is_acknowledged_and_changes_nothing(
        self, ingest: Ingest, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, batch(5, anna=5))
        ingest.step()
        source.publish(TOPIC, batch(4, anna=4))
        ingest.step()

        assert happy(engine) == {("jetson_1", "anna"): 5.0}
        assert source.held == []

    def test_a_group_that_comes_again_changes_nothing(self, ingest: Ingest, source: FakeSource, engine: Engine) -> None:
        for _ in range(2):
            source.publish(TOPIC, batch(1, anna=1))
            source.publish(TOPIC, batch(2, anna=2))
        ingest.step()

        assert happy(engine) == {("jetson_1", "anna"): 2.0}

    def test_a_wrong_clock_is_replaced_by_the_time_of_receipt(
        self, ingest: Ingest, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, encode("jetson_1", datetime(1970, 1, 1, tzinfo=UTC), {"anna": {"happy": 1}}))
        ingest.step()

        with engine.connect() as connection:
            assert connection.scalar(select(person_emotion.c.last_seen)) == NOW

    def test_a_retained_batch_of_a_wrong_clock_takes_no_newer_values_place(
        self, ingest: Ingest, source: FakeSource, engine: Engine
    ) -> None:
        """It may have been on the broker for a year, and would get the time of receipt."""
        source.publish(TOPIC, batch(anna=2))
        old = encode("jetson_1", datetime(1970, 1, 1, tzinfo=UTC), {"anna": {"happy": 1}})
        source.publish(TOPIC, old, retain=True)
        ingest.step()

        assert happy(engine) == {("jetson_1", "anna"): 2.0}
        assert reasons(engine) == [
            "a retained batch with an impossible timestamp may be of any age: publish batches without retain"
        ]

    def test_a_retained_batch_of_a_right_clock_is_stored(
        self, ingest: Ingest, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, batch(anna=2), retain=True)
        ingest.step()

        assert happy(engine) == {("jetson_1", "anna"): 2.0}

    def test_retained_batches_and_invalid_retained_statuses_are_cleared(
        self, ingest: Ingest, source: FakeSource
    ) -> None:
        """They may name a person, and the broker would hold them after the person was erased."""
        source.publish(TOPIC, batch(anna=1), retain=True)
        source.publish(TOPIC, batch(1, anna=2), retain=True)
        source.publish(TOPICS.batch("jetson_2"), b"{anna", retain=True)
        source.publish(TOPICS.status("jetson_3"), b"anna", retain=True)
        ingest.step()

        assert sorted(source.cleared) == [TOPIC, TOPICS.batch("jetson_2"), TOPICS.status("jetson_3")]

    def test_valid_statuses_empty_messages_and_what_is_not_retained_are_not_cleared(
        self, ingest: Ingest, source: FakeSource
    ) -> None:
        source.publish(TOPIC, batch(anna=1))
        source.publish(TOPICS.batch("jetson_2"), b"", retain=True)
        source.publish(TOPICS.status("jetson_2"), b"online", retain=True)
        source.publish(TOPICS.status("jetson_3"), b"", retain=True)
        source.publish(TOPICS.status("jetson_4"), b"anna")
        ingest.step()

        assert source.cleared == []

    def test_a_group_is_folded_into_one_row_a_person(self, ingest: Ingest, source: FakeSource, engine: Engine) -> None:
        for second in range(50):
            source.publish(TOPIC, batch(second, anna=second))
        ingest.step()

        assert happy(engine) == {("jetson_1", "anna"): 49.0}

    def test_a_group_whose_connection_is_gone_is_committed_and_not_acknowledged(
        self, source: FakeSource, engine: Engine
    ) -> None:
        store = InterruptedStore(engine, before=source.cut)
        source.publish(TOPIC, batch(anna=1))
        loop(source, store).step()

        assert happy(engine) == {("jetson_1", "anna"): 1.0}
        assert source.held == [batch(anna=1)]


class TestInfo:
    @pytest.mark.parametrize(
        ("payload", "stored"),
        [
            (
                b'{"fps": 24.8, "version": "0.1.0", "who": ["anna"]}',
                '{"version":"0.1.0","fps":24.8,"queue_age":null,"last_ack":null,"reconnects":null}',
            ),
            (b"", None),
        ],
        ids=["statistics", "cleared"],
    )
    def test_the_newest_statistics_are_stored_without_unknown_fields(
        self, ingest: Ingest, source: FakeSource, engine: Engine, payload: bytes, stored: str | None
    ) -> None:
        source.publish(TOPICS.info("jetson_1"), b'{"reconnects": 3}', retain=True)
        source.publish(TOPICS.info("jetson_1"), payload, retain=True)
        ingest.step()

        with engine.connect() as connection:
            rows = connection.execute(select(device_state.c.device_id, device_state.c.info)).all()
        assert [tuple(row) for row in rows] == [("jetson_1", stored)]
        assert (source.held, source.cleared) == ([], [])

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b'{"fps": -1}', "Expected `float` >= 0.0 - at `$.fps`"),
            (b"anna", "JSON is malformed: invalid character (byte 0)"),
            (b'{"x": "\xff"}', "'utf-8' codec can't decode byte 0xff in position 7: invalid start byte"),
        ],
    )
    def test_invalid_statistics_are_recorded_and_not_retained(
        self, ingest: Ingest, source: FakeSource, engine: Engine, payload: bytes, reason: str
    ) -> None:
        source.publish(TOPICS.info("jetson_1"), payload, retain=True)
        ingest.step()

        assert reasons(engine) == [f"no statistics of a device: {reason}"]
        assert source.cleared == [TOPICS.info("jetson_1")]


class TestStatus:
    @pytest.fixture
    def states(self, engine: Engine) -> Callable[[], dict[str, str | None]]:
        def read() -> dict[str, str | None]:
            with engine.connect() as connection:
                rows = connection.execute(select(device_state.c.device_id, device_state.c.status)).all()
            return {device_id: status for device_id, status in rows}

        return read

    @pytest.mark.parametrize(
        ("payload", "status"), [(b"online", "online"), (b"offline", "offline"), (b"", None)], ids=str
    )
    def test_what_a_device_says_of_itself_is_kept(
        self,
        ingest: Ingest,
        source: FakeSource,
        states: Callable[[], dict[str, str | None]],
        payload: bytes,
        status: str | None,
    ) -> None:
        source.publish(TOPICS.status("jetson_1"), b"offline")
        source.publish(TOPICS.status("jetson_1"), payload, retain=True)
        ingest.step()

        assert states() == {"jetson_1": status}
        assert source.held == []

    def test_it_makes_no_device_of_who_never_sent_a_batch(
        self, ingest: Ingest, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPICS.status("jetson_1"), b"online")
        ingest.step()

        with engine.connect() as connection:
            assert connection.execute(select(device)).all() == []

    def test_anything_else_is_recorded_and_acknowledged(
        self, ingest: Ingest, source: FakeSource, engine: Engine, states: Callable[[], dict[str, str | None]]
    ) -> None:
        source.publish(TOPICS.status("jetson_1"), b"fine")
        ingest.step()

        assert reasons(engine) == ["a status is online, offline, or empty to clear it"]
        assert (states(), source.held) == ({}, [])

    def test_a_topic_without_a_device_is_recorded(self, ingest: Ingest, source: FakeSource, engine: Engine) -> None:
        source.publish("emotions/no device/status", b"online")
        ingest.step()

        assert [topic for topic, _ in rejected(engine)] == ["emotions/no device/status"]

    def test_what_the_daemon_itself_says_is_not_a_devices(
        self, source: FakeSource, engine: Engine, states: Callable[[], dict[str, str | None]]
    ) -> None:
        source.publish(TOPICS.status("emotion-daemon"), b"online", retain=True)
        loop(source, Store(engine), own_id="emotion-daemon").step()

        assert (states(), source.held) == ({}, [])

    def test_a_batch_that_is_sent_again_does_not_say_that_its_camera_is_there(
        self, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, batch(1, anna=1))
        source.receive(timeout=0)
        source.cut()
        loop(source, Store(engine)).step()

        assert happy(engine) == {("jetson_1", "anna"): 1.0}
        with engine.connect() as connection:
            assert connection.scalars(select(device_state.c.received_at)).all() == [None]

    def test_batches_beside_it_are_stored(self, ingest: Ingest, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPICS.status("jetson_1"), b"online")
        source.publish(TOPIC, batch(anna=1))
        source.publish(TOPICS.status("jetson_1"), b"offline")
        ingest.step()

        assert happy(engine) == {("jetson_1", "anna"): 1.0}


class TestOrder:
    """Commit, then acknowledge, then reply: each is seen through what the step before has left behind."""

    def test_nothing_is_acknowledged_before_the_commit(self, engine: Engine) -> None:
        source = Witness(engine)
        source.publish(TOPIC, batch(anna=1))
        loop(source, Store(engine)).step()

        assert source.stored_when_acked == [{("jetson_1", "anna"): 1.0}]

    def test_nobody_is_told_ok_before_the_commit(self, engine: Engine) -> None:
        source = Witness(engine)
        source.publish(TOPIC, batch(anna=1), response_topic=REPLY_TOPIC)
        loop(source, Store(engine)).step()

        assert source.stored_when_replied == [{("jetson_1", "anna"): 1.0}]

    def test_a_store_that_fails_acknowledges_nothing_and_ends_the_loop(
        self, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, batch(anna=1), response_topic=REPLY_TOPIC)
        with pytest.raises(RuntimeError, match="a bug"):
            loop(source, FailingStore(engine, [RuntimeError("a bug")])).step()

        assert (source.held, source.acked, source.replies) == ([batch(anna=1)], [], [])

    def test_a_commit_that_fails_acknowledges_nothing(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        with pytest.raises(RuntimeError, match="a bug"):
            loop(source, FailingStore(engine, [RuntimeError("a bug")], late=True)).step()

        assert source.held == [batch(anna=1)]
        assert happy(engine) == {}

    def test_a_missing_table_ends_the_loop_and_acknowledges_nothing(self, source: FakeSource, engine: Engine) -> None:
        with engine.begin() as connection:
            person_emotion.drop(connection)
        source.publish(TOPIC, batch(anna=1))
        with pytest.raises(OperationalError, match="no such table"):
            loop(source, Store(engine)).step()

        assert source.held == [batch(anna=1)]

    def test_good_and_bad_of_one_group_are_one_transaction(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        source.publish(TOPIC, b"bad")
        store = FailingStore(engine, [])
        loop(source, store).step()

        assert store.transactions == 1
        assert (len(happy(engine)), len(rejected(engine))) == (1, 1)

    def test_where_recording_the_bad_fails_the_good_are_not_stored(self, source: FakeSource, engine: Engine) -> None:
        with engine.begin() as connection:
            rejected_message.drop(connection)
        source.publish(TOPIC, batch(anna=1))
        source.publish(TOPIC, b"bad")
        with pytest.raises(OperationalError, match="no such table"):
            loop(source, Store(engine)).step()

        assert happy(engine) == {}
        assert source.held == [batch(anna=1), b"bad"]


class TestOutage:
    def test_the_group_is_committed_when_the_outage_is_over(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        loop(source, FailingStore(engine, [locked()] * 3)).step()

        assert happy(engine) == {("jetson_1", "anna"): 1.0}
        assert source.held == []

    def test_nothing_is_acknowledged_meanwhile(self, source: FakeSource, engine: Engine) -> None:
        held = []
        source.on_wait = lambda seconds: held.append((seconds, list(source.acked), source.held))
        source.publish(TOPIC, batch(anna=1))
        loop(source, FailingStore(engine, [locked()] * 2)).step()

        assert held == [(0.1, [], [batch(anna=1)]), (0.2, [], [batch(anna=1)])]

    def test_the_waits_grow_to_a_limit(self, source: FakeSource, engine: Engine) -> None:
        waits: list[float] = []
        source.on_wait = waits.append
        source.publish(TOPIC, batch(anna=1))
        loop(source, FailingStore(engine, [locked()] * 9)).step()

        assert waits == pytest.approx([0.1, 0.2, 0.4, *[0.5] * 6])

    def test_a_failing_commit_is_tried_again_too(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        loop(source, FailingStore(engine, [locked()], late=True)).step()

        assert happy(engine) == {("jetson_1", "anna"): 1.0}

    def test_it_is_logged_once_at_its_start_and_once_at_its_end(
        self, source: FakeSource, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        clock = Clock(source)
        source.publish(TOPIC, batch(anna=1))
        loop(source, FailingStore(engine, [locked()] * 5), monotonic=clock).step()

        lines = [line for line in caplog.messages if "committing" in line or "commit:" in line]
        assert lines == [
            "cannot commit: database is locked; the daemon acknowledges nothing and tries again until it succeeds",
            "committing again after 1.7 s; 1 messages waited here, and the broker now sends the rest",
        ]

    def test_what_arrives_meanwhile_is_the_next_group(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(0, anna=0))
        numbers = count(1)
        source.on_wait = lambda seconds: source.publish(TOPIC, batch(next(numbers), anna=1))
        ingest = loop(source, FailingStore(engine, [locked()] * 3))
        first, second = ingest.step(), ingest.step()

        assert (first, second) == (1, 3)
        assert source.held == []

    def test_messages_that_come_again_after_a_cut_meanwhile_are_stored_and_acknowledged(
        self, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, batch(anna=1))
        source.on_wait = lambda seconds: source.cut()
        ingest = loop(source, FailingStore(engine, [locked()]))
        first, second = ingest.step(), ingest.step()

        assert (first, second) == (1, 1)
        assert happy(engine) == {("jetson_1", "anna"): 1.0}
        assert source.held == []

    def test_a_broker_that_lost_its_state_meanwhile_loses_no_new_message(
        self, source: FakeSource, engine: Engine
    ) -> None:
        def lose(seconds: float) -> None:
            source.lose_state()
            source.publish(TOPIC, batch(9, bert=9))

        source.publish(TOPIC, batch(anna=1))
        source.on_wait = lose
        ingest = loop(source, FailingStore(engine, [locked()]))
        ingest.step()
        held = source.held
        ingest.step()

        assert held == [batch(9, bert=9)]
        assert happy(engine) == {("jetson_1", "anna"): 1.0, ("jetson_1", "bert"): 9.0}


class TestHeartbeat:
    """Monitoring learns of the database."""

    @pytest.fixture
    def heartbeat(self) -> Heartbeat:
        """Of a daemon that is subscribed and has not committed yet."""
        heartbeat = Heartbeat()
        heartbeat.ready()
        heartbeat.broker(None)
        return heartbeat

    @pytest.mark.parametrize("late", [False, True])
    def test_a_commit_that_fails_is_told_until_one_succeeds(
        self, source: FakeSource, engine: Engine, heartbeat: Heartbeat, late: bool
    ) -> None:
        lines: list[str] = []
        source.on_wait = lambda seconds: lines.append(heartbeat.line)
        source.publish(TOPIC, batch(anna=1))
        loop(source, FailingStore(engine, [locked()] * 2, late=late), heartbeat=heartbeat).step()

        assert lines == ["cannot commit: database is locked"] * 2
        assert heartbeat.line == "ok"

    def test_an_outage_before_the_one_bad_message_was_found_is_over_too(
        self, source: FakeSource, engine: Engine, heartbeat: Heartbeat
    ) -> None:
        for number in range(4):
            source.publish(TOPIC, batch_of({f"p{number}": 1.0}))
        store = FailingStore(engine, [OverflowError(), locked()])  # locked first
        loop(source, store, heartbeat=heartbeat).step()

        assert heartbeat.line == "ok"
        assert source.held == []

    def test_a_bad_message_is_no_outage(self, source: FakeSource, engine: Engine, heartbeat: Heartbeat) -> None:
        source.publish(TOPIC, batch(cursed=1))
        source.publish(TOPIC, b"bad")
        loop(source, CursedStore(engine, OverflowError("too large")), heartbeat=heartbeat).step()

        assert heartbeat.line == "ok"


class TestStop:
    def test_a_stop_ends_the_loop_after_the_group(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        loop(source, Store(engine), stopping=lambda: bool(source.acked)).run()

        assert happy(engine) == {("jetson_1", "anna"): 1.0}

    def test_a_stop_before_the_start_receives_nothing(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        loop(source, Store(engine), stopping=lambda: True).run()

        assert source.held == [batch(anna=1)]

    def test_a_stop_during_an_outage_leaves_the_group_with_the_broker(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        source.publish(TOPIC, b"bad")
        ingest = loop(source, FailingStore(engine, [locked()] * 1_000), stopping=lambda: True, monotonic=Clock(source))
        with pytest.raises(LeftWithBrokerError, match="cannot commit the last 2 messages") as caught:
            ingest.step()

        assert caught.value.messages == 2
        assert (source.acked, source.held) == ([], [batch(anna=1), b"bad"])

    def test_it_tries_for_a_few_seconds_before_it_leaves(self, source: FakeSource, engine: Engine) -> None:
        clock = Clock(source)
        source.publish(TOPIC, batch(anna=1))
        ingest = loop(source, FailingStore(engine, [locked()] * 1_000), stopping=lambda: True, monotonic=clock)
        with pytest.raises(LeftWithBrokerError):
            ingest.step()

        assert STOP_PATIENCE_SECONDS < clock.seconds < STOP_PATIENCE_SECONDS + 4

    def test_an_outage_that_ends_in_time_is_no_reason_to_exit(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=1))
        ingest = loop(source, FailingStore(engine, [locked()] * 3), stopping=lambda: True, monotonic=Clock(source))
        ingest.step()

        assert source.held == []


def test_what_waited_behind_a_batch_of_1970_is_stored_too(source: FakeSource, engine: Engine) -> None:
    source.publish(TOPIC, encode("jetson_1", datetime(1970, 1, 1, tzinfo=UTC), {"anna": {"happy": 1.0}}))
    for second in (0, 1, 2):
        source.publish(TOPIC, encode("jetson_1", at(second), {"anna": {"happy": second + 2.0}}))
    loop(source, Store(engine)).step()

    assert happy(engine) == {("jetson_1", "anna"): 4.0}


def test_a_retained_batch_of_before_says_nothing_about_its_device(source: FakeSource, engine: Engine) -> None:
    source.publish(TOPIC, encode("jetson_1", at(0), {"anna": {"happy": 1.0}}), retain=True)
    loop(source, Store(engine)).step()

    assert happy(engine) == {("jetson_1", "anna"): 1.0}
    with engine.connect() as connection:
        assert connection.scalars(select(device_state.c.received_at)).all() in ([], [None])


def test_a_rejected_message_whose_commit_was_done_and_failed_all_the_same_is_recorded_once(
    source: FakeSource, engine: Engine
) -> None:
    source.publish(TOPIC, b"{")
    loop(source, DoneAndFailedStore(engine)).step()

    assert rejected(engine) == [(TOPIC, b"{")]
    assert source.held == []


def test_a_rejected_message_whose_puback_was_lost_is_recorded_once(source: FakeSource, engine: Engine) -> None:
    source.publish(TOPIC, b"{")
    ingest = loop(source, Store(engine))
    acked = source.ack
    source.ack = lambda messages: source.cut() or acked(messages)  # type: ignore[method-assign,func-returns-value]
    ingest.step()
    source.ack = acked  # type: ignore[method-assign]
    ingest.step()

    assert rejected(engine) == [(TOPIC, b"{")]
    assert source.held == []


class TestLastingError:
    """A value that decode lets through and the database will never accept: one message is rejected, not its group."""

    @pytest.mark.parametrize(
        "error",
        [
            OverflowError("Python int too large to convert to SQLite INTEGER"),
            UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
            IntegrityError("INSERT", {}, Exception("CHECK constraint failed")),
        ],
    )
    @pytest.mark.parametrize("place", [0, 3, 6])
    def test_the_one_bad_message_is_rejected_and_the_others_are_stored(
        self, source: FakeSource, engine: Engine, error: Exception, place: int
    ) -> None:
        people = [f"p{number}" for number in range(7)]
        people[place] = "cursed"
        for person in people:
            source.publish(TOPIC, batch_of({person: 1.0}))
        loop(source, CursedStore(engine, error)).step()

        assert happy(engine).keys() == {("jetson_1", person) for person in people if person != "cursed"}
        assert rejected(engine) == [(TOPIC, batch(0, cursed=1.0))]
        assert reasons(engine) == [f"the database refused it: {type(error).__name__}"]
        assert source.held == []

    def test_several_bad_messages_are_each_found(self, source: FakeSource, engine: Engine) -> None:
        for number in range(8):
            source.publish(TOPIC, batch_of({"cursed" if number % 3 == 0 else f"p{number}": 1.0}, number))
        loop(source, CursedStore(engine, OverflowError())).step()

        assert len(happy(engine)) == 5
        assert len(rejected(engine)) == 3
        assert source.held == []

    def test_who_asked_is_told(self, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(0, anna=1), response_topic=REPLY_TOPIC)
        source.publish(TOPIC, batch(1, cursed=1), response_topic=REPLY_TOPIC)
        loop(source, CursedStore(engine, OverflowError())).step()

        assert answers(source) == [
            {"status": "ok", "updated_count": 1},
            {"status": "error", "error": "the database refused it: OverflowError"},
        ]

    def test_a_message_that_cannot_even_be_recorded_ends_the_loop_unacknowledged(
        self, source: FakeSource, engine: Engine
    ) -> None:
        source.publish(TOPIC, b"bad")
        with pytest.raises(OverflowError):
            loop(source, FailingStore(engine, [OverflowError()] * 9)).step()

        assert source.held == [b"bad"]


class TestReply:
    def test_ok_tells_how_many_people_changed(self, ingest: Ingest, source: FakeSource) -> None:
        source.publish(TOPIC, batch(anna=1, bert=2), response_topic=REPLY_TOPIC, correlation_data=b"42")
        ingest.step()

        assert source.replies == [Reply(REPLY_TOPIC, b'{"status":"ok","updated_count":2}', b"42")]

    def test_a_batch_without_people_updates_nobody(self, ingest: Ingest, source: FakeSource) -> None:
        source.publish(TOPIC, batch(), response_topic=REPLY_TOPIC)
        ingest.step()

        assert answers(source) == [{"status": "ok", "updated_count": 0}]

    def test_a_stale_batch_updates_nobody(self, ingest: Ingest, source: FakeSource) -> None:
        source.publish(TOPIC, batch(5, anna=5))
        ingest.step()
        source.publish(TOPIC, batch(4, anna=4, bert=4), response_topic=REPLY_TOPIC)
        ingest.step()

        assert answers(source) == [{"status": "ok", "updated_count": 1}]

    def test_a_batch_that_is_stale_within_its_group_updates_nobody(self, ingest: Ingest, source: FakeSource) -> None:
        source.publish(TOPIC, batch(5, anna=5))
        source.publish(TOPIC, batch(4, anna=4), response_topic=REPLY_TOPIC)
        ingest.step()

        assert answers(source) == [{"status": "ok", "updated_count": 0}]

    def test_each_asker_of_a_group_gets_its_own_answer(self, ingest: Ingest, source: FakeSource) -> None:
        for second, people in enumerate([1, 3, 2]):
            payload = batch_of({f"p{number}": 1.0 for number in range(people)}, second)
            source.publish(TOPIC, payload, response_topic=f"{REPLY_TOPIC}/{second}", correlation_data=bytes([second]))
        ingest.step()

        assert source.replies == [
            Reply(f"{REPLY_TOPIC}/{second}", f'{{"status":"ok","updated_count":{people}}}'.encode(), bytes([second]))
            for second, people in enumerate([1, 3, 2])
        ]

    def test_an_error_says_what_is_wrong(self, ingest: Ingest, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=-1), response_topic=REPLY_TOPIC, correlation_data=b"42")
        ingest.step()

        (reason,) = reasons(engine)
        assert "anna" not in reason
        assert "Expected `float` >= 0.0" in reason
        assert answers(source) == [{"status": "error", "error": reason}]

    def test_who_did_not_ask_gets_none(self, ingest: Ingest, source: FakeSource) -> None:
        source.publish(TOPIC, batch(anna=1))
        source.publish(TOPIC, b"bad")
        ingest.step()

        assert source.replies == []

    @pytest.mark.parametrize(
        "elsewhere",
        ["emotions/jetson_2/reply", "emotions/jetson_1/batch", "emotions/jetson_1/replyX", "#", "", "$SYS/x", "a\x00b"],
    )
    @pytest.mark.parametrize("payload", [batch(anna=1), b"bad"])
    def test_a_reply_never_goes_elsewhere(
        self, ingest: Ingest, source: FakeSource, payload: bytes, elsewhere: str
    ) -> None:
        source.publish(TOPIC, payload, response_topic=elsewhere)
        ingest.step()

        assert source.replies == []
        assert source.held == []

    def test_a_message_on_a_wrong_topic_gets_none(self, ingest: Ingest, source: FakeSource) -> None:
        source.publish("emotions/no device/batch", batch(anna=1), response_topic="emotions/no device/reply")
        ingest.step()

        assert source.replies == []


class TestErased:
    @pytest.fixture
    def erased(self, engine: Engine) -> None:
        """Anna was, up to NOW."""
        tombstone(engine, NOW)

    def test_they_do_not_come_in_and_the_others_do(
        self, erased: None, source: FakeSource, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        clock = Clock(source)
        source.publish(TOPIC, batch(anna=1, bert=2), response_topic=REPLY_TOPIC)
        ingest = loop(source, Store(engine), monotonic=clock)
        for clock.seconds in (30.0, 61.0):
            ingest.step()

        assert happy(engine) == {("jetson_1", "bert"): 2}
        assert json.loads(source.replies[0].payload) == {"status": "ok", "updated_count": 1}
        assert "in the last 61 s: 1 messages, 2 people, 1 entries of erased people suppressed" in caplog.messages
        assert source.held == []

    def test_a_right_stamp_behind_a_wrong_one_does_not_make_a_batch_newer(
        self, erased: None, source: FakeSource, engine: Engine
    ) -> None:
        later = NOW + timedelta(hours=1)
        source.publish(TOPIC, encode("jetson_1", datetime(1970, 1, 1, tzinfo=UTC), {"bert": {"happy": 1}}))
        source.publish(TOPIC, batch(anna=1))
        ingest = Ingest(
            source=source,
            store=Store(engine, now=lambda: later),
            topics=TOPICS,
            report=Report(),
            now=lambda: later,
        )
        ingest.step()

        assert happy(engine) == {("jetson_1", "bert"): 1}

    def test_what_may_name_them_is_recorded_without_its_payload(
        self, erased: None, source: FakeSource, engine: Engine
    ) -> None:
        bad, elsewhere = batch(anna=-1), batch(device_id="other", anna=-1)
        source.publish(TOPIC, bad)
        source.publish(TOPICS.batch("other"), elsewhere)
        source.publish("emotions/no device/batch", bad)
        loop(source, Store(engine)).step()

        assert rejected(engine) == [(TOPIC, b""), (TOPICS.batch("other"), elsewhere), ("…", b"")]
        assert [reason.partition("; ")[2] for reason in reasons(engine)] == [
            "payload not stored: a person was erased",
            "",
            "payload not stored: a person was erased",
        ]
        assert not [reason for reason in reasons(engine) if "anna" in reason]
        with engine.connect() as connection:
            assert connection.scalars(select(rejected_message.c.payload_size)).first() == len(bad)

    def test_one_that_is_sent_again_is_recorded_once(self, erased: None, source: FakeSource, engine: Engine) -> None:
        source.publish(TOPIC, batch(anna=-1))
        store = DoneAndFailedStore(engine)
        loop(source, store).step()

        assert len(rejected(engine)) == 1


def tombstone(engine: Engine, until: datetime) -> None:
    """Anna of jetson_1 was erased."""
    salt = b"s" * 16
    row = {"device_id": "jetson_1", "salt": salt, "digest": digest("anna", salt), "forgotten_at": NOW, "until": until}
    with engine.begin() as connection:
        connection.execute(insert(forgotten_person), row)


def test_the_sums_are_reported_while_nothing_arrives(
    source: FakeSource, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock(source)
    ingest = loop(source, Store(engine), monotonic=clock)
    source.publish(TOPIC, batch(anna=1))
    for clock.seconds in (30.0, 61.0):
        ingest.step()

    assert "in the last 61 s: 1 messages, 1 people" in caplog.messages


# --- stores that fail -----------------------------------------------------------------------------------------------


def locked() -> OperationalError:
    """Return the error that SQLAlchemy raises if another writer holds the lock."""
    original = sqlite3.OperationalError("database is locked")
    original.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("BEGIN IMMEDIATE", {}, original)


class FailingStore(Store):
    """Raises one of `errors` a transaction, at its start or (`late`) in place of its commit, until none is left."""

    def __init__(self, engine: Engine, errors: Sequence[Exception], *, late: bool = False) -> None:
        super().__init__(engine)
        self._errors = list(errors)
        self._late = late
        self.transactions = 0

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self.transactions += 1
        if self._errors and not self._late:
            raise self._errors.pop()
        with super().transaction() as transaction:
            yield transaction
            if self._errors:
                raise self._errors.pop()


class DoneAndFailedStore(Store):
    """Fails once when the commit is done: a server that dies can say so no more."""

    failed = False

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with super().transaction() as transaction:
            yield transaction
        if not self.failed:
            self.failed = True
            raise locked()


class InterruptedStore(Store):
    """Calls `before` ahead of every transaction."""

    def __init__(self, engine: Engine, *, before: Callable[[], None]) -> None:
        super().__init__(engine)
        self._before = before

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._before()
        with super().transaction() as transaction:
            yield transaction


class CursedTransaction(Transaction):
    """Refuses whatever has the person `cursed` in it."""

    error: Exception

    def write(self, folded: Folded, *, between: Callable[[], None] = lambda: None) -> None:
        super().write(folded)
        if ("jetson_1", "cursed") in folded.people:
            raise self.error


class CursedStore(Store):
    def __init__(self, engine: Engine, error: Exception) -> None:
        super().__init__(engine)
        self._error = error

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._engine.begin() as connection:
            transaction = CursedTransaction(
                connection, self._statements, self._state, latest=datetime.now(UTC), totals_only=False
            )
            transaction.error = self._error
            yield transaction


class Witness(FakeSource):
    """Notes what the database holds at the moment of each acknowledgement and each reply."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self.stored_when_acked: list[dict[tuple[str, str], float]] = []
        self.stored_when_replied: list[dict[tuple[str, str], float]] = []

    def ack(self, messages: Any) -> int:
        self.stored_when_acked.append(happy(self._engine))
        return super().ack(messages)

    def reply(self, message: Any, payload: bytes) -> None:
        self.stored_when_replied.append(happy(self._engine))
        super().reply(message, payload)


def answers(source: FakeSource) -> list[dict[str, Any]]:
    return [json.loads(reply.payload) for reply in source.replies]


def figures(metrics: Metrics) -> dict[str, float]:
    """Return the metrics that are not zero, as Prometheus would read them, without those of the process itself."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if line.startswith("emotion_"))
    return {name: float(value) for name, value in samples if float(value) and "_bucket" not in name}


class TestMetrics:
    @pytest.fixture
    def metrics(self) -> Metrics:
        return Metrics(Heartbeat())

    def count(self, metrics: Metrics, name: str) -> float:
        return figures(metrics).get(f"emotion_{name}", 0)

    def test_a_group_is_counted_by_what_became_of_its_messages(
        self, source: FakeSource, engine: Engine, metrics: Metrics
    ) -> None:
        source.publish(TOPIC, batch(1, anna=1, ben=1))
        source.publish(TOPIC, batch(2, anna=2))
        source.publish(TOPIC, b"bad")
        source.publish(TOPICS.status("jetson_1"), b"online")
        loop(source, Store(engine), metrics=metrics).step()

        assert self.count(metrics, 'messages_total{result="batch"}') == 2
        assert self.count(metrics, 'messages_total{result="rejected"}') == 1
        assert self.count(metrics, 'messages_total{result="status"}') == 1
        assert self.count(metrics, "people_total") == 3
        assert self.count(metrics, "commits_total") == self.count(metrics, "commit_duration_seconds_count") == 1
        assert self.count(metrics, 'device_last_batch_timestamp_seconds{device_id="jetson_1"}') == NOW.timestamp()
        assert self.count(metrics, 'device_clock_skew_seconds{device_id="jetson_1"}') == -3598

    @pytest.mark.parametrize(
        ("topic", "payload", "reason", "device_id"),
        [
            (TOPIC, b"{", "json", "jetson_1"),
            (TOPIC, b"\xff", "json", "jetson_1"),
            (TOPIC, b"{}", "batch", "jetson_1"),
            (TOPIC, batch(0, "jetson_2"), "device_id", "jetson_1"),
            (TOPIC, batch().replace(b"2025", b"soon"), "timestamp", "jetson_1"),
            (TOPIC, batch_of({"a\0b": 1}), "person_id", "jetson_1"),
            (TOPICS.status("jetson_1"), b"perhaps", "status", "jetson_1"),
            (TOPICS.info("jetson_1"), b"[]", "info", "jetson_1"),
            ("emotions/not a device/batch", batch(), "topic", None),
        ],
    )
    def test_what_is_rejected_is_counted_by_reason_and_device(
        self,
        source: FakeSource,
        engine: Engine,
        metrics: Metrics,
        topic: str,
        payload: bytes,
        reason: str,
        device_id: str,
    ) -> None:
        source.publish(topic, payload)
        loop(source, Store(engine), metrics=metrics).step()

        told = {name: value for name, value in figures(metrics).items() if "rejected_messages" in name}
        wanted = {f'emotion_rejected_messages_total{{reason="{reason}"}}': 1.0}
        if device_id:
            wanted[f'emotion_device_rejected_messages_total{{device_id="{device_id}"}}'] = 1.0
        assert told == wanted

    def test_a_device_above_the_limit_is_named_whatever_it_sends(
        self, source: FakeSource, engine: Engine, metrics: Metrics
    ) -> None:
        """Batches, invalid messages and statuses together, of any QoS."""
        clock = Clock(source)
        ingest = loop(source, Store(engine), metrics=metrics, monotonic=clock)
        for number in range(10):
            source.publish(TOPIC, batch(number, anna=number))
            source.publish(TOPIC, b"junk", qos=0)
            source.publish(TOPICS.status("jetson_1"), b"online")
            source.publish(TOPICS.batch("jetson_2"), batch(number, "jetson_2", ben=number))
            source.publish("emotions/not a device/batch", bytes(100_000))
        clock.seconds = 10
        ingest.step()

        told = {name: value for name, value in figures(metrics).items() if "messages_per_second" in name}
        assert told == {'emotion_device_messages_per_second{device_id="jetson_1"}': 3}
        assert 10 < self.count(metrics, 'device_bytes_per_second{device_id="jetson_1"}') < 1_000

    def test_what_the_database_refuses_is_a_reason_of_its_own(
        self, source: FakeSource, engine: Engine, metrics: Metrics
    ) -> None:
        source.publish(TOPIC, batch(cursed=1))
        loop(source, CursedStore(engine, OverflowError("too large")), metrics=metrics).step()

        assert self.count(metrics, 'rejected_messages_total{reason="database"}') == 1

    def test_a_retained_batch_of_unknown_age_is_a_reason_of_its_own(
        self, source: FakeSource, engine: Engine, metrics: Metrics
    ) -> None:
        source.publish(TOPIC, batch().replace(b"2025", b"1970"), retain=True)
        loop(source, Store(engine), metrics=metrics).step()

        assert self.count(metrics, 'rejected_messages_total{reason="retained"}') == 1

    def test_while_commits_fail_it_says_why_and_afterwards_how_often(
        self, source: FakeSource, engine: Engine, metrics: Metrics
    ) -> None:
        failing: list[float] = []
        name = 'database_failing{reason="locked"}'
        source.on_wait = lambda seconds: failing.append(self.count(metrics, name))
        source.publish(TOPIC, batch(anna=1))
        loop(source, FailingStore(engine, [locked()] * 2), metrics=metrics).step()

        assert failing == [1, 1]
        assert self.count(metrics, name) == 0
        assert self.count(metrics, 'commit_failures_total{reason="locked"}') == 2
        assert self.count(metrics, 'messages_total{result="batch"}') == 1

    def test_what_waits_is_what_is_being_stored_too(self, source: FakeSource, engine: Engine, metrics: Metrics) -> None:
        waiting: list[float] = []
        metrics.waiting = lambda: source.waiting
        source.on_wait = lambda seconds: waiting.append(self.count(metrics, "waiting_messages"))
        for number in range(3):
            source.publish(TOPIC, batch(number, anna=1))
        loop(source, FailingStore(engine, [locked()]), metrics=metrics).step()

        assert waiting == [3]
        assert self.count(metrics, "waiting_messages") == 0

    def test_seconds_that_cannot_have_been_shown_are_added_up(
        self, source: FakeSource, engine: Engine, metrics: Metrics
    ) -> None:
        ingest = loop(source, Store(engine), metrics=metrics)
        for second, happy_seconds in ((0, 0.0), (1, 101.0)):
            source.publish(TOPIC, batch(second, anna=happy_seconds))
            ingest.step()

        assert self.count(metrics, "implausible_seconds_total") == pytest.approx(100.0)

    def test_a_clock_that_cannot_be_right_is_counted_and_its_skew_told(
        self, source: FakeSource, engine: Engine, metrics: Metrics
    ) -> None:
        source.publish(TOPIC, batch().replace(b"2025", b"1970"))
        loop(source, Store(engine), metrics=metrics).step()

        assert self.count(metrics, "restamped_batches_total") == 1
        assert self.count(metrics, 'device_clock_skew_seconds{device_id="jetson_1"}') < -1e9

    def test_no_person_is_in_it(self, source: FakeSource, engine: Engine, metrics: Metrics) -> None:
        source.publish(TOPIC, batch(unmistakable=1))
        source.publish(TOPIC, batch(1, cursed_unmistakable=1).replace(b"1.0", b"-1"))
        source.publish(TOPIC, batch_of({"unmistakable\0": 1}))
        loop(source, Store(engine), metrics=metrics).step()

        assert b"unmistakable" not in generate_latest(metrics.registry)


class TestRetention:
    class Fake(Retention):
        """Has so many steps to do."""

        def __init__(self, steps: int) -> None:
            self.left = steps
            self.idle: list[bool] = []

        @property
        def is_due(self) -> bool:
            return self.left > 0

        def step(self, *, idle: bool) -> None:
            self.idle.append(idle)
            self.left -= 1

    def test_while_there_is_something_to_delete_nothing_is_waited_for_and_batches_come_first(
        self, source: FakeSource, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        timeouts: list[float] = []
        receive = source.receive

        def noted(*, timeout: float) -> list[Message]:
            timeouts.append(timeout)
            return receive(timeout=timeout)

        monkeypatch.setattr(source, "receive", noted)
        retention = self.Fake(2)
        ingest = Ingest(
            source=source,
            store=Store(engine),
            topics=TOPICS,
            report=Report(),
            retention=retention,
            now=lambda: NOW,
        )
        source.publish(TOPIC, batch(1, anna=1))
        for _ in range(3):
            ingest.step()

        assert timeouts == [0, 0, IDLE_SECONDS]
        assert retention.idle == [False, True, True]
        assert happy(engine) == {("jetson_1", "anna"): 1}

    def test_a_pass_goes_on_between_batches(self, source: FakeSource, engine: Engine) -> None:
        """With messages at each step: one begins the pass, and each of the next deletes 200."""
        clock = [0.0]
        store = Store(engine, now=lambda: NOW)
        with store.transaction() as transaction:
            people = {str(each): Cumulative() for each in range(500)}
            transaction.write(fold([Batch("a", NOW - timedelta(days=40), people, None), Batch("b", NOW, {}, NOW)]))
        retention = Retention(
            store,
            report=Report(),
            people_days=30,
            history_days=None,
            now=lambda: NOW + timedelta(seconds=clock[0]),
            monotonic=lambda: clock[0],
        )
        ingest = Ingest(
            source=source, store=store, topics=TOPICS, report=Report(), retention=retention, now=lambda: NOW
        )
        clock[0] = SETTLE_SECONDS
        left = []
        for second in range(1, 5):
            source.publish(TOPIC, batch(second, anna=second))
            ingest.step()
            clock[0] += BUSY_SECONDS
            left.append(len(happy(engine)))

        assert left == [501, 301, 101, 1]
        assert happy(engine) == {("jetson_1", "anna"): 4}
