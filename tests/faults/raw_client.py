"""A raw MQTT 5 client, which sends what no library would. A packet is bytes here; both time and bytes are bounded."""

import select
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from time import monotonic, sleep
from typing import NamedTuple

FOREVER = 0xFFFF_FFFF
"""A session expiry that never comes, and the longest delay of a will."""

MAX_TEXT = 65_535
"""Bytes of the longest topic, of the longest will, and of each half of a user property."""

RESPONSE_TOPIC, SESSION_EXPIRY, WILL_DELAY, RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM = 0x08, 0x11, 0x18, 0x21, 0x22
TOPIC_ALIAS, USER_PROPERTY, MAXIMUM_PACKET_SIZE = 0x23, 0x26, 0x27

CONNACK, PUBACK, PUBREC, SUBACK, DISCONNECT = 2, 4, 5, 9, 14
NAMES = {CONNACK: "CONNACK", PUBACK: "PUBACK", PUBREC: "PUBREC", SUBACK: "SUBACK", DISCONNECT: "DISCONNECT"}

_PROPERTY_SIZES = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
"""Bytes of the numbers in a CONNACK; its other properties are texts."""


class Over(Exception):
    """Raised when the client has used up its time or its bytes."""


class Limits(NamedTuple):
    """The limits in the broker's CONNACK."""

    packet_size: int
    receive_maximum: int
    topic_aliases: int


class Will(NamedTuple):
    topic: str
    payload: bytes
    properties: bytes = b""


class RawClient:
    """One login's connection, one at a time. Raises Over after `seconds` or `max_bytes`, OSError if the broker ends it.

    `answers` counts the broker's answers by packet and reason code, such as "SUBACK 0x87".
    """

    def __init__(self, host: str, port: int, login: str, password: str, *, seconds: float, max_bytes: int) -> None:
        self.login = login
        self.answers: Counter[str] = Counter()
        self.connections = 0
        self.packets = 0
        self.sent_bytes = 0
        self._address = host, port
        self._password = password
        self._until = monotonic() + seconds
        self._max_bytes = max_bytes
        self._socket: socket.socket | None = None
        self._received = b""
        self._limits: list[Limits] = []  # of this connection's CONNACK, once it has arrived

    def connect(self, client_id: str = "", *, will: Will | None = None) -> Limits:
        """Connect to a session that never expires, and return the limits of its CONNACK."""
        self._limits, self._received = [], b""
        self._socket = socket.create_connection(self._address, timeout=5)
        self._socket.setblocking(False)
        self.connections += 1
        self.send(connect_packet(client_id or self.login, self.login, self._password, will))
        while not self._limits:
            self._check_bounds()
            self._exchange(memoryview(b""))
        return self._limits[0]

    def send(self, data: bytes, *, packets: int = 1) -> None:
        """Send as fast as the socket takes it, and read what the broker answers meanwhile."""
        unsent = memoryview(data)
        while unsent:
            self._check_bounds()
            unsent = unsent[self._exchange(unsent) :]
        self.packets += packets

    def read(self, seconds: float) -> None:
        """Read answers for so long."""
        until = monotonic() + seconds
        while monotonic() < until:
            self._check_bounds()
            self._exchange(memoryview(b""))

    def drop(self) -> None:
        """Reset the connection, without a DISCONNECT and without a port that stays taken for a minute."""
        if self._socket is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
            self._socket = None

    def rest(self) -> None:
        """Wait a moment before the next attempt, so that a broker that accepts nothing does not cost this machine."""
        self._check_bounds()
        sleep(0.01)

    def _check_bounds(self) -> None:
        if monotonic() > self._until or self.sent_bytes > self._max_bytes:
            raise Over

    def _exchange(self, unsent: memoryview) -> int:
        """Read what has arrived and send what the socket takes; return how many bytes that were."""
        assert self._socket is not None
        readable, writable, _ = select.select([self._socket], [self._socket] if unsent else [], [], 0.1)
        if readable:
            received = self._socket.recv(262_144)
            if not received:
                raise ConnectionError("the broker has closed the connection")
            self._received += received
            self._note_answers()
        if not writable:
            return 0
        sent = self._socket.send(unsent)
        self.sent_bytes += sent
        return sent

    def _note_answers(self) -> None:
        start = 0
        while (packet := _first_packet(self._received, start)) is not None:
            kind, body, start = packet
            if kind == CONNACK:
                self._limits.append(_limits(body))
            if kind in NAMES:
                for reason, number in Counter(_reasons(kind, body)).items():
                    self.answers[f"{NAMES[kind]} {reason:#04x}"] += number
                    if kind == CONNACK and reason >= 0x80:
                        raise ConnectionError("the broker has refused the connection")
        self._received = self._received[start:]


def connect_packet(client_id: str, login: str, password: str, will: Will | None = None) -> bytes:
    """A CONNECT with a session that never expires; the will is retained, at QoS 1."""
    flags = 0b1100_0000 | (0b0010_1100 if will else 0)
    body = text(b"MQTT") + bytes([5, flags]) + struct.pack(">H", 60)
    body += with_length(bytes([SESSION_EXPIRY]) + struct.pack(">I", FOREVER)) + text(client_id.encode())
    if will is not None:
        body += with_length(will.properties) + text(will.topic.encode()) + text(will.payload)
    return packet(0x10, body + text(login.encode()) + text(password.encode()))


def publish_packet(
    topic: str, payload: bytes, *, qos: int, packet_id: int = 0, retain: bool = False, properties: bytes = b""
) -> bytes:
    """A PUBLISH; `packet_id` counts round, as those of a client do that waits for no answer."""
    numbered = struct.pack(">H", packet_id % MAX_TEXT + 1) if qos else b""
    body = text(topic.encode()) + numbered + with_length(properties) + payload
    return packet(0x30 | qos << 1 | retain, body)


def subscribe_packet(filters: Iterable[str]) -> bytes:
    return packet(0x82, b"\x00\x01\x00" + b"".join(text(each.encode()) + b"\x01" for each in filters))


def user_properties(size: int) -> bytes:
    """User properties of `size` bytes together, or a little less."""
    largest = bytes([USER_PROPERTY]) + text(b"x") + text(b"x" * 60_000)
    rest = size % len(largest) - len(b"_..x..")
    last = bytes([USER_PROPERTY]) + text(b"x") + text(b"x" * rest) if rest >= 0 else b""
    return largest * (size // len(largest)) + last


def alias_property(alias: int) -> bytes:
    return bytes([TOPIC_ALIAS]) + struct.pack(">H", alias)


def response_property(topic: str) -> bytes:
    return bytes([RESPONSE_TOPIC]) + text(topic.encode())


def delay_property(seconds: int) -> bytes:
    return bytes([WILL_DELAY]) + struct.pack(">I", seconds)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + with_length(body)


def with_length(body: bytes) -> bytes:
    """The bytes behind their length, as a variable byte integer."""
    length, encoded = len(body), b""
    while length >= 128:
        encoded += bytes([length % 128 | 128])
        length //= 128
    return encoded + bytes([length]) + body


def text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def _first_packet(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    """The kind and body of the packet at `start`, and where the next begins; None if it has not arrived completely."""
    length, shift, position = 0, 0, start + 1
    while position < len(data):
        length |= (data[position] & 127) << shift
        position += 1
        if data[position - 1] < 128:
            end = position + length
            return (data[start] >> 4, data[position:end], end) if end <= len(data) else None
        shift += 7
    return None


def _reasons(kind: int, body: bytes) -> bytes:
    if kind == CONNACK:
        return body[1:2]
    if kind == SUBACK:
        return body[3 + body[2] :]  # its properties are shorter than 128 bytes
    after_packet_id = body if kind == DISCONNECT else body[2:]
    return after_packet_id[:1] or b"\x00"


def _limits(connack: bytes) -> Limits:
    """The limits in a CONNACK, which says nothing of one that is the protocol's default."""
    found: dict[int, int] = {}
    position = 3  # behind flags, reason code and the length of the properties, which are shorter than 128 bytes
    while position < len(connack):
        name, position = connack[position], position + 1
        if name in _PROPERTY_SIZES:
            size = _PROPERTY_SIZES[name]
            found[name] = int.from_bytes(connack[position : position + size], "big")
        else:
            halves = 2 if name == USER_PROPERTY else 1
            size = 0
            for _ in range(halves):
                size += 2 + int.from_bytes(connack[position + size : position + size + 2], "big")
        position += size
    return Limits(
        packet_size=found.get(MAXIMUM_PACKET_SIZE, 2**20),
        receive_maximum=found.get(RECEIVE_MAXIMUM, MAX_TEXT),
        topic_aliases=found.get(TOPIC_ALIAS_MAXIMUM, 0),
    )
