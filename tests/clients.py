"""A device or an onlooker: an ordinary MQTT 5 client on a thread of its own."""

import threading
import time
from types import TracebackType
from typing import NamedTuple, TypedDict, Unpack

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.brokers import Broker
from tests.waiting import DEADLINE_SECONDS, wait_until


class Seen(NamedTuple):
    topic: str
    payload: bytes
    retained: bool
    correlation_data: bytes | None
    at: float
    """Monotonic seconds."""


class How(TypedDict, total=False):
    """Options for sending a message: by default QoS 1 and none of these."""

    qos: int
    retain: bool
    response_topic: str | None
    correlation_data: bytes | None
    properties: Properties


class Client:
    """Connected from the start of the block to its end, reconnecting in between.

    `seen` has what arrived on the topics it listens to, `acknowledged` what the broker has sent a PUBACK for,
    and `history` the same with the time of it (monotonic seconds). If the broker wants a login, its name is the client
    id, and its password is `password` or else the broker's.
    """

    def __init__(self, broker: Broker, client_id: str = "", *, password: str | None = None) -> None:
        self._broker = broker
        self._connected = threading.Event()
        self._granted = threading.Event()
        self._lock = threading.Lock()
        self._under_way: dict[int, bytes] = {}
        self._too_early: dict[int, ReasonCode] = {}
        self.seen: list[Seen] = []
        self.history: list[tuple[float, bytes]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        if (known := password or broker.password) is not None:
            self._client.username_pw_set(client_id, known)
        if broker.ca is not None:
            self._client.tls_set(str(broker.ca))
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.max_inflight_messages_set(100)
        self._client.on_connect = lambda *_: self._connected.set()
        self._client.on_disconnect = lambda *_: self._connected.clear()
        self._client.on_subscribe = lambda *_: self._granted.set()
        self._client.on_publish = lambda client, userdata, packet_id, reason, *_: self._on_puback(packet_id, reason)
        self._client.on_message = self._on_message

    def __enter__(self) -> "Client":
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        assert self._connected.wait(DEADLINE_SECONDS), "the broker did not answer"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def listen(self, topic_filter: str) -> None:
        self._granted.clear()
        self._client.subscribe(topic_filter, qos=1)
        assert self._granted.wait(DEADLINE_SECONDS), "the broker did not confirm the subscription"

    def send(self, topic: str, payload: bytes, **how: Unpack[How]) -> None:
        """Hand a message to the client, which sends it when it can."""
        properties = how.get("properties") or Properties(PacketTypes.PUBLISH)
        if (response_topic := how.get("response_topic")) is not None:
            properties.ResponseTopic = response_topic
        if (correlation_data := how.get("correlation_data")) is not None:
            properties.CorrelationData = correlation_data
        qos, retain = how.get("qos", 1), how.get("retain", False)
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        with self._lock:
            if info.mid in self._too_early:
                self._note(payload, self._too_early.pop(info.mid))
            else:
                self._under_way[info.mid] = payload

    def publish(self, topic: str, payload: bytes, **how: Unpack[How]) -> None:
        """Send a message and wait until the broker has it."""
        self.send(topic, payload, **how)
        self.wait_for_pubacks()

    def wait_for_pubacks(self) -> None:
        wait_until(lambda: not self._under_way, what="the broker acknowledged everything")

    @property
    def acknowledged(self) -> list[bytes]:
        return [payload for _, payload in self.history]

    @property
    def under_way(self) -> int:
        """Return the number of messages that the broker has not acknowledged yet."""
        return len(self._under_way)

    def _on_puback(self, packet_id: int, reason: ReasonCode) -> None:
        with self._lock:
            if packet_id not in self._under_way:
                self._too_early[packet_id] = reason  # faster than publish() could return
            else:
                self._note(self._under_way.pop(packet_id), reason)

    def _note(self, payload: bytes, reason: ReasonCode) -> None:
        if not reason.is_failure:  # "Not authorized" is a PUBACK, too
            self.history.append((time.monotonic(), payload))

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        correlation_data: bytes | None = getattr(message.properties, "CorrelationData", None)
        self.seen.append(
            Seen(message.topic, bytes(message.payload), message.retain, correlation_data, time.monotonic())
        )
