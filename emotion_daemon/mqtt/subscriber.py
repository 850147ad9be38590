"""The daemon's MQTT session: receives messages, acknowledges them, replies. Imports paho.

One thread drives the client through `read`, `loop_write` and `loop_misc` behind a `select`: there is nothing to lock.
paho's `ack` does not know on which connection a message arrived. This module counts connections: a broker that lost
its state starts packet ids again at 1, and a late PUBACK for an old message would delete a new one.
"""

import logging
import random
import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.outage import Outage
from emotion_daemon.mqtt.client import Client
from emotion_daemon.mqtt.publish_packet import Message, decode_publish
from shared.batch import Topics

log = logging.getLogger(__name__)

GROUP_LIMIT = 2_000
"""Messages a group: those of one device become one row a table. The Receive Maximum of MQTT 5 is twice as many."""

MAX_INBOX_BYTES = 2 * 2**20
"""Most bytes of packets in the inbox. While it is full the daemon reads nothing.

This is 600 batches of 50 people. With four times as much, writing a group of very large batches took 200 MB."""

MAX_PACKET_BYTES = 16 * 2**20
"""The largest packet that the daemon accepts. The broker drops larger ones; the shipped brokers take 320 KiB."""

KEEPALIVE_SECONDS = 10
"""The broker drops a daemon that is silent for one and a half times as long, so a slow commit has to fit in."""

PING_SECONDS = 3.0
"""The daemon pings a broker that is silent for so long, and disconnects if it stays silent for as long again."""

SUBSCRIBE_SECONDS = 5.0
"""Seconds that a broker may take from accepting a connection to confirming the subscription."""

FOREVER = 0xFFFFFFFF  # MQTT 5, 3.1.2.11.2: the session does not expire. One of an hour was lost to a clock jump
SHORTEST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 3.0
GOODBYE_SECONDS = 2.0

STABLE_SECONDS = 10.0
"""After a connection that lasted this long the backoff starts anew."""

SUSPICIOUS_LOSSES = 2
"""After so many short connections in a row the log suggests that a second client uses the daemon's client id.

Mosquitto 2.0.21 says 0x8E at a takeover, but 2.0.11 closes the socket without a reason."""

REFUSED = "the broker refused the connection: "
"""The start of the sentence about a CONNACK that refuses; paho's name of the reason follows."""

_SESSION_TAKEN_OVER = 0x8E
_PINGREQ = b"\xc0\x00"
_CONNECT_ERRORS = (OSError, ValueError)  # ssl.SSLError is an OSError; a host name with odd characters a ValueError


class SessionTakenOverError(Exception):
    """Raised when another client connected with the daemon's client id. A retry would push that one out in turn."""

    def __init__(self, client_id: str) -> None:
        super().__init__(
            f"another client took over the session {client_id!r}: is a second daemon running? "
            "Stop it, or give each its own EMOTION_MQTT_CLIENT_ID and database"
        )
        self.client_id = client_id


class Subscriber:
    """Subscribes to every device's batches and statuses, in a session that survives connections and restarts.

    It is not thread-safe: one thread calls `receive`, `clear_retained`, `ack`, `reply`, `wait` and `close`.
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
        # Above the Receive Maximum: behind an inbox that small batches fill a PINGRESP would stay unread.
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
        self._outage = Outage(log, then="trying again until it answers")
        self._next_attempt = time.monotonic()
        self._heard_at = 0.0
        self._pinged_at: float | None = None
        self._heartbeat = heartbeat or Heartbeat()
        self._heartbeat.broker(f"not subscribed to the broker at {host}:{port} yet")
        self._client = self._make_client(username, password, tls_ca)

    @property
    def subscribed(self) -> bool:
        """Return True if the broker has confirmed the subscription on the present connection."""
        return self._subscribed

    @property
    def waiting(self) -> int:
        """Return the number of messages that the next `receive` would return."""
        return len(self._inbox)

    def receive(self, *, timeout: float) -> list[Message]:
        """Return the messages that have arrived, in order and at most about a group; [] after `timeout` seconds.

        Connects and reconnects by itself. Raises SessionTakenOverError.
        """
        self._pump(0 if self._inbox else timeout, limit=self._group_limit)
        messages, self._inbox = self._inbox, []
        self._inbox_bytes = 0
        return messages

    def wait(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Keep the connection alive for `seconds`, or once for 0, while the caller holds a group that is not committed.

        Returns within half a second once `until` is true. Messages that arrive meanwhile, up to the Receive Maximum
        or 2 MiB, wait for the next `receive`.
        """
        end = time.monotonic() + seconds
        left = seconds
        while left >= 0 and not (left < seconds and until()):
            self._pump(min(left, 0.5), limit=self._window_limit)
            left = end - time.monotonic()

    def ack(self, messages: Iterable[Message]) -> int:
        """Send a PUBACK for those of `messages` that came on the present connection, and return how many did.

        The broker sends the others again, because it saw no PUBACK for them. Their second commit changes nothing.
        """
        present = [message for message in messages if message.connection == self._connection]
        self._client.ack_all(message.packet_id for message in present if message.qos == 1)
        self._client.loop_write()
        return len(present)

    def clear_retained(self, topics: Iterable[str]) -> None:
        """Delete the retained messages of `topics` at the broker. While offline, do nothing.

        On one connection the broker reads this before a later `ack`. A message that was not acked comes again, and so
        does a retained one at the next subscription: the caller gets another chance.
        """
        if self._client.is_connected():
            for topic in topics:
                self._client.publish(topic, b"", qos=0, retain=True)

    def reply(self, message: Message, payload: bytes) -> None:
        """Publish `payload` to the message's Response Topic, with its Correlation Data. While offline, drop it.

        It uses QoS 0: paho keeps at most 20 messages of QoS 1 in flight, and a group may have 2,000 replies.
        """
        if message.response_topic is None or not self._client.is_connected():
            return
        properties = Properties(PacketTypes.PUBLISH)
        if message.correlation_data is not None:
            properties.CorrelationData = message.correlation_data
        self._client.publish(message.response_topic, payload, qos=0, properties=properties)
        self._client.loop_write()

    def close(self) -> None:
        """Publish `offline` and disconnect. The broker still has the messages that were not acknowledged."""
        with suppress(SessionTakenOverError):  # another daemon has the session already, as in a rolling restart
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._closing = True
        end = time.monotonic() + GOODBYE_SECONDS
        if self._connected():
            # The PUBACK for `offline` shows that the broker has read all acks and replies before it. paho closes the
            # socket right after DISCONNECT. If unread bytes are left in it, TCP discards what is still being sent.
            offline = self._publish_presence("offline")
            while self._connected() and not offline.is_published() and time.monotonic() < end:
                self._pump(0.1, limit=self._window_limit)
        self._client.disconnect()
        self._client.loop_write()  # even if no time is left for the loop below
        while self._client.socket() is not None and time.monotonic() < end:
            self._pump(0.1, limit=self._window_limit)

    def _connected(self) -> bool:
        """Return True from the CONNACK to the end of the connection. paho alone misses a DISCONNECT by the broker."""
        return self._open and self._client.is_connected()

    def _make_client(self, username: str | None, password: str | None, tls_ca: Path | None) -> Client:
        client = Client(self._on_publish_packet, self._client_id)
        if username is not None:
            client.username_pw_set(username, password)
        if tls_ca is not None:
            client.tls_set(ca_certs=str(tls_ca))
        client.will_set(self._topics.status(self._client_id), "offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        return client

    def _pump(self, timeout: float, *, limit: int) -> None:
        """Wait up to `timeout` seconds for the socket, then read until it is empty or the inbox full, and write."""
        self._heartbeat.beat(now=time.monotonic())
        if self._client.socket() is None and not self._connect(timeout):
            return
        has_room = self._has_room(limit)
        self._select(timeout, reading=has_room)
        if has_room:
            self._client.read(lambda: self._has_room(limit))
        if self._client.want_write():
            self._client.loop_write()
        if has_room:
            self._client.loop_misc()  # paho's own keepalive, which also counts before the CONNACK
        if self._subscribed:
            self._ping(reading=has_room)
        elif time.monotonic() - self._heard_at > SUBSCRIBE_SECONDS:
            self._disconnect("does not answer")
        if self._taken_over:
            raise SessionTakenOverError(self._client_id)

    def _select(self, timeout: float, *, reading: bool) -> None:
        sock: Any = self._client.socket()
        if reading and self._client.has_unread:
            timeout = 0
        writing = self._client.want_write()
        readable, _, _ = select.select([sock] if reading else [], [sock] if writing else [], [], timeout)
        if readable:
            self._heard_at, self._pinged_at = time.monotonic(), None

    def _ping(self, *, reading: bool) -> None:
        """Ping a silent broker, and disconnect if it does not answer.

        paho pings only at the keepalive, which is also how long the broker lets the daemon be silent. A short one would
        end the connection in a slow commit; with a long one the daemon would stay on a dead connection for half a
        minute. While nothing is read the ping has no deadline: it tells the broker that the daemon lives.
        """
        now = time.monotonic()
        sock: Any = self._client.socket()
        if self._pinged_at is not None and now - self._pinged_at > PING_SECONDS and reading:
            self._disconnect("is silent")
        elif now - max(self._heard_at, self._pinged_at or 0) > PING_SECONDS and not self._client.want_write():
            with suppress(OSError):  # the next read notices the lost connection
                sock.send(_PINGREQ)
            self._pinged_at = now

    def _disconnect(self, why: str) -> None:
        """Shut the socket down; the next read notices that and reconnects."""
        sock: Any = self._client.socket()
        if sock is not None:
            self._refusal = f"the broker at {self._host}:{self._port} {why}"
            with suppress(OSError):  # the broker closed it first
                sock.shutdown(socket.SHUT_RDWR)

    def _has_room(self, limit: int) -> bool:
        return len(self._inbox) < limit and self._inbox_bytes < MAX_INBOX_BYTES

    def _connect(self, timeout: float) -> bool:
        """Connect if the backoff is over; otherwise sleep until then, but at most `timeout` seconds."""
        early = self._next_attempt - time.monotonic()
        if self._closing or early > 0:
            time.sleep(min(timeout, max(early, 0)))
            return False
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = FOREVER
        properties.ReceiveMaximum = 2 * self._group_limit
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        # A silent host takes 5 s an address, a silent name server longer.
        self._heartbeat.beat(now=time.monotonic(), early=True)
        try:
            # paho's default, clean_start on the first connect, would delete the queued messages at every start.
            self._client.connect(self._host, self._port, KEEPALIVE_SECONDS, clean_start=False, properties=properties)
        except _CONNECT_ERRORS as error:
            self._try_again_later(f"cannot reach the broker at {self._host}:{self._port}: {error}")
            return False
        self._open = True
        self._heard_at = time.monotonic()
        return True

    def _try_again_later(self, why: str) -> None:
        longest = min(LONGEST_BACKOFF_SECONDS, SHORTEST_BACKOFF_SECONDS * 2 ** min(self._losses, 10))
        self._losses += 1
        now = time.monotonic()
        self._next_attempt = now + longest * random.uniform(0.5, 1)
        self._outage.failed(why, now=now)
        self._heartbeat.broker(why)

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
        # retainAsPublished tells which messages the broker retains, for clear_retained. The broker sends retained
        # batches at every connection, because one at QoS 0 may have missed the daemon; it sends retained statuses at a
        # new subscription only (MQTT 5, 3.8.3.1).
        batches = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
        statuses = SubscribeOptions(
            qos=1,
            noLocal=True,
            retainAsPublished=True,
            retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB,
        )
        filters = [(self._topics.status_filter, statuses), (self._topics.info_filter, statuses)]
        client.subscribe([(self._topics.batch_filter, batches), *filters])

    def _note_expiry(self, seconds: int) -> None:
        if seconds != FOREVER and seconds != self._expiry:
            log.warning(
                "the broker ends the session %d s after a connection: it deletes messages that wait for longer", seconds
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
        if batches.value != 1:  # at QoS 0 the broker would forget batches that are not committed
            self._refusal = f"the broker refused the subscription to {self._topics.batch_filter}: {batches}"
            client.disconnect()
            return
        for reason, topic_filter, effect in zip(
            others,
            (self._topics.status_filter, self._topics.info_filter),
            ("the daemon learns from batches alone who is online", "the API has no statistics of devices' programs"),
            strict=True,
        ):
            if reason.is_failure:
                log.warning("the broker refused the subscription to %s: %s; %s", topic_filter, reason, effect)
        self._subscribed = True
        self._subscribed_since = self._heard_at = time.monotonic()
        self._pinged_at = None
        lasted = self._outage.over(now=self._subscribed_since)
        self._heartbeat.broker(None)
        log.info(
            "connected to %s:%d as %s%s, subscribed to %s; %s",
            self._host,
            self._port,
            self._client_id,
            f" after {lasted:.1f} s" if lasted else "",
            self._topics.batch_filter,
            "session resumed" if self._session_present else "new session: the broker queued no earlier batches",
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
        if not self._open:  # paho calls twice if a PINGRESP is missing
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
            is_suspicious = self._losses >= SUSPICIOUS_LOSSES
            hint = f" (does another client use the client id {self._client_id!r}?)" if is_suspicious else ""
            self._try_again_later(self._refusal or f"lost the broker at {self._host}:{self._port}: {reason}{hint}")
        self._refusal = ""

    def _on_publish_packet(self, command: int, packet: bytes) -> None:
        message = decode_publish(command, packet, connection=self._connection)
        self._inbox_bytes += message.size
        self._inbox.append(message)


def broker_limits(properties: Properties | None) -> dict[str, int]:
    """Return the limits in a CONNACK, by the names of `metrics.BROKER_LIMITS`, with MQTT 5's defaults (3.2.2.3).

    Without `maximum_packet_bytes` there is no such limit.
    """
    limits = {
        "receive_maximum_messages": getattr(properties, "ReceiveMaximum", 65_535),
        "maximum_qos": getattr(properties, "MaximumQoS", 2),
        "session_expiry_seconds": getattr(properties, "SessionExpiryInterval", FOREVER),
        "keepalive_seconds": getattr(properties, "ServerKeepAlive", KEEPALIVE_SECONDS),
        "retain_available": getattr(properties, "RetainAvailable", 1),
    }
    size: int | None = getattr(properties, "MaximumPacketSize", None)
    if size is not None:
        limits["maximum_packet_bytes"] = size
    return limits
