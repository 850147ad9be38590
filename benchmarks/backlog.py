"""Fills a broker with batches that wait for sessions which are not connected."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sqlalchemy import Connection, select

from shared.batch import Topics, encode
from shared.schema import device
from tests.brokers import Broker

TOPICS = Topics("emotions")
START = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
IN_FLIGHT = 1_000
LAST_DEVICE = "zz_last"


def batches(messages: int, *, devices: int, people: int, name: str = "camera") -> Iterator[tuple[str, bytes]]:
    """(topic, payload) of `messages` batches, the devices `name`_0 … in turn, each a second later than its last."""
    for number in range(messages):
        device_id = f"{name}_{number % devices}"
        turn = number // devices
        yield (
            TOPICS.batch(device_id),
            encode(device_id, START + timedelta(seconds=turn), {str(n): seconds(turn, n) for n in range(people)}),
        )


def last_batch(device_id: str = LAST_DEVICE) -> Iterator[tuple[str, bytes]]:
    """The one batch of `device_id`, which ends a backlog: when it is stored, all is."""
    yield TOPICS.batch(device_id), encode(device_id, START, {})


def is_last_stored(connection: Connection, device_id: str = LAST_DEVICE) -> bool:
    """Return True if `last_batch` is in the database by now."""
    with connection.begin():
        return bool(connection.scalar(select(device.c.device_id).where(device.c.device_id == device_id)))


SHOWN_A_TURN = 0.75
"""Seconds that each person's counters grow between two batches of a device."""


def seconds(turn: int, person: int) -> dict[str, float]:
    """Return a person's counters in a device's batch number `turn`; those of the last turn have to be stored."""
    return {"happy": turn / 2 + person / 8, "sad": turn / 4, "angry": float(person)}


def connect_properties(receive_maximum: int) -> Properties:
    """A session that stays, with the daemon's window."""
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 0xFFFFFFFF
    properties.ReceiveMaximum = receive_maximum
    return properties


def open_session(broker: Broker, client_id: str) -> None:
    """Subscribe as `client_id` and disconnect: from now on the broker keeps what is published."""
    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe(TOPICS.batch_filter, qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(broker.host, broker.port, clean_start=False, properties=connect_properties(1_000))
    client.loop_start()
    assert subscribed.wait(10), "the broker did not confirm the subscription"
    client.disconnect()
    client.loop_stop()


def publish(broker: Broker, messages: Iterator[tuple[str, bytes]]) -> int:
    """Publish at QoS 1 and return how many the broker acknowledged: all, or this raises AssertionError."""
    window = threading.Semaphore(IN_FLIGHT)
    sent = acknowledged = 0
    done = threading.Condition()

    def on_publish(*_: object) -> None:
        nonlocal acknowledged
        window.release()
        with done:
            acknowledged += 1
            done.notify()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="publisher", protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(IN_FLIGHT)
    client.on_publish = on_publish
    client.connect(broker.host, broker.port)
    client.loop_start()
    for topic, payload in messages:
        assert window.acquire(timeout=30), "the broker stopped acknowledging"
        client.publish(topic, payload, qos=1)
        sent += 1
    with done:
        assert done.wait_for(lambda: acknowledged == sent, timeout=60), f"{acknowledged} of {sent} acknowledged"
    client.disconnect()
    client.loop_stop()
    return acknowledged
