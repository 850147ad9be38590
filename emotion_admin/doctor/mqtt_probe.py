"""Connect to the broker once, and report its answers. Imports paho.

The probe acknowledges and publishes nothing and has no will. From an existing session it gets at most one message of
QoS 1, which the broker sends again on the next connection. If the session is new, the probe deletes it.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from emotion_admin.doctor.connack import ProbeResult
from emotion_daemon.mqtt.subscriber import FOREVER, KEEPALIVE_SECONDS, MAX_PACKET_BYTES, broker_limits
from shared.settings import Settings

ANSWER_SECONDS = 5.0


def probe(settings: Settings, *, as_daemon: bool, seconds: float, retained_topic: str | None = None) -> ProbeResult:
    """Connect, stay for `seconds` if the broker accepts, and disconnect. A broker's or network's fault raises nothing.

    `as_daemon` uses the daemon's login, client id and session; otherwise the session ends with the connection. With
    `retained_topic` the probe ends early, at the message that is retained there.
    """
    client_id = settings.mqtt_client_id if as_daemon else f"emotion-doctor-{secrets.token_hex(4)}"
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5, manual_ack=True)
    client.connect_timeout = ANSWER_SECONDS
    if as_daemon and settings.mqtt_username is not None:
        client.username_pw_set(settings.mqtt_username, settings.mqtt_password)
    if settings.mqtt_tls_ca is not None:
        client.tls_set(ca_certs=str(settings.mqtt_tls_ca))
    result = _observe(client, retained_topic)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = FOREVER if as_daemon else 0
    properties.ReceiveMaximum = 1
    properties.MaximumPacketSize = MAX_PACKET_BYTES  # the broker would drop larger messages of the session
    host, port = settings.mqtt_host, settings.mqtt_port
    try:
        client.connect(host, port, KEEPALIVE_SECONDS, clean_start=not as_daemon, properties=properties)
    except (OSError, ValueError) as error:
        result.error = str(error)
        return result
    _loop(client, ANSWER_SECONDS, lambda: result.ended or result.reason_code is not None)
    if result.reason_code is None and not result.ended:
        result.error = f"the broker does not answer within {ANSWER_SECONDS:.0f} s"
    _loop(client, seconds if result.accepted else 0, lambda: result.ended or result.retained is not None)
    client.on_disconnect = None
    goodbye = Properties(PacketTypes.DISCONNECT)
    if as_daemon and result.accepted and not result.session_present:
        goodbye.SessionExpiryInterval = 0
    client.disconnect(properties=goodbye)
    _loop(client, 0.5, lambda: client.socket() is None)
    return result


def reason_code(name: str) -> int:
    """Return the code of a CONNACK's reason by paho's name for it; 0x80, unspecified, for an unknown name."""
    try:
        return int(ReasonCode(PacketTypes.CONNACK, name).value)
    except KeyError:
        return 0x80


def _loop(client: mqtt.Client, seconds: float, until: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not until() and (left := end - time.monotonic()) > 0:
        if client.loop(min(left, 0.1)) != mqtt.MQTT_ERR_SUCCESS:
            return


def _observe(client: mqtt.Client, retained_topic: str | None) -> ProbeResult:
    """Have the client's callbacks fill in the result."""
    result = ProbeResult()

    def on_connect(
        client: mqtt.Client, userdata: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        result.reason_code, result.reason = reason.value, str(reason)
        result.session_present = flags.session_present
        result.limits = broker_limits(properties)
        if retained_topic is not None and not reason.is_failure:
            client.subscribe(retained_topic)

    def on_disconnect(
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        result.ended = True
        if flags.is_disconnect_packet_from_server:
            result.end_code = reason.value

    def on_message(client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        if message.retain and message.topic == retained_topic:
            result.retained = bytes(message.payload)

    client.on_connect, client.on_disconnect, client.on_message = on_connect, on_disconnect, on_message
    return result
