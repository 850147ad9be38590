"""One connection to the broker, to see what it says. Imports paho.

It acknowledges nothing, has no will and publishes nothing. Of a session that it finds it gets at most one message of
QoS 1, which the broker sends again on the next connection. A session that it had to make is gone with it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from emotion_admin.doctor.connack import FOREVER, Answer
from emotion_daemon.mqtt.subscriber import KEEPALIVE_SECONDS, MAX_PACKET_BYTES

ANSWER_SECONDS = 5.0


def connect(
    host: str,
    port: int,
    *,
    client_id: str,
    username: str | None = None,
    password: str | None = None,
    tls_ca: Path | None = None,
    resume: bool = False,
    seconds: float,
    retained_topic: str | None = None,
) -> Answer:
    """Connect, stay for `seconds` if let in, and disconnect. Raises nothing for what a broker or a network does.

    With `resume` it is the session that the daemon would get, else one that ends with the connection. With
    `retained_topic` it ends earlier, with the message that is retained there.
    """
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5, manual_ack=True)
    client.connect_timeout = ANSWER_SECONDS
    if username is not None:
        client.username_pw_set(username, password)
    if tls_ca is not None:
        client.tls_set(ca_certs=str(tls_ca))
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = FOREVER if resume else 0
    properties.ReceiveMaximum = 1
    properties.MaximumPacketSize = MAX_PACKET_BYTES  # the broker would throw away what is larger than we say
    seen = _Seen(client, retained_topic)
    try:
        client.connect(host, port, KEEPALIVE_SECONDS, clean_start=not resume, properties=properties)
    except (OSError, ValueError) as error:
        return Answer(error=str(error))
    seen.loop(ANSWER_SECONDS, lambda: seen.connack is not None)
    if seen.connack is None and not seen.ended:
        seen.error = f"the broker does not answer within {ANSWER_SECONDS:.0f} s"
    elif not seen.ended:
        seen.loop(seconds, lambda: seen.retained is not None)
    answer = seen.answer()
    client.on_disconnect = None
    goodbye = Properties(PacketTypes.DISCONNECT)
    if resume and not answer.session_present and answer.let_in:
        goodbye.SessionExpiryInterval = 0
    client.disconnect(properties=goodbye)
    seen.loop(0.5, lambda: client.socket() is None)
    return answer


def reason_code(name: str) -> int:
    """The code of a CONNACK's reason by paho's name for it; 0x80, unspecified, for one that it does not know."""
    try:
        return int(ReasonCode(PacketTypes.CONNACK, name).value)
    except KeyError:
        return 0x80


class _Seen:
    """What the callbacks of one client have heard."""

    def __init__(self, client: mqtt.Client, retained_topic: str | None) -> None:
        self._client = client
        self._retained_topic = retained_topic
        self.connack: tuple[bool, ReasonCode, Properties | None] | None = None
        self.ended = False
        self.ended_code: int | None = None
        self.error = ""
        self.retained: bytes | None = None
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message

    def loop(self, seconds: float, until: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while not until() and not self.ended and (left := end - time.monotonic()) > 0:
            if self._client.loop(min(left, 0.1)) != mqtt.MQTT_ERR_SUCCESS:
                return

    def answer(self) -> Answer:
        if self.connack is None:
            return Answer(error=self.error)
        session_present, reason, properties = self.connack
        size = getattr(properties, "MaximumPacketSize", None)
        return Answer(
            reason_code=reason.value,
            reason=str(reason),
            lost=self.ended and not reason.is_failure,
            lost_code=self.ended_code,
            session_present=session_present,
            session_expiry=getattr(properties, "SessionExpiryInterval", FOREVER),
            maximum_packet_size=size,
            maximum_qos=getattr(properties, "MaximumQoS", 2),
            retain_available=bool(getattr(properties, "RetainAvailable", 1)),
            receive_maximum=getattr(properties, "ReceiveMaximum", 65_535),
            server_keep_alive=getattr(properties, "ServerKeepAlive", None),
            retained=self.retained,
        )

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.connack = (flags.session_present, reason, properties)
        if self._retained_topic is not None and not reason.is_failure:
            client.subscribe(self._retained_topic)

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.ended = True
        if flags.is_disconnect_packet_from_server:
            self.ended_code = reason.value

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        if message.retain and message.topic == self._retained_topic:
            self.retained = bytes(message.payload)
