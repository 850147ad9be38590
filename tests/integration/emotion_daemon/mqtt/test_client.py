"""The client takes PUBLISH packets out of the stream, however the stream is cut, and leaves the others to paho."""

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.properties import VariableByteIntegers

from emotion_daemon.mqtt.client import Client

PINGRESP = b"\xd0\x00"


class Stream:
    """A client that is connected to the test. `seen` has what it took out."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bytes]] = []
        self.client = Client(lambda command, packet: self.seen.append((command, packet)), "test")
        self.ended = False
        self.client.on_disconnect = lambda *_: setattr(self, "ended", True)
        self.broker, mine = socket.socketpair()
        mine.setblocking(False)
        self.client._sock = mine

    def close(self) -> None:
        self.broker.close()
        self.client._reset_sockets()

    def send(self, data: bytes, *, room: int = 1_000) -> None:
        self.broker.sendall(data)
        self.read(room)

    def read(self, room: int) -> None:
        """Let the client read until it has `room` packets in all."""
        self.client.read(lambda: len(self.seen) < room)


@pytest.fixture
def stream() -> Iterator[Stream]:
    stream = Stream()
    yield stream
    stream.close()


def publish(body: bytes) -> bytes:
    """A packet whose content does not matter to the client."""
    length: bytes = VariableByteIntegers.encode(len(body))
    return b"\x32" + length + body


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=12), st.data())
def test_packets_come_whole_and_in_order_however_the_stream_is_cut(bodies: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(publish(body) + PINGRESP for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8), label="cuts"))
    stream = Stream()
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            stream.send(whole[begin:end])
    finally:
        stream.close()

    assert stream.seen == [(0x32, body) for body in bodies]
    assert not stream.client.has_unread


def test_without_room_the_rest_waits_and_is_known_to_wait(stream: Stream) -> None:
    stream.send(b"".join(publish(bytes([n])) for n in range(5)), room=2)
    assert [body for _, body in stream.seen] == [b"\0", b"\1"]
    assert stream.client.has_unread

    stream.read(room=4)
    assert len(stream.seen) == 4
    stream.read(room=9)

    assert [body for _, body in stream.seen] == [bytes([n]) for n in range(5)]
    assert not stream.client.has_unread


def test_a_packet_that_is_larger_than_a_piece_comes_whole(stream: Stream) -> None:
    body = bytes(300_000)
    packet = publish(body)
    for start in range(0, len(packet), 50_000):
        stream.send(packet[start : start + 50_000])

    assert stream.seen == [(0x32, body)]


def test_the_end_of_the_connection_forgets_half_a_packet(stream: Stream) -> None:
    stream.send(publish(b"whole") + publish(b"half")[:-1])
    stream.broker.close()
    stream.read(room=9)

    assert [body for _, body in stream.seen] == [b"whole"]
    assert stream.ended
    assert stream.client.socket() is None
    assert not stream.client.has_unread


@pytest.mark.parametrize("data", [b"\x32\xff\xff\xff\xff\x01", b"\x00\x00"], ids=["length of five bytes", "no type"])
def test_what_is_no_mqtt_ends_the_connection(stream: Stream, data: bytes) -> None:
    stream.send(data)

    assert stream.ended
    assert stream.client.socket() is None


def test_a_group_is_acknowledged_in_one_write(stream: Stream) -> None:
    stream.client.ack_all([1, 65_535])
    stream.client.loop_write()

    assert stream.broker.recv(100) == struct.pack(">BBHBBH", 0x40, 2, 1, 0x40, 2, 65_535)
