"""PUBLISH packets as paho packs them, and malformed ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from emotion_daemon.mqtt.publish_packet import MalformedPacketError, Message, decode_publish

TOPIC = b"emotions/jetson_1/batch"
QOS_1 = 0x32


def packet(properties: bytes = b"", *, topic: bytes = TOPIC, payload: bytes = b"{}") -> bytes:
    """Return the bytes after the remaining length of a PUBLISH at QoS 1 with the packet id 7."""
    length: bytes = VariableByteIntegers.encode(len(properties))
    return struct.pack(">H", len(topic)) + topic + b"\x00\x07" + length + properties + payload


def user_property(name: bytes, value: bytes) -> bytes:
    return b"\x26" + struct.pack(">H", len(name)) + name + struct.pack(">H", len(value)) + value


def decode(command: int, body: bytes) -> Message:
    """Decode `body` as it arrived on the connection numbered 3."""
    return decode_publish(command, body, connection=3)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=200)


@given(
    payload=st.binary(max_size=500),
    response_topic=st.none() | TEXT,
    correlation_data=st.none() | st.binary(max_size=200),
    user_properties=st.lists(st.tuples(TEXT, TEXT), max_size=5),
    expiry=st.none() | st.integers(0, 2**32 - 1),
    content_type=st.none() | TEXT,
)
def test_what_paho_packs_is_decoded(
    payload: bytes,
    response_topic: str | None,
    correlation_data: bytes | None,
    user_properties: list[tuple[str, str]],
    expiry: int | None,
    content_type: str | None,
) -> None:
    given_ = {
        "ResponseTopic": response_topic,
        "CorrelationData": correlation_data,
        "UserProperty": user_properties or None,
        "MessageExpiryInterval": expiry,
        "ContentType": content_type,
        "SubscriptionIdentifier": 300,
        "PayloadFormatIndicator": 1,
        "TopicAlias": 5,
    }
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in given_.items():
        if value is not None:
            setattr(properties, name, value)
    packed = properties.pack()
    _, length_bytes = VariableByteIntegers.decode(packed)

    body = packet(packed[length_bytes:], payload=payload)

    assert decode(QOS_1, body) == Message(TOPIC.decode(), payload, 1, 7, 3, len(body), response_topic, correlation_data)


def test_a_packet_at_qos_0_has_no_packet_id() -> None:
    body = struct.pack(">H", len(TOPIC)) + TOPIC + b"\x00{}"

    assert decode(0x30, body) == Message(TOPIC.decode(), b"{}", 0, 0, 3, len(body))


def test_what_the_broker_has_sent_before_is_marked() -> None:
    decoded = decode(QOS_1 | 8, packet())

    assert (decoded.dup, decoded.retain) == (True, False)


def test_what_was_there_before_the_subscription_is_marked() -> None:
    decoded = decode(QOS_1 | 1, packet())

    assert (decoded.dup, decoded.retain) == (False, True)


@pytest.mark.parametrize(
    "properties",
    [
        user_property(b"note", "\ufeffhello".encode()),
        user_property(b"\xff\xfe", b"\xed\xa0\x80"),
        b"\x03\x00\x03\xef\xbb\xbf",
        b"\x7f whatever",
        b"\x02\x00",
        b"\x08\xff\xff",
        b"\x26\x00\x01a",
        b"\x0b\xff\xff\xff",
        b"\x09",
    ],
    ids=[
        "BOM",
        "no UTF-8",
        "BOM as content type",
        "unknown",
        "cut number",
        "cut text",
        "cut pair",
        "cut integer",
        "cut",
    ],
)
def test_odd_properties_are_passed_over(properties: bytes) -> None:
    decoded = decode(QOS_1, packet(properties))

    assert (decoded.topic, decoded.payload, decoded.packet_id) == (TOPIC.decode(), b"{}", 7)


@pytest.mark.parametrize("text", ["\ufeff".encode(), b"\xff"])
def test_topics_that_are_no_valid_text_are_no_valid_topics(text: bytes) -> None:
    decoded = decode(QOS_1, packet(b"\x08" + struct.pack(">H", len(text)) + text, topic=TOPIC + b"\xff"))

    assert decoded.topic == TOPIC.decode() + "\ufffd"
    assert decoded.response_topic in ("\ufeff", "\ufffd")


@pytest.mark.parametrize("length", range(len(packet(b"\x01\x01", payload=b""))))
def test_a_packet_that_was_cut_in_its_header_is_malformed(length: int) -> None:
    with pytest.raises(MalformedPacketError):
        decode(QOS_1, packet(b"\x01\x01", payload=b"")[:length])
