"""The waits of other devices while one device floods the broker with invalid messages, and without the flood."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ctypes import c_int
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sqlalchemy import func, select

from benchmarks.backlog import TOPICS
from benchmarks.load import publishing
from benchmarks.report import Report, Waits
from shared.batch import encode
from shared.schema import rejected_message
from tests.brokers import Broker
from tests.databases import reading
from tests.processes import ROOT, Daemon
from tests.waiting import wait_until

OTHERS = 5
FLOODER, CLUMSY = "flooder", "clumsy"

DEAD_LETTERS = 20
"""Invalid messages that another device sends before the flood; they have to stay stored."""

UNDER_WAY = 2_000
"""Messages of QoS 1 that the flooder sends ahead of their PUBACKs."""

LIMIT_SECONDS = 30.0
"""The longest time for which the benchmark waits for the last PUBACK and the last reply."""


class Measured(NamedTuple):
    """The others' waits in seconds, and what the flood took."""

    pubacks: list[float]
    replies: list[float]
    missing_replies: int
    costs: Mapping[str, float]


def run(report: Report, *, rate: int, size: int, seconds: int, rounds: int) -> None:
    """The waits of 5 devices with a batch a second each, without a flood and during one of QoS 1 and of QoS 0.

    The flood is `rate` messages of `size` bytes a second from one device. Raises AssertionError if a batch of another
    device gets no PUBACK, or if another device's dead letters are deleted.
    """
    waits = Waits(without="no flood")
    costs: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for name, qos in (("no flood", None), ("QoS 1", 1), ("QoS 0", 0)):
            report.progress(f"flood, {name}: round {number}")
            with tempfile.TemporaryDirectory() as folder:
                measured = _measure(Path(folder), qos, rate=rate, size=size, seconds=seconds)
            waits.add(name, "PUBACK", measured.pubacks)
            waits.add(name, "reply", measured.replies)
            for what, value in {"missing replies": measured.missing_replies, **measured.costs}.items():
                costs.setdefault(f"{name}: {what}", []).append(value)
    parameters = {"messages/s": rate, "bytes": size, "other devices": OTHERS}
    waits.report(report, "flood", parameters)
    report.add("flood", parameters, "", costs)


def _measure(folder: Path, qos: int | None, *, rate: int, size: int, seconds: int) -> Measured:
    shipped = (ROOT / "mosquitto.conf").read_text()
    broker = Broker(folder, "\n".join(re.findall(r"^max_\w+ \d+$", shipped, re.MULTILINE)))
    url = f"sqlite:///{folder}/emotion.db"
    with ExitStack() as stack:
        broker.start()
        stack.callback(broker.kill)
        daemon = stack.enter_context(Daemon(broker, url, folder / "log"))
        daemon.wait_for_log(" connected to ")
        _send_dead_letters(broker, url)
        devices = [stack.enter_context(_Device(broker, f"other_{number}")) for number in range(OTHERS)]
        flooded = stack.enter_context(_flood(broker, qos, rate, size))
        before = flooded()
        largest = _publish(devices, seconds, psutil.Process(broker.pid))
        achieved = (flooded() - before) / seconds
        wait_until(lambda: not any(each.unacknowledged for each in devices), seconds=LIMIT_SECONDS, what="PUBACKs")
        end = time.monotonic() + LIMIT_SECONDS
        while any(each.unanswered for each in devices) and time.monotonic() < end:
            time.sleep(0.1)
        assert _dead_letters(url) == DEAD_LETTERS, "another device's dead letters are gone"
        return Measured(
            [wait for each in devices for wait in each.pubacks],
            [wait for each in devices for wait in each.replies],
            sum(len(each.unanswered) for each in devices),
            {
                "messages/s": achieved,
                "MB of the daemon": daemon.peak_memory() / 1e6,
                "MB of the broker": largest / 1e6,
                "MB of the database": sum(file.stat().st_size for file in folder.glob("emotion.db*")) / 1e6,
            },
        )


def _publish(devices: list["_Device"], seconds: int, broker: psutil.Process) -> int:
    """Have each device publish a batch a second, in turn. Returns the broker's largest resident set."""
    began, largest = time.monotonic(), 0
    for number in range(seconds * len(devices)):
        time.sleep(max(0.0, began + number / len(devices) - time.monotonic()))
        devices[number % len(devices)].publish()
        largest = max(largest, broker.memory_info().rss)
    return largest


class _Device:
    """A device that asks for replies. Its waits are in seconds."""

    def __init__(self, broker: Broker, device_id: str) -> None:
        self._broker, self._id = broker, device_id
        self.unacknowledged: dict[int, float] = {}
        self.unanswered: dict[bytes, float] = {}
        self.pubacks: list[float] = []
        self.replies: list[float] = []
        self._batches = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device_id, protocol=mqtt.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(TOPICS.reply(device_id))
        self._client.on_publish = lambda client, userdata, mid, *_: self._on_puback(mid)
        self._client.on_message = lambda client, userdata, message: self._on_reply(message)

    def __enter__(self) -> "_Device":
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        wait_until(self._client.is_connected, seconds=LIMIT_SECONDS, what="a device is connected")
        return self

    def __exit__(self, *error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self) -> None:
        self._batches += 1
        correlation_data = str(self._batches).encode()
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = TOPICS.reply(self._id)
        properties.CorrelationData = correlation_data
        payload = encode(self._id, datetime.now(UTC), {"1": {"happy": float(self._batches)}})
        now = time.monotonic()
        self.unanswered[correlation_data] = now
        # paho numbers its messages from 1, so the packet id is known before the PUBACK can come.
        self.unacknowledged[self._batches + 1] = now
        info = self._client.publish(TOPICS.batch(self._id), payload, qos=1, properties=properties)
        assert info.mid == self._batches + 1  # 1 was the SUBSCRIBE

    def _on_puback(self, packet_id: int) -> None:
        self.pubacks.append(time.monotonic() - self.unacknowledged.pop(packet_id))

    def _on_reply(self, message: mqtt.MQTTMessage) -> None:
        correlation_data = getattr(message.properties, "CorrelationData", b"")
        self.replies.append(time.monotonic() - self.unanswered.pop(correlation_data))


@contextmanager
def _flood(broker: Broker, qos: int | None, rate: int, size: int) -> Iterator[Callable[[], int]]:
    """Publish invalid messages from a process during the block, none if `qos` is None. Yield a count of those sent."""
    if qos is None:
        yield lambda: 0
        return
    with publishing(_publish_invalid, broker.port, qos, rate, size, at_least=rate) as sent:
        yield sent


def _publish_invalid(port: int, qos: int, rate: int, size: int, sent: c_int) -> None:
    acknowledged = 0

    def on_publish(*_: object) -> None:
        nonlocal acknowledged
        acknowledged += 1

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=FLOODER, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(UNDER_WAY)
    client.on_publish = on_publish
    client.connect(Broker.host, port)
    client.loop_start()
    payload, began = b"x" * size, time.perf_counter()
    while True:
        while sent.value - acknowledged > UNDER_WAY:
            time.sleep(0.001)
        client.publish(TOPICS.batch(FLOODER), payload, qos=qos)
        sent.value += 1
        early = began + sent.value / rate - time.perf_counter()
        if early > 0.001:
            time.sleep(early)


def _send_dead_letters(broker: Broker, url: str) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=CLUMSY, protocol=mqtt.MQTTv5)
    client.connect(broker.host, broker.port)
    client.loop_start()
    for number in range(DEAD_LETTERS):
        client.publish(TOPICS.batch(CLUMSY), str(number).encode(), qos=1)
    wait_until(lambda: _dead_letters(url) == DEAD_LETTERS, seconds=60, what="the dead letters are stored")
    client.disconnect()
    client.loop_stop()


def _dead_letters(url: str) -> int:
    query = select(func.count()).where(rejected_message.c.topic == TOPICS.batch(CLUMSY))
    with reading(url) as connection:
        return connection.scalar(query) or 0
