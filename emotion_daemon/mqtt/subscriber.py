"""The daemon's MQTT session: receives messages, acknowledges them, replies. Imports paho.

One thread drives paho through `loop_read`, `loop_write` and `loop_misc` behind a `select`: there is no other thread
to hand over to, and nothing to lock. paho's `ack` remembers nothing, so what this file adds is the connection number
(counted up on connect and on disconnect): after a broker lost its state, packet ids start again at 1, and a late PUBACK
for an old message would delete a new one.
"""

import logging
import random
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.outage import Trouble
from emotion_daemon.mqtt.publish_packet import MalformedPacketError, Message, decode_publish
from shared.batch import Topics

log = logging.getLogger(__name__)

GROUP_LIMIT = 500
"""Messages a group; 2,000 were slower. The broker may send twice as many ahead (MQTT 5's Receive Maximum)."""

MAX_INBOX_BYTES = 2 * 2**20
"""Bytes of payloads, topics and properties that may wait here; then nothing is read, and TCP holds the broker back.

500 batches of 50 people; with four times as much, groups of very large batches took 200 MB while they were written."""

MAX_PACKET_BYTES = 16 * 2**20
"""The largest packet that the daemon takes; the broker drops a larger one (its own limit, 1 MiB, comes before)."""

KEEPALIVE_SECONDS = 10
"""The broker drops a daemon that was silent for one and a half times as long: a slow commit has to fit in."""

PING_SECONDS = 3.0
"""A broker that was silent for so long is asked, and given up if it is silent for as long again."""

SUBSCRIBE_SECONDS = 5.0
"""How long a broker that accepted a connection may be silent before it has confirmed the subscription."""

FOREVER = 0xFFFFFFFF  # MQTT 5, 3.1.2.11.2: a session that does not expire. An hour of it was lost to a clock jump
SHORTEST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 3.0
GOODBYE_SECONDS = 2.0

STABLE_SECONDS = 10.0
"""A connection that lasted this long starts the backoff anew."""

SUSPICIOUS_LOSSES = 2
"""After so many connections in a row that did not last, the log asks for a second client with our client id:
Mosquitto 2.0.11 closes the socket at a takeover without a word, 2.0.21 says 0x8E."""

REFUSED = "the broker refused the connection: "
"""With what follows, the CONNACK's reason as paho names it, this is what is in the way of the broker."""

_SESSION_TAKEN_OVER = 0x8E
_PINGREQ = b"\xc0\x00"
_CONNECT_ERRORS = (OSError, ValueError)  # ssl.SSLError is an OSError; a host name with odd characters a ValueError


class SubscriberError(Exception):
    """Base of what the subscriber raises."""


class SessionTakenOverError(SubscriberError):
    """Raised when another client connected with our client id: two would push each other out every second."""

    def __init__(self, client_id: str) -> None:
        super().__init__(
            f"another client took over the session {client_id!r}: is a second daemon running? "
            "Stop it, or give each its own EMOTION_MQTT_CLIENT_ID and database"
        )
        self.client_id = client_id


class Subscriber:
    """A subscription to every device's batches and presence that outlives connections, brokers and this process.

    Not thread-safe, on purpose: one thread calls `receive`, `ack`, `reply`, `wait` and `close`.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        client_id: str,
        topics: Topics,
        username: str | None = None,
        password: str | None = None,
        tls_ca: Path | None = None,
        group_limit: int = GROUP_LIMIT,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._client_id = client_id
        self._topics = topics
        self._group_limit = group_limit
        # More than the Receive Maximum lets in: behind a full inbox a PINGRESP would stay unread, and paho give up.
        self._window_limit = 2 * group_limit + 1
        self._inbox: list[Message] = []
        self._inbox_bytes = 0
        self._connection = 0
        self._open = False
        self._subscribed = False
        self._subscribed_since = 0.0
        self._session_present = False
        self._expiry = FOREVER
        self._taken_over = False
        self._refusal = ""
        self._closing = False
        self._losses = 0
        self._trouble = Trouble(log, then="trying again until it answers")
        self._next_attempt = time.monotonic()
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._heartbeat = heartbeat or Heartbeat()
        self._heartbeat.broker(f"not subscribed to the broker at {host}:{port} yet")
        self._client = self._make_client(username, password, tls_ca)

    @property
    def subscribed(self) -> bool:
        """Whether the broker has confirmed the subscription on the present connection."""
        return self._subscribed

    @property
    def waiting(self) -> int:
        """How many messages are here for the next `receive`."""
        return len(self._inbox)

    def receive(self, *, timeout: float) -> list[Message]:
        """The messages that are there, about a group at most, in the order they came; [] after `timeout` seconds.

        Connects and reconnects by itself. Raises SessionTakenOverError.
        """
        self._pump(0 if self._inbox else timeout, limit=self._group_limit)
        messages, self._inbox = self._inbox, []
        self._inbox_bytes = 0
        return messages

    def wait(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Keep the connection alive for `seconds`, or once for 0, while the caller holds a group that is not committed.

        Ends early, within half a second, when `until` says so.

        What the broker still sends, up to its Receive Maximum, stays here for the next `receive`.
        """
        end = time.monotonic() + seconds
        left = seconds
        while left >= 0 and not (left < seconds and until()):
            self._pump(min(left, 0.5), limit=self._window_limit)
            left = end - time.monotonic()

    def ack(self, messages: Iterable[Message]) -> int:
        """Send a PUBACK for those of `messages` that came on the present connection, and return how many did.

        The broker sends the others again: it never saw a PUBACK for them, and their commit is idempotent.
        """
        acked = 0
        for message in messages:
            if message.connection == self._connection:
                acked += 1
                if message.qos == 1:
                    self._client.ack(message.packet_id, 1)
        self._client.loop_write()
        return acked

    def reply(self, message: Message, payload: bytes) -> None:
        """Publish `payload` to the message's Response Topic, with its Correlation Data; dropped while offline.

        At QoS 0: paho lets 20 messages of QoS 1 be in flight, and a group that was catching up has 500 answers.
        """
        if message.response_topic is None or not self._client.is_connected():
            return
        properties = Properties(PacketTypes.PUBLISH)
        if message.correlation_data is not None:
            properties.CorrelationData = message.correlation_data
        self._client.publish(message.response_topic, payload, qos=0, properties=properties)
        self._client.loop_write()

    def close(self) -> None:
        """Say offline and disconnect. What was received and not acknowledged stays with the broker."""
        with suppress(SessionTakenOverError):  # somebody has the session already, as in a rolling restart
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._closing = True
        end = time.monotonic() + GOODBYE_SECONDS
        if self._connected():
            # Once this is answered the broker has read all before it, acks and replies. paho closes the socket behind
            # its DISCONNECT, and with something unread in it TCP takes back what is still under way.
            offline = self._publish_presence("offline")
            while self._connected() and not offline.is_published() and time.monotonic() < end:
                self._pump(0.1, limit=self._window_limit)
        self._client.disconnect()
        self._client.loop_write()  # also where the broker took all the time that there was
        while self._client.socket() is not None and time.monotonic() < end:
            self._pump(0.1, limit=self._window_limit)

    def _connected(self) -> bool:
        """Whether a CONNACK has come and no end since; paho says so too long where the broker sends the DISCONNECT."""
        return self._open and self._client.is_connected()

    def _make_client(self, username: str | None, password: str | None, tls_ca: Path | None) -> mqtt.Client:
        client = _Client(self._on_publish_packet, self._client_id)
        if username is not None:
            client.username_pw_set(username, password)
        if tls_ca is not None:
            client.tls_set(ca_certs=str(tls_ca))
        client.will_set(self._topics.status(self._client_id), "offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        # With this callback set, paho queues packets until loop_write instead of one send a PUBACK.
        client.on_socket_register_write = _write_later
        return client

    def _pump(self, timeout: float, *, limit: int) -> None:
        """Wait up to `timeout` seconds for the socket, then read until it is empty or the inbox full, and write."""
        self._heartbeat.beat(now=time.monotonic())
        if self._client.socket() is None and not self._connect(timeout):
            return
        has_room = self._has_room(limit)
        self._select(timeout, reading=has_room)
        if has_room:
            self._read(limit)
        if self._client.want_write():
            self._client.loop_write()
        if has_room:
            self._client.loop_misc()  # paho's own keepalive, also while there is no CONNACK yet
        if self._subscribed:
            self._ping(reading=has_room)
        elif time.monotonic() - self._heard_at > SUBSCRIBE_SECONDS:
            self._leave("does not answer")
        if self._taken_over:
            raise SessionTakenOverError(self._client_id)

    def _select(self, timeout: float, *, reading: bool) -> None:
        sock: Any = self._client.socket()
        if reading and self._has_decrypted_bytes():
            timeout = 0
        writing = self._client.want_write()
        readable, _, _ = select.select([sock] if reading else [], [sock] if writing else [], [], timeout)
        if readable:
            self._heard_at, self._pinged_at = time.monotonic(), None

    def _ping(self, *, reading: bool) -> None:
        """Ask a silent broker whether it is there, and leave one that does not answer.

        paho does the same, but only at the keepalive, which is also how long the broker lets us be silent: short, it
        would cut us off in a slow commit; long, it would leave us for half a minute on a connection that is dead.
        While nothing is read no answer can be missed, and the ping says that we are alive.
        """
        now = time.monotonic()
        sock: Any = self._client.socket()
        if self._pinged_at is not None and now - self._pinged_at > PING_SECONDS and reading:
            self._leave("is silent")
        elif now - max(self._heard_at, self._pinged_at or 0) > PING_SECONDS and not self._client.want_write():
            with suppress(OSError):  # the next read sees it
                sock.send(_PINGREQ)
            self._pinged_at = now

    def _leave(self, why: str) -> None:
        """Break the connection off; the next read sees the end of it."""
        sock: Any = self._client.socket()
        if sock is not None:
            self._refusal = f"the broker at {self._host}:{self._port} {why}"
            with suppress(OSError):  # the other side was faster
                sock.shutdown(socket.SHUT_RDWR)

    def _read(self, limit: int) -> None:
        while self._has_room(limit):
            before = len(self._inbox)
            self._client.loop_read()
            if len(self._inbox) == before and not self._has_decrypted_bytes():
                return  # paho does not tell an empty socket from a PINGRESP; after the latter, select says so at once

    def _has_room(self, limit: int) -> bool:
        return len(self._inbox) < limit and self._inbox_bytes < MAX_INBOX_BYTES

    def _has_decrypted_bytes(self) -> bool:
        """TLS decrypts a record at a time: bytes of the next packet may wait where `select` does not see them."""
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def _connect(self, timeout: float) -> bool:
        """Try to connect if it is time; else sleep until then or for `timeout` seconds."""
        early = self._next_attempt - time.monotonic()
        if self._closing or early > 0:
            time.sleep(min(timeout, max(early, 0)))
            return False
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = FOREVER
        properties.ReceiveMaximum = 2 * self._group_limit
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        self._heartbeat.beat(now=time.monotonic(), early=True)  # a silent host takes 5 s an address, its name longer
        try:
            # paho's default, clean_start on the first connect, would wipe the queue at every start of the process.
            self._client.connect(self._host, self._port, KEEPALIVE_SECONDS, clean_start=False, properties=properties)
        except _CONNECT_ERRORS as error:
            self._try_again_later(f"cannot reach the broker at {self._host}:{self._port}: {error}")
            return False
        self._open = True
        self._heard_at = time.monotonic()
        return True

    def _try_again_later(self, trouble: str) -> None:
        longest = min(LONGEST_BACKOFF_SECONDS, SHORTEST_BACKOFF_SECONDS * 2 ** min(self._losses, 10))
        self._losses += 1
        now = time.monotonic()
        self._next_attempt = now + longest * random.uniform(0.5, 1)
        self._trouble.failed(trouble, now=now)
        self._heartbeat.broker(trouble)

    def _publish_presence(self, presence: str) -> mqtt.MQTTMessageInfo:
        return self._client.publish(self._topics.status(self._client_id), presence, qos=1, retain=True)

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._refusal = f"{REFUSED}{reason}"
            return
        self._connection += 1
        self._session_present = flags.session_present
        self._heartbeat.limits = limits = broker_limits(properties)
        self._note_expiry(limits["session_expiry_seconds"])
        # A retained batch comes once, and not again at every reconnect (MQTT 5, 3.8.3.1).
        options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        without_ours = SubscribeOptions(qos=1, noLocal=True, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        client.subscribe([(self._topics.batch_filter, options), (self._topics.status_filter, without_ours)])

    def _note_expiry(self, seconds: int) -> None:
        if seconds != FOREVER and seconds != self._expiry:
            log.warning(
                "the broker ends our session %d s after a connection: what waits for longer than that is lost", seconds
            )
        self._expiry = seconds

    def _on_subscribe(
        self,
        client: mqtt.Client,
        userdata: Any,
        packet_id: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        batches, *others = reasons
        if batches.value != 1:  # at QoS 0 the broker would forget what nobody has stored
            self._refusal = f"the broker refused the subscription to {self._topics.batch_filter}: {batches}"
            client.disconnect()
            return
        if any(reason.is_failure for reason in others):
            log.warning(
                "the broker refused the subscription to %s: %s; only its batches tell whether a device is online",
                self._topics.status_filter,
                others[0],
            )
        self._subscribed = True
        self._subscribed_since = self._heard_at = time.monotonic()
        self._pinged_at = None
        lasted = self._trouble.over(now=self._subscribed_since)
        self._heartbeat.broker(None)
        log.info(
            "connected to %s:%d as %s%s, subscribed to %s; the broker %s",
            self._host,
            self._port,
            self._client_id,
            f" after {lasted:.1f} s without" if lasted else "",
            self._topics.batch_filter,
            "kept our session" if self._session_present else "had no session of ours: earlier batches are not queued",
        )
        self._publish_presence("online")

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: Any,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not self._open:  # paho calls twice where a PINGRESP did not come
            return
        self._open = False
        self._connection += 1
        if self._subscribed and time.monotonic() - self._subscribed_since > STABLE_SECONDS:
            self._losses = 0
        self._subscribed = False
        self._inbox.clear()  # the broker sends these again
        self._inbox_bytes = 0
        if flags.is_disconnect_packet_from_server and reason.value == _SESSION_TAKEN_OVER:
            self._taken_over = True
        elif not self._closing:
            hint = "" if self._losses < SUSPICIOUS_LOSSES else f" (does another client use our id {self._client_id!r}?)"
            self._try_again_later(self._refusal or f"lost the broker at {self._host}:{self._port}: {reason}{hint}")
        self._refusal = ""

    def _on_publish_packet(self, command: int, packet: bytearray) -> None:
        message = decode_publish(command, packet, connection=self._connection)
        parts = (message.payload, message.topic, message.response_topic or "", message.correlation_data or b"")
        self._inbox_bytes += sum(map(len, parts))
        self._inbox.append(message)


def broker_limits(properties: Properties | None) -> dict[str, int]:
    """What a CONNACK says of the broker's limits; what it does not name is as MQTT 5 has it then (3.2.2.3).

    Without `maximum_packet_bytes` there is no such limit.
    """
    limits = {
        "receive_maximum": getattr(properties, "ReceiveMaximum", 65_535),
        "maximum_qos": getattr(properties, "MaximumQoS", 2),
        "session_expiry_seconds": getattr(properties, "SessionExpiryInterval", FOREVER),
        "keepalive_seconds": getattr(properties, "ServerKeepAlive", KEEPALIVE_SECONDS),
        "retain_available": getattr(properties, "RetainAvailable", 1),
    }
    size: int | None = getattr(properties, "MaximumPacketSize", None)
    if size is not None:
        limits["maximum_packet_bytes"] = size
    return limits


class _Client(mqtt.Client):
    """paho's client, except that `on_publish_packet` gets each PUBLISH undecoded: see publish_packet.py."""

    def __init__(self, on_publish_packet: Callable[[int, bytearray], None], client_id: str) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, manual_ack=True)
        self._on_publish_packet = on_publish_packet
        self.on_message = _other_paho

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            self._on_publish_packet(self._in_packet["command"], self._in_packet["packet"])
        except MalformedPacketError as error:
            log.error("the broker sent %s", error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _other_paho(client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
    raise RuntimeError("this version of paho-mqtt does not call _handle_publish: see emotion_daemon/mqtt/subscriber.py")


def _write_later(client: mqtt.Client, userdata: Any, sock: Any) -> None:
    """Nothing to do: `_pump` and `ack` write."""
