"""Publish batches from a camera's program: `publish` hands a batch over and returns; a thread does the rest.

The thread drives paho itself, as the daemon does, instead of paho's own thread: a lock that `publish` takes is never
held during input or output, many publishers share one thread, and every connection attempt gets a paho client of its
own, so that nothing which an earlier connection left behind is ever sent again unasked.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Iterable, Literal, Mapping, SupportsFloat

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from emotion_device import outbox
from emotion_device.checks import Pending, check, number
from emotion_device.errors import BatchTooLarge, PublisherClosed
from emotion_device.outbox import MAX_MQTT_PACKET, Message, Outbox
from emotion_device.version import __version__
from emotion_device.wire import DEVICE_ID, EARLIEST_TIMESTAMP, EMOTIONS, is_topic_prefix, topic

KEEPALIVE_SECONDS = 30
"""After one and a half of these without a sign of life the broker says "offline" for the device."""

CONNECT_TIMEOUT_SECONDS = 5.0
MAX_RECONNECT_SECONDS = 30.0
_FIRST_RECONNECT_SECONDS = 0.5
_STABLE_SECONDS = 10.0
_SUSPICIOUS_LOSSES = 2
_TICK_SECONDS = 0.2
_MAX_IN_FLIGHT = 10
_MAX_RAW = 10
_MAX_UNKNOWN_EMOTIONS = 20
_SILENT_SECONDS = 5.0
_INFO_SECONDS = 60.0
_MAX_VERSION = 64

_NO_MATCHING_SUBSCRIBERS = 0x10
_DISCONNECT_WITH_WILL = 0x04
_SESSION_TAKEN_OVER = 0x8E
_CERTIFICATE_NOT_YET_VALID = 9  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """The fate of one message.

    `status` is "ok" when the daemon has committed it; `updated_count` is then the number of people it changed.
    `error` says why it was rejected, by the daemon, by the broker, or here because one person's entry is too large.
    `timestamp` (aware UTC) is that of the batch; a batch in several messages gets a reply to each.
    """

    status: Literal["ok", "error"]
    timestamp: datetime
    updated_count: int = 0
    error: str | None = None


class Network:
    """One background thread that carries the connections of any number of publishers.

    A publisher makes one of its own unless it is given one. For a program that plays many devices: about 500
    publishers at one batch a second fit on one core. A thread for each would not.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._awake = False
        self._stopping = False
        self._ready: deque[Publisher] = deque()
        self._publishers: dict[Publisher, None] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()
        # A daemon thread: a program that dies without close() ends, and the last will says "offline".
        self._thread = threading.Thread(target=self._run, name="emotion-publisher", daemon=True)
        self._thread.start()

    @property
    def forked(self) -> bool:
        """Return True in a fork of the process that made this: the thread has stayed behind."""
        return os.getpid() != self._pid

    def close(self, timeout: float = 5.0) -> bool:
        """Close every publisher, all within `timeout` seconds, and end the thread.

        Returns whether everything that was published has been acknowledged.
        """
        if self.forked:
            return False
        deadline = time.monotonic() + timeout
        with self._lock:
            publishers = list(self._publishers)
        for publisher in publishers:
            publisher._begin_close(deadline)
        complete = [publisher._wait_closed(deadline) for publisher in publishers]
        self._stopping = True
        self._interrupt()
        if threading.current_thread() is not self._thread:
            self._thread.join(max(0.0, deadline - time.monotonic()) + 1.0)
        return all(complete)

    def _add(self, publisher: Publisher) -> None:
        self.raise_if_forked()
        with self._lock:
            if self._stopping:
                raise PublisherClosed("the network is closed")
            self._publishers[publisher] = None
        self._wake(publisher)

    def raise_if_forked(self) -> None:
        if self.forked:
            raise PublisherClosed("this process was forked, and its copy of a publisher sends nothing: make one here")

    def _wake(self, publisher: Publisher) -> None:
        """Have the thread look at `publisher` now. Never blocks."""
        self._ready.append(publisher)
        if not self._awake:
            self._awake = True
            self._interrupt()

    def _interrupt(self) -> None:
        with suppress(OSError):  # full: the thread wakes anyway; closed: there is none
            self._wake_writer.send(b"\0")

    def _watch(self, sock: socket.socket, publisher: Publisher, *, writing: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        known = self._selector.get_map().get(sock)
        if known is None:
            self._selector.register(sock, events, publisher)
        elif known.events != events:
            self._selector.modify(sock, events, publisher)

    def _unwatch(self, sock: socket.socket) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def _run(self) -> None:
        next_tick = 0.0
        while self._publishers or not self._stopping:
            for key, events in self._selector.select(_TICK_SECONDS):
                if key.data is not None:
                    self._drive(key.data, events)
            with suppress(BlockingIOError):
                self._wake_reader.recv(4096)
            self._awake = False
            while self._ready:
                self._drive(self._ready.popleft(), 0)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + _TICK_SECONDS
                for publisher in list(self._publishers):
                    self._drive(publisher, 0)
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _drive(self, publisher: Publisher, events: int) -> None:
        try:
            open_still = publisher._step(events)
        except Exception:
            log.exception("%s: unexpected; the connection is dropped and made anew", publisher.device_id)
            publisher._drop("an unexpected error")
            open_still = True
        if not open_still:
            with self._lock:
                self._publishers.pop(publisher, None)


class Publisher:
    """Sends the batches of one device. Usable from any thread, and as a context manager.

        with Publisher("jetson_1", host="broker.local", password="…", on_reply=print) as publisher:
            publisher.publish({"1": {"happy": 123.5, "sad": 20.0}})

    It connects in the background and keeps trying for as long as it takes; a broker that is down is no error. What
    happens is in the log of this module. `username` is the device id if only a password is given; `tls_ca` is the
    path of the CA certificate and turns TLS on. `on_reply` is called with a Reply in the background thread: it must
    not block. Raises ValueError if an argument cannot work.
    """

    def __init__(
        self,
        device_id: str,
        *,
        host: str = "localhost",
        port: int = 1883,
        username: str | None = None,
        password: str | None = None,
        tls_ca: str | Path | None = None,
        topic_prefix: str = "emotions",
        on_reply: Callable[[Reply], object] | None = None,
        network: Network | None = None,
    ) -> None:
        if not DEVICE_ID.fullmatch(device_id):
            raise ValueError(f"device id {device_id!r:.80} has to be 1 to 64 of A-Z a-z 0-9 . _ : -")
        if not host:
            raise ValueError("host is empty")
        if not 1 <= port <= 65535:
            raise ValueError(f"port {port} is not a number from 1 to 65535")
        if not is_topic_prefix(topic_prefix):
            raise ValueError(f"topic_prefix {topic_prefix!r} is not a topic: it is levels without + and #")
        self.device_id = device_id
        self._host, self._port = host, port
        self._username, self._password = username or (device_id if password else None), password
        self._tls = None if tls_ca is None else _tls_context(tls_ca)
        self._batch_topic = topic(topic_prefix, device_id, "batch")
        self._status_topic = topic(topic_prefix, device_id, "status")
        self._info_topic = topic(topic_prefix, device_id, "info")
        self._reply_topic = topic(topic_prefix, device_id, "reply") if on_reply is not None else None
        self._on_reply = on_reply

        self._lock = threading.Lock()  # guards the outbox and the two lines below; never held during I/O
        self._outbox = Outbox()
        self._raw: deque[Message] = deque(maxlen=_MAX_RAW)
        self._close_by: float | None = None
        self._closed = threading.Event()
        self._limit = self._payload_limit(MAX_MQTT_PACKET)
        self._sent = 0
        self._acknowledged = 0
        self._queued_at: float | None = None
        self._info: dict[str, Any] | None = None
        self._unknown_emotions: set[str] = set()
        self._clock_is_set = True

        # From here on the network's thread's alone.
        self._connection: _Connection | None = None
        self._round: deque[Message] = deque()
        self._round_queued_at: float | None = None
        self._next_attempt = 0.0
        self._next_info = 0.0
        self._last_ack: datetime | None = None
        self._connections = 0
        self._failures = 0
        self._problem: str | None = None
        self._remarked: set[str] = set()

        self._owns_network = network is None
        self._network = network or Network()
        self._network._add(self)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Return True if the broker has accepted the connection and has acknowledged within 5 s all that was sent."""
        connection = self._connection
        return connection is not None and connection.alive and not self._network.forked

    @property
    def sent(self) -> int:
        """Return the number of messages with batches that were sent, repeats included."""
        return self._sent

    @property
    def acknowledged(self) -> int:
        """Return the number of messages with batches that the broker has acknowledged (PUBACK)."""
        return self._acknowledged

    def publish(self, people: Mapping[Any, Mapping[Any, Any]], timestamp: datetime | None = None) -> None:
        """Hand over the people in view: person id -> cumulative seconds per emotion. Never waits for the network.

        `timestamp` is when they were seen, with a time zone; now by default. While an earlier batch is not acknowledged
        or the broker is unreachable, only the newest one is stored, and the last entry of up to 1,000 people who left.

        Ids and numbers may be numpy's, too. Emotions that the daemon does not store are left out, and logged once.
        Raises InvalidBatch (a ValueError) for values that the daemon would reject, BatchTooLarge if the broker is
        known to take less than one person's entry (then nothing is sent), PublisherClosed after close() and in a fork.
        """
        self._network.raise_if_forked()
        batch, unknown = check(people, datetime.now(timezone.utc) if timestamp is None else timestamp)
        _, refused = outbox.split(self.device_id, batch, limit=self._limit)
        if refused:
            raise refused[0]
        with self._lock:
            self._raise_if_closed()
            self._outbox.put(batch)
            if self._queued_at is None:
                self._queued_at = time.monotonic()
        self._network._wake(self)
        self._note_unknown(unknown)
        self._note_clock(batch.timestamp)

    def set_info(self, *, fps: SupportsFloat | None = None, version: str = __version__) -> None:
        """Have the server show this program's frames a second and its version, also the state of its connection.

        The publisher sends them now, at each connection and once a minute, with the age of the oldest unsent batch, the
        time of the last acknowledgement and the number of reconnects. Call this again when they change.
        """
        info: dict[str, Any] = {"version": version[:_MAX_VERSION]}
        if fps is not None:
            frames = number(fps)
            if frames is None or not 0 <= frames < math.inf:
                raise ValueError(f"fps is {fps!r:.60}, but it is a number of frames a second")
            info["fps"] = round(frames, 2)
        self._network.raise_if_forked()
        if self._info is None:
            self._next_info = 0.0
        self._info = info
        self._network._wake(self)

    def _note_unknown(self, emotions: Iterable[str]) -> None:
        for emotion in emotions:
            if emotion not in self._unknown_emotions and len(self._unknown_emotions) < _MAX_UNKNOWN_EMOTIONS:
                self._unknown_emotions.add(emotion)
                log.warning(
                    "%s: the seconds of %r are not sent: it is none of %s",
                    self.device_id,
                    emotion[:80],
                    ", ".join(EMOTIONS),
                )

    def _note_clock(self, timestamp: datetime) -> None:
        was_set, self._clock_is_set = self._clock_is_set, timestamp >= EARLIEST_TIMESTAMP
        if was_set and not self._clock_is_set:
            log.warning(
                "%s: the clock of this device is not set (%s): until it is, the daemon takes the time of receipt."
                " Turn NTP on: sudo timedatectl set-ntp true",
                self.device_id,
                timestamp.date(),
            )

    def close(self, timeout: float = 5.0) -> bool:
        """Send the pending batch, waiting up to `timeout` seconds for it, say "offline" and disconnect.

        Returns whether everything that was published has been acknowledged. A second call does nothing more. From
        `on_reply` it returns False at once, and the rest happens in the background. In a fork it does nothing.
        """
        if self._network.forked:
            return False
        deadline = time.monotonic() + timeout
        self._begin_close(deadline)
        complete = self._wait_closed(deadline)
        if self._owns_network:
            self._network.close(max(0.0, deadline - time.monotonic()))
        return complete

    def _raise_if_closed(self) -> None:
        if self._close_by is not None:
            raise PublisherClosed(f"{self.device_id}: the publisher is closed")

    def _begin_close(self, deadline: float) -> None:
        with self._lock:
            if self._close_by is None:
                self._close_by = deadline
        self._network._wake(self)

    def _wait_closed(self, deadline: float) -> bool:
        if threading.current_thread() is self._network._thread:
            return False
        # A moment more: at the deadline the thread gives up and disconnects by itself.
        return self._closed.wait(max(0.0, deadline - time.monotonic()) + 0.5) and not self._pending()

    def _pending(self) -> bool:
        connection = self._connection
        in_flight = connection is not None and bool(connection.messages())
        with self._lock:
            return bool(self._outbox or self._raw or self._round or in_flight)

    # What follows runs in the network's thread.

    def _step(self, events: int) -> bool:
        """Do what can be done now without waiting. Returns False once the publisher is closed."""
        if self._closed.is_set():
            return False
        now = time.monotonic()
        if self._connection is not None:
            self._serve(self._connection, events, now)
        if self._close_by is not None and (now >= self._close_by or not self._pending()):
            self._finish()
            return False
        if self._connection is None and now >= self._next_attempt:
            self._connect()
        return True

    def _connect(self) -> None:
        connection = _Connection(self.device_id, self._username, self._password, self._tls, self._status_topic)
        try:
            connection.open(self._host, self._port)
        except OSError as error:
            self._retry_later(f"cannot reach the broker at {self._host}:{self._port} ({error}){_clock_advice(error)}")
            return
        self._connection = connection
        self._network._watch(connection.sock, self, writing=connection.client.want_write())

    def _serve(self, connection: _Connection, events: int, now: float) -> None:
        was_established = connection.established
        connection.exchange(events, now)
        if connection.established and not was_established and connection.ended is None:
            self._connected(connection)
        for mid, reason in connection.take_acknowledgements():
            self._settled(connection.acknowledged(mid), reason)
        for message in connection.take_replies():
            self._replied(message)
        if connection.established and connection.ended is None:
            self._send(connection)
            self._send_info(connection, now)
        if connection.ended is not None:
            self._drop(connection.ended)
        else:
            self._network._watch(connection.sock, self, writing=connection.client.want_write())

    def _connected(self, connection: _Connection) -> None:
        log.info("%s: connected to %s:%d", self.device_id, self._host, self._port)
        self._problem = None
        self._connections += 1
        self._next_info = 0.0
        self._remarked.clear()
        self._limit = self._payload_limit(connection.maximum_packet_size)
        if self._reply_topic is not None:
            connection.client.subscribe(self._reply_topic, qos=1)
        connection.publish(self._status_topic, b"online", "the presence", retain=True)

    def _send(self, connection: _Connection) -> None:
        # One round at a time: batches that are published meanwhile wait, and only the newest goes into the next.
        if not self._round and not connection.unacknowledged:
            self._round.extend(self._next_round())
        while self._round and connection.ended is None and len(connection.unacknowledged) < connection.window:
            message = self._round.popleft()
            properties = None
            if self._reply_topic is not None:
                properties = Properties(PacketTypes.PUBLISH)
                properties.ResponseTopic = self._reply_topic
                properties.CorrelationData = outbox.correlation_data(message.timestamp)
            connection.publish(self._batch_topic, message.payload, message, properties=properties)
            self._sent += 1

    def _send_info(self, connection: _Connection, now: float) -> None:
        if self._info is None or now < self._next_info:
            return
        self._next_info = now + _INFO_SECONDS
        queued_at = self._queued_at if self._round_queued_at is None else self._round_queued_at
        info = {
            **self._info,
            "queue_age": 0.0 if queued_at is None else round(now - queued_at, 1),
            "reconnects": self._connections - 1,
        }
        if self._last_ack is not None:
            info["last_ack"] = self._last_ack.isoformat(timespec="seconds")
        connection.publish(self._info_topic, json.dumps(info).encode(), "the statistics", retain=True)

    def _next_round(self) -> list[Message]:
        with self._lock:
            batches = self._outbox.take()
            self._round_queued_at, self._queued_at = self._queued_at, None
            raw = list(self._raw)
            self._raw.clear()
        messages: list[Message] = []
        for batch in batches:
            cut, refused = outbox.split(self.device_id, batch, limit=self._limit)
            messages += cut
            for error in refused:
                self._too_large(error, batch.timestamp)
        return messages + raw

    def _too_large(self, error: BatchTooLarge, timestamp: datetime) -> None:
        self._remark("too large", f"not sent: {error}; everyone else is")
        self._call_back(Reply("error", timestamp, error=str(error)))

    def _settled(self, message: Message | str | None, reason: ReasonCode) -> None:
        """Note a PUBACK for a batch, or for the message that the text names."""
        if reason.is_failure:
            what = "a batch" if isinstance(message, Message) else message
            problem = f"the broker refused {what} ({reason})"
            self._remark(
                "refused", f"{problem}: see its access rules for {self.device_id}; the next is sent all the same"
            )
            if isinstance(message, Message):
                self._call_back(Reply("error", message.timestamp, error=problem))
            return
        if not isinstance(message, Message):
            return
        self._acknowledged += 1
        self._last_ack = datetime.now(timezone.utc)
        if reason.value == _NO_MATCHING_SUBSCRIBERS:
            self._remark(
                "no subscriber",
                "the broker has no subscriber for batches: they are lost until the daemon has connected",
            )
        else:
            self._remarked.discard("no subscriber")

    def _replied(self, message: mqtt.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", b"")
        try:
            timestamp = datetime.fromisoformat(correlation.decode())
            reply = _reply(bytes(message.payload), timestamp)
        except (ValueError, TypeError, KeyError) as error:
            self._remark("reply", f"a reply cannot be read and is ignored ({error})")
            return
        self._call_back(reply)

    def _call_back(self, reply: Reply) -> None:
        if self._on_reply is None:
            return
        try:
            self._on_reply(reply)
        except Exception:
            log.exception("%s: on_reply failed on %s; the publisher goes on", self.device_id, reply)

    def _drop(self, reason: str) -> None:
        """Give the connection up: unacknowledged messages go back into the outbox."""
        connection, self._connection = self._connection, None
        unacknowledged: list[Message] = []
        if connection is not None:
            if time.monotonic() - connection.opened_at >= _STABLE_SECONDS:
                self._failures = 0
            elif connection.established and self._failures >= _SUSPICIOUS_LOSSES:
                # Mosquitto 2.0 does not tell (2.0.11 was tried), though MQTT 5 has a reason code for it.
                reason = f"{reason}, as soon as it was there, again and again: does another program use this device id?"
            unacknowledged = connection.messages()
            self._network._unwatch(connection.sock)
            connection.abandon()
        with self._lock:
            for message in reversed([*unacknowledged, *self._round]):
                if message.people is not None:
                    self._outbox.put_back(Pending(message.timestamp, message.people))
                    self._queued_at = self._round_queued_at
            self._round.clear()
            self._round_queued_at = None
        self._retry_later(reason)

    def _retry_later(self, problem: str) -> None:
        delay = min(MAX_RECONNECT_SECONDS, _FIRST_RECONNECT_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._next_attempt = time.monotonic() + delay * random.uniform(0.5, 1)
        if problem != self._problem:
            log.warning(
                "%s: %s; storing the newest batch and trying again, at most %d s apart",
                self.device_id,
                problem,
                MAX_RECONNECT_SECONDS,
            )
        self._problem = problem

    def _remark(self, kind: str, text: str) -> None:
        """Log `text`, once a kind and connection: the next batch mostly has the same fault."""
        if kind not in self._remarked:
            self._remarked.add(kind)
            log.warning("%s: %s", self.device_id, text)

    def _finish(self) -> None:
        if self._pending():
            log.warning("%s: closed before the last batch was acknowledged; it may be lost", self.device_id)
        if self._connection is not None:
            self._network._unwatch(self._connection.sock)
            self._connection.close()
        with self._lock:
            for message in self._connection.messages() if self._connection is not None else ():
                if message.people is not None:
                    self._outbox.put_back(Pending(message.timestamp, message.people))
        self._connection = None
        self._closed.set()

    def _payload_limit(self, maximum_packet_size: int) -> int:
        return outbox.payload_limit(maximum_packet_size, topic=self._batch_topic, response_topic=self._reply_topic)


class FaultyPublisher(Publisher):
    """The simulator's publisher: it can also send bytes that are no batch."""

    def publish_raw(self, payload: bytes, timestamp: datetime) -> None:
        """Send `payload` as it is, once; of many that wait only the 10 newest are sent. Its Reply has `timestamp`."""
        with self._lock:
            self._raise_if_closed()
            self._raw.append(Message(timestamp.astimezone(timezone.utc), payload, None))
        self._network._wake(self)


class _Connection:
    """One attempt and the connection that comes of it. paho's callbacks only note down events here."""

    def __init__(
        self, device_id: str, username: str | None, password: str | None, tls: ssl.SSLContext | None, status_topic: str
    ) -> None:
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=device_id, protocol=mqtt.MQTTv5, reconnect_on_failure=False
        )
        self.client.username_pw_set(username, password)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.will_set(status_topic, b"offline", qos=1, retain=True)
        self.client.connect_timeout = CONNECT_TIMEOUT_SECONDS
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = self._on_publish
        self.client.on_message = self._on_message
        self.sock: Any = None  # a socket; paho types it otherwise for its websockets
        self.opened_at = 0.0
        self.established = False
        self.ended: str | None = None
        self.window = 1
        self.maximum_packet_size = MAX_MQTT_PACKET
        self.unacknowledged: dict[int, Message | str] = {}
        self.waiting_since: float | None = None
        self._username = username
        self._acknowledgements: list[tuple[int, ReasonCode]] = []
        self._replies: list[mqtt.MQTTMessage] = []

    @property
    def alive(self) -> bool:
        """Return True if the broker has taken the connection and acknowledges what is sent."""
        waiting_since = self.waiting_since
        silent = waiting_since is not None and time.monotonic() - waiting_since > _SILENT_SECONDS
        return self.established and self.ended is None and not silent

    def open(self, host: str, port: int) -> None:
        """Connect the socket and send CONNECT. Raises OSError, after the connect timeout at the latest."""
        self.client.connect(host, port, KEEPALIVE_SECONDS, clean_start=True)
        self.sock = self.client.socket()
        if self.sock is None:
            raise ConnectionError("the broker closed the connection")
        self.opened_at = time.monotonic()

    def exchange(self, events: int, now: float) -> None:
        """Read and write what the socket has and takes, and keep the connection alive."""
        if events & selectors.EVENT_READ:
            self.client.loop_read()
            # What TLS has decrypted already is no news to the selector.
            while self.ended is None and isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
                self.client.loop_read()
        if events & selectors.EVENT_WRITE:
            self.client.loop_write()
        self.client.loop_misc()
        if not self.established and now - self.opened_at > CONNECT_TIMEOUT_SECONDS:
            self._end("the broker took the connection, but did not answer")
        elif self.client.socket() is None:
            self._end("the connection to the broker was lost")

    def publish(
        self,
        topic: str,
        payload: bytes,
        message: Message | str,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Send `payload`; `message` is the batch in it, or names what it is."""
        info = self.client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        self.unacknowledged[info.mid] = message
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()

    def messages(self) -> list[Message]:
        """Return the batches that the broker has not acknowledged."""
        return [message for message in self.unacknowledged.values() if isinstance(message, Message)]

    def acknowledged(self, mid: int) -> Message | str | None:
        """Return the message that a PUBACK is for, as it was given to `publish`; None for one that was not sent."""
        message = self.unacknowledged.pop(mid, None)
        self.waiting_since = time.monotonic() if self.unacknowledged else None
        return message

    def take_acknowledgements(self) -> list[tuple[int, ReasonCode]]:
        taken, self._acknowledgements = self._acknowledgements, []
        return taken

    def take_replies(self) -> list[mqtt.MQTTMessage]:
        taken, self._replies = self._replies, []
        return taken

    def close(self) -> None:
        """Disconnect so that the broker publishes the will: "offline" needs no PUBACK of its own that way."""
        reason = ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL)
        if self.established:
            self.client.disconnect(reason)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a DISCONNECT: a broker that still listens publishes the will."""
        self.client.on_disconnect = None
        if self.sock is not None:
            self.sock.close()

    def _end(self, reason: str) -> None:
        if self.ended is None:  # the first reason is the true one
            self.ended = reason

    def _on_connect(
        self, client: mqtt.Client, userdata: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            login = f"the login as {self._username!r}" if self._username else "a login without a user name"
            self._end(f"the broker refused {login} ({reason}): check user name and password")
            return
        self.established = True
        self.window = min(_MAX_IN_FLIGHT, getattr(properties, "ReceiveMaximum", _MAX_IN_FLIGHT))
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", MAX_MQTT_PACKET)

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: object,
    ) -> None:
        if reason.value == _SESSION_TAKEN_OVER:
            self._end("another program connected with this device id: give each device an id of its own")
        elif flags.is_disconnect_packet_from_server:
            self._end(f"the broker ended the connection ({reason})")
        elif self.established:
            self._end("the connection to the broker was lost")
        else:
            self._end(
                "the broker closed the connection without an answer: is it MQTT 5, and TLS on both sides or none?"
            )

    def _on_publish(
        self, client: mqtt.Client, userdata: object, mid: int, reason: ReasonCode, properties: object
    ) -> None:
        self._acknowledgements.append((mid, reason))

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        self._replies.append(message)


class _TlsContext(ssl.SSLContext):
    """Shakes hands while it wraps a socket, and so closes it if that fails; paho alone would leave it open."""

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*arguments, **{**options, "do_handshake_on_connect": True})


def _tls_context(ca: str | Path) -> ssl.SSLContext:
    context = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host name
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"tls_ca {str(ca)!r} is not a readable file of CA certificates: {error}") from error
    return context


def _clock_advice(error: OSError) -> str:
    if getattr(error, "verify_code", None) != _CERTIFICATE_NOT_YET_VALID:
        return ""
    today = datetime.now(timezone.utc).date()
    return f": the clock of this device says {today}. If that is wrong, set it: sudo timedatectl set-ntp true"


def _reply(payload: bytes, timestamp: datetime) -> Reply:
    """Read the daemon's reply. Raises ValueError, TypeError or KeyError if it is none."""
    fields = json.loads(payload.decode())
    if fields["status"] == "ok":
        return Reply("ok", timestamp, updated_count=int(fields["updated_count"]))
    if fields["status"] == "error":
        return Reply("error", timestamp, error=str(fields["error"]))
    raise ValueError("its status is neither ok nor error")
