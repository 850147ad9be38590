"""Messages that are no batch, and odd ones that are, among good ones of one group: the kinds stand in poison.py."""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path
from typing import NamedTuple, Unpack

import psutil
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from sqlalchemy import select

from emotion_daemon.storage.dead_letters import STORED_TOPIC
from shared.batch import encode
from shared.schema import rejected_message
from tests.brokers import Broker
from tests.clients import Client, How
from tests.databases import reading
from tests.faults.conftest import Rounds
from tests.faults.history import START, TOPICS, PersonKey, Row, stored_rows
from tests.faults.poison import KINDS, LEVEL, NUMBERS, TEXTS, Poison, crowd, of_crowd
from tests.faults.rig import MAX_RESIDENT_BYTES, PROBE, SUBSCRIBED, integrity, locked, person_is_stored
from tests.processes import Daemon
from tests.waiting import wait_until

GOOD = 249
PLACES = 3
"""First, somewhere in between, last."""

LARGE_PACKETS = "max_packet_size 200000000"
"""For the broker: what is too large for the daemon has to get there first, and Mosquitto 2.1 stops at 2 MB."""


LOCKED_SECONDS = 8.0

FOREIGN_TOPICS = (
    "emotions/jetson_1/reply",
    "emotions/jetson_1/batch",
    "emotions/emotion-daemon/status",
    "emotions",
    "/",
    "x" * 60_000,
)
STATUS_AND_PROBES = (TOPICS.status("emotion-daemon"), TOPICS.batch(PROBE))


class Expected(NamedTuple):
    """A row that has to be stored; its timestamp may be off by so much."""

    row: Row
    tolerance: timedelta = timedelta(0)

    def is_met_by(self, stored: Row) -> bool:
        return stored[:4] == self.row[:4] and abs(stored.last_seen - self.row.last_seen) <= self.tolerance


class Refusal(NamedTuple):
    """The record of a message that was refused."""

    topic: str
    payload_size: int
    reason: str


class Scene:
    """A daemon and a client that publishes to it; knows what has to become of what was published."""

    def __init__(self, daemon: Daemon, url: str, devices: Client) -> None:
        self.daemon = daemon
        self.devices = devices
        self._url = url
        self._numbers = count(1)
        self._expected: dict[PersonKey, Expected] = {}
        self._refused: list[Refusal] = []

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let the messages that are published in the block wait for the daemon; at its end they were handled."""
        with stopped(self.daemon):
            yield
            self.devices.wait_for_pubacks()
        person = f"probe {next(self._numbers)}"
        self.devices.send(TOPICS.batch(PROBE), encode(PROBE, START, {person: {}}))
        wait_until(
            lambda: person_is_stored(self._url, PROBE, person),
            what=f"the daemon handles everything; its log ends:\n{self.daemon.log()[-3_000:]}",
        )

    def send_good(self, number: int) -> None:
        """Publish `number` good batches, each with a person of its own."""
        for _ in range(number):
            n = next(self._numbers)
            self.devices.send(TOPICS.batch("good"), encode("good", START, {str(n): {"happy": n / 8, "sad": float(n)}}))
            self._expected["good", str(n)] = Expected(Row(n / 8, float(n), 0.0, 0.0, START))

    def send_poison(self, poison: Poison, *, device_id: str = "", **how: Unpack[How]) -> str:
        """Publish it, as a device of its own unless told which, `how` as in Client.send; and return the topic."""
        device_id = device_id or f"kind_{next(self._numbers)}"
        topic, payload = TOPICS.batch(poison.level.replace(LEVEL, device_id)), poison.payload(device_id)
        self.devices.send(topic, payload, **how)
        if poison.people is None:
            self._refused.append(Refusal(topic[:STORED_TOPIC], len(payload), poison.reason))
        for person_id, seconds in (poison.people or {}).items():
            row = Row(*seconds, poison.stamp or datetime.now(UTC))
            tolerance = timedelta(minutes=0 if poison.stamp else 5)
            self._expected[device_id, person_id] = Expected(row, tolerance)
        return topic

    def check(self) -> None:
        """Check that valid batches are stored, that the rest is on record once, and that there is nothing else."""
        stored = {key: row for key, row in stored_rows(self._url).items() if key[0] != PROBE}
        assert not self._expected.keys() - stored.keys(), "lost"
        assert not [key for key, row in stored.items() if not self._is_expected(key, row)], "wrong"
        recorded = refusals(self._url)
        assert [entry[:2] for entry in recorded] == [entry[:2] for entry in self._refused]
        for entry, expected in zip(recorded, self._refused, strict=True):
            assert expected.reason in entry.reason, entry.topic
        assert integrity(self._url) == "ok"
        assert not self.daemon.ended
        print(f"{len(stored)} rows, {len(recorded)} refused, {self.daemon.peak_memory() / 2**20:.0f} MiB at most")
        assert self.daemon.peak_memory() < MAX_RESIDENT_BYTES

    def _is_expected(self, key: PersonKey, row: Row) -> bool:
        return key in self._expected and self._expected[key].is_met_by(row)


@contextmanager
def running(broker: Broker, url: str, log: Path) -> Iterator[Scene]:
    with Daemon(broker, url, log) as daemon, Client(broker, "devices") as devices:
        daemon.wait_for_log(SUBSCRIBED)
        yield Scene(daemon, url, devices)


@pytest.fixture
def scene(start_broker: Callable[[str], Broker], database_url: str, tmp_path: Path) -> Iterator[Scene]:
    """On SQLite and on PostgreSQL: for what the database may refuse."""
    with running(start_broker(LARGE_PACKETS), database_url, tmp_path / "log") as scene:
        yield scene


@pytest.fixture
def sqlite_scene(start_broker: Callable[[str], Broker], sqlite_url: str, tmp_path: Path) -> Iterator[Scene]:
    """For what does not concern the database."""
    with running(start_broker(LARGE_PACKETS), sqlite_url, tmp_path / "log") as scene:
        yield scene


def test_one_bad_message_stops_none_of_249_good_ones(
    scene: Scene, rounds: Rounds, request: pytest.FixtureRequest
) -> None:
    kinds = list(KINDS.values())
    random.Random(request.config.getoption("--seed")).shuffle(kinds)
    for turn, chance in enumerate(rounds(6, full=PLACES * len(kinds))):
        place = (0, chance.randint(1, GOOD - 1), GOOD)[(turn + turn // len(kinds)) % PLACES]
        with scene.together():
            scene.send_good(place)
            scene.send_poison(kinds[turn % len(kinds)])
            scene.send_good(GOOD - place)

    scene.check()


def test_all_kinds_together_stop_no_good_one(scene: Scene, rounds: Rounds) -> None:
    for chance in rounds(1, full=5):
        kinds = list(KINDS.values())
        chance.shuffle(kinds)
        with scene.together():
            for poison in kinds:
                scene.send_poison(poison)
                scene.send_good(2)

    scene.check()


def test_large_batches_stay_within_memory_while_nothing_can_be_stored(sqlite_scene: Scene, sqlite_url: str) -> None:
    with sqlite_scene.together():
        pass  # the daemon is in its loop, and does not open the database for the first time
    with locked(sqlite_url):
        end = time.monotonic() + LOCKED_SECONDS
        for _ in range(25):
            sqlite_scene.send_poison(Poison(crowd(100, spaces=10_000_000), people=of_crowd(100)))
        sqlite_scene.devices.wait_for_pubacks()
        wait_until(lambda: time.monotonic() > end, what="the lock was held for long enough")
    with sqlite_scene.together():
        pass

    sqlite_scene.check()


def test_the_largest_batches_in_one_group_are_stored(scene: Scene, request: pytest.FixtureRequest) -> None:
    people = 100_000 if request.config.getoption("--full") else 10_000
    with scene.together():
        for _ in range(5):
            scene.send_poison(Poison(crowd(people), people=of_crowd(people)))

    scene.check()


def test_whoever_sends_poison_and_asks_is_told_what_is_wrong_with_it(sqlite_scene: Scene) -> None:
    mine, correlation_data = TOPICS.reply("mine"), bytes(range(256)) * 255
    sqlite_scene.devices.listen(f"{mine}/#")
    kinds = [KINDS[name] for name in ("NaN", "NUL in a person's id", "bad UTF-8", "nothing", "a comment")]
    with sqlite_scene.together():
        for poison in kinds:
            sqlite_scene.send_poison(poison, device_id="mine", response_topic=mine, correlation_data=correlation_data)

    wait_until(lambda: len(sqlite_scene.devices.seen) == len(kinds), what="every message is answered")
    for poison, seen in zip(kinds, sqlite_scene.devices.seen, strict=True):
        answer = json.loads(seen.payload)
        assert answer["status"] == "error"
        assert poison.reason in answer["error"]
        assert seen.correlation_data == correlation_data
    sqlite_scene.check()


def test_an_answer_goes_nowhere_but_to_the_device(sqlite_scene: Scene) -> None:
    sqlite_scene.devices.listen("#")
    topics = []
    with sqlite_scene.together():
        for response_topic in FOREIGN_TOPICS:
            for name in ("NaN", "no offset"):
                topics.append(sqlite_scene.send_poison(KINDS[name], response_topic=response_topic))

    published = [seen.topic for seen in sqlite_scene.devices.seen if seen.topic not in STATUS_AND_PROBES]
    assert published == topics
    sqlite_scene.check()


def test_poison_sent_in_another_way_stops_nothing(sqlite_scene: Scene) -> None:
    ways: list[How] = [{"qos": 0}, {"qos": 2}, {"retain": True}]
    with sqlite_scene.together():
        for poison, how in product([KINDS["nothing"], *NUMBERS.values(), *TEXTS.values()], ways):
            sqlite_scene.send_poison(poison, **how)
            sqlite_scene.devices.wait_for_pubacks()  # the broker takes 20 at a time of QoS 2
            sqlite_scene.send_good(1)

    sqlite_scene.check()


def test_odd_properties_change_nothing(sqlite_scene: Scene) -> None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [("device_id", "jetson_9"), ("\ud7ff", "x" * 60_000)]
    properties.PayloadFormatIndicator = 1
    properties.ContentType = "application/x-msgpack"
    properties.MessageExpiryInterval = 0xFFFFFFFF
    with sqlite_scene.together():
        for poison in (KINDS["bad UTF-8"], KINDS["no offset"]):
            sqlite_scene.send_poison(poison, properties=properties)
            sqlite_scene.send_good(1)

    sqlite_scene.check()


class Packed(Properties):
    """Properties of a PUBLISH that are sent as these bytes: paho itself would take a minute to pack 120,000."""

    packed: bytes

    def __init__(self, packed: bytes) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        object.__setattr__(self, "packed", packed)  # paho's own takes no names that MQTT does not have

    def pack(self) -> bytes:
        return bytes(VariableByteIntegers.encode(len(self.packed))) + self.packed


@pytest.mark.parametrize(
    "properties",
    [
        b"\x26\x00\x04note\x00\x08" + "\ufeffhello".encode(),
        b"\x03\x00\x08" + "\ufeffhello".encode(),
        b"\x26\x00\x00\x00\x00" * 120_000,
    ],
    ids=["U+FEFF in a user property", "U+FEFF as content type", "120,000 user properties"],
)
def test_properties_that_paho_does_not_take_hold_up_nothing(properties: bytes, sqlite_scene: Scene) -> None:
    with sqlite_scene.together():
        sqlite_scene.send_poison(KINDS["no offset"], properties=Packed(properties))
        sqlite_scene.send_good(1)

    sqlite_scene.check()


@contextmanager
def stopped(daemon: Daemon) -> Iterator[None]:
    """The daemon does nothing for the block."""
    daemon.signal(signal.SIGSTOP)
    process = psutil.Process(daemon.pid)
    try:
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="the daemon is stopped")
        yield
    finally:
        daemon.signal(signal.SIGCONT)


def refusals(url: str) -> list[Refusal]:
    """Return the records in the order of receipt."""
    table = rejected_message.c
    query = select(table.topic, table.payload_size, table.reason).order_by(table.id)
    with reading(url) as connection:
        return [Refusal(*row) for row in connection.execute(query)]
