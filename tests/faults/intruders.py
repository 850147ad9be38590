"""An intruder: an MQTT client that takes every refusal without a word, and remembers what it was sent."""

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
from tests.faults.history import TOPICS
from tests.waiting import wait_until

ONLOOKER = "onlooker"
"""The login that tests.brokers.allow_listening lets read everything."""

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
        self._end_reason = ""
        self._reasons: list[ReasonCode] = []
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
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = lambda client, userdata, mid, reasons, properties: self._reasons.extend(reasons)
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
        """Return True if the broker has ended the connection."""
        return self._ended.is_set()

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, response_topic: str = ""
    ) -> None:
        """Publish, and wait until the broker answers or hangs up. Raises AssertionError if it had hung up before."""
        assert not self.ended, f"the connection ended before the message was sent: {self._end_reason}"
        properties = Properties(PacketTypes.PUBLISH) if self._protocol == V5 else None
        if properties is not None and response_topic:
            properties.ResponseTopic = response_topic
            properties.CorrelationData = payload
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        wait_until(lambda: info.is_published() or self._ended.is_set(), what="the broker answers or hangs up")

    def subscribe(self, topic_filter: str) -> int | None:
        """Subscribe, and return the SUBACK's reason code; None if the broker hung up."""
        self._reasons.clear()
        self._client.subscribe(topic_filter, qos=1)
        wait_until(lambda: bool(self._reasons) or self._ended.is_set(), what="the broker answers or hangs up")
        return self._reasons[0].value if self._reasons else None

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

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._end_reason = (
            f"{reason}, {'by the broker' if flags.is_disconnect_packet_from_server else 'by no DISCONNECT'}"
        )
        self._ended.set()

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        self.seen.append((message.topic, bytes(message.payload)))


class Hoarder:
    """A device with all that it can have at the broker: a session, a queue, retained messages and a delayed will."""

    def __init__(self, broker: Broker, device_id: str, password: str) -> None:
        self.session_present: bool | None = None
        self._topics = [TOPICS.batch(device_id), TOPICS.status(device_id)]
        self._reply = TOPICS.reply(device_id)
        self._seen: list[str] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, device_id, protocol=V5, reconnect_on_failure=False)
        self._client.username_pw_set(device_id, password)
        will = Properties(PacketTypes.WILLMESSAGE)
        will.WillDelayInterval = 2
        self._client.will_set(TOPICS.status(device_id), "offline", qos=1, retain=True, properties=will)
        self._client.on_connect = self._on_connect
        self._client.on_message = lambda client, userdata, message: self._seen.append(message.topic)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0xFFFFFFFF  # never
        self._client.connect(broker.host, broker.port, clean_start=False, properties=properties)
        wait_until(lambda: self._loop() and self.session_present is not None, what="the device is connected")

    def hoard(self) -> None:
        """Subscribe to replies, and publish a retained message on each of the device's topics."""
        self._client.subscribe(self._reply, qos=1)
        sent = [self._client.publish(topic, b"{}", qos=1, retain=True) for topic in self._topics]
        wait_until(lambda: self._loop() and all(each.is_published() for each in sent), what="both are retained")

    def heard(self, topic_filter: str) -> list[str]:
        """Subscribe, and return the topics of all messages that the broker has had for the device."""
        granted = threading.Event()
        self._client.on_subscribe = lambda *_: granted.set()
        for _ in range(2):  # once the second is granted, what the first one brings was delivered
            granted.clear()
            self._client.subscribe(topic_filter, qos=1)
            wait_until(lambda: self._loop() and granted.is_set(), what="the broker answers")
        return self._seen

    def drop(self) -> None:
        """End the connection without a DISCONNECT."""
        sock = self._client.socket()
        assert sock is not None
        sock.close()

    def _loop(self) -> bool:
        self._client.loop(0.05)
        return True

    def _on_connect(self, client: mqtt.Client, userdata: object, flags: mqtt.ConnectFlags, *_: object) -> None:
        self.session_present = flags.session_present
