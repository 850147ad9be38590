"""Whoever wants in: an MQTT client that takes every refusal without a word, and remembers what it was sent."""

import socket
import threading
from pathlib import Path
from types import TracebackType

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.brokers import Broker
from tests.waiting import wait_until

ONLOOKER = "onlooker"
ONLOOKERS_ACCESS = f"user {ONLOOKER}\ntopic read #\n"
"""For an access list: what a device smuggles past it is delivered to the onlooker."""

V31, V311, V5 = MQTTProtocolVersion.MQTTv31, MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5


class Intruder:
    """Connected for the block if the broker lets it in; `let_in` tells. `seen` has (topic, payload)."""

    def __init__(
        self,
        broker: Broker,
        username: str | None = None,
        password: str | None = None,
        *,
        client_id: str = "intruder",
        protocol: MQTTProtocolVersion = V5,
        will: tuple[str, bytes, bool] | None = None,
        ca: Path | None = None,
    ) -> None:
        self._broker = broker
        self._ended = threading.Event()
        self._answered = threading.Event()
        self._granted = threading.Event()
        self._protocol = protocol
        self.let_in = False
        self.seen: list[tuple[str, bytes]] = []
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=protocol, reconnect_on_failure=False
        )
        if username is not None:
            self._client.username_pw_set(username, password)
        if will is not None:
            topic, payload, retain = will
            self._client.will_set(topic, payload, qos=1, retain=retain)
        if ca is not None:
            self._client.tls_set(str(ca))
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self._ended.set()
        self._client.on_subscribe = lambda *_: self._granted.set()
        self._client.on_message = self._on_message

    def __enter__(self) -> "Intruder":
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        wait_until(lambda: self._answered.is_set() or self._ended.is_set(), what="the broker answers or hangs up")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def ended(self) -> bool:
        """Whether the broker has ended the connection."""
        return self._ended.is_set()

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, response_topic: str = ""
    ) -> None:
        """Publish, and wait until the broker has answered or hung up."""
        properties = Properties(PacketTypes.PUBLISH) if self._protocol == V5 else None
        if properties is not None and response_topic:
            properties.ResponseTopic = response_topic
            properties.CorrelationData = payload
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        wait_until(lambda: info.is_published() or self._ended.is_set(), what="the broker answers or hangs up")

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe, and wait until the broker has answered, whatever it says, or hung up."""
        self._granted.clear()
        self._client.subscribe(topic_filter, qos=1)
        wait_until(lambda: self._granted.is_set() or self._ended.is_set(), what="the broker answers or hangs up")

    def drop(self) -> None:
        """End the connection without a DISCONNECT, so that the broker publishes the will."""
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            sock.shutdown(socket.SHUT_RDWR)
            wait_until(self._ended.is_set, what="the connection is gone")

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.let_in = not reason.is_failure
        self._answered.set()

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        self.seen.append((message.topic, bytes(message.payload)))
