"""Find packets of MQTT 5, and decode PUBLISH as far as the daemon needs it (MQTT 5, 3.3). No I/O, no clock.

The daemon does not use paho's decoder, because a device decides what stands in a packet. paho ends the connection at a
text with U+FEFF, which brokers forward. It takes minutes for the 100,000 user properties that fit into 1 MiB. In both
cases the broker would send the same message again, for ever. paho's decoder is also half of the time a message costs.
"""

import msgspec

_RESPONSE_TOPIC, _CORRELATION_DATA = 8, 9
_FIXED_BYTES = {1: 1, 2: 4, 35: 2}  # payload format indicator, message expiry interval, topic alias
_BINARY_OR_TEXT = (3, _RESPONSE_TOPIC, _CORRELATION_DATA)  # and content type: two bytes of length, then so many
_SUBSCRIPTION_IDENTIFIER, _USER_PROPERTY = 11, 38


class Message(msgspec.Struct, frozen=True, gc=False):
    """One PUBLISH as the broker sent it. `packet_id` is valid only on the connection numbered `connection`.

    `size` is the packet's remaining length: the bytes of topic, properties and payload, and a few more.
    `dup` says that the broker sent it before, on an earlier connection. `retain` says that it was published
    retained, now or long ago. Text that is not UTF-8 gets U+FFFD, which no valid topic contains.
    """

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    connection: int
    size: int
    response_topic: str | None = None
    correlation_data: bytes | None = None
    dup: bool = False
    retain: bool = False


class MalformedPacketError(Exception):
    """Raised when a packet contradicts its own lengths. No broker sends such a packet."""


def packet_at(data: bytes, at: int) -> tuple[int, int] | None:
    """Return begin and end of what follows the remaining length of the packet at `at`; None if it is incomplete.

    Raises MalformedPacketError.
    """
    try:
        length, begin = _variable_byte_integer(data, at + 1)
    except IndexError:
        return None
    end = begin + length
    return (begin, end) if end <= len(data) else None


def decode_publish(command: int, packet: bytes, *, connection: int) -> Message:
    """Decode a packet that arrived on `connection`, from its first byte and from what follows the remaining length.

    It reads only the properties Response Topic and Correlation Data, and skips the others without checking them. It
    stops at a property that MQTT 5 does not know. Raises MalformedPacketError.
    """
    try:
        end = 2 + int.from_bytes(packet[:2], "big")
        topic = packet[2:end].decode(errors="replace")
        qos, packet_id = (command >> 1) & 3, 0
        if qos:
            packet_id = int.from_bytes(packet[end : end + 2], "big")
            end += 2
        length, begin = _variable_byte_integer(packet, end)
    except IndexError as error:
        raise MalformedPacketError("a PUBLISH that ends in its header") from error
    end = begin + length
    if end > len(packet):
        raise MalformedPacketError("a PUBLISH that ends in its properties")
    response_topic, correlation_data = _answer_properties(packet[begin:end]) if length else (None, None)
    return Message(
        topic,
        packet[end:],
        qos,
        packet_id,
        connection,
        len(packet),
        response_topic,
        correlation_data,
        bool(command & 8),
        bool(command & 1),
    )


def _answer_properties(properties: bytes) -> tuple[str | None, bytes | None]:
    """Return Response Topic and Correlation Data, read in one pass by offset."""
    response_topic: str | None = None
    correlation_data: bytes | None = None
    at, end = 0, len(properties)
    try:
        while at < end:
            identifier = properties[at]
            at += 1
            if identifier == _USER_PROPERTY:
                for _ in "name", "value":
                    at += 2 + (properties[at] << 8 | properties[at + 1])
            elif identifier in _BINARY_OR_TEXT:
                begin = at + 2
                at = begin + (properties[at] << 8 | properties[at + 1])
                if identifier == _RESPONSE_TOPIC:
                    response_topic = properties[begin:at].decode(errors="replace")
                elif identifier == _CORRELATION_DATA:
                    correlation_data = properties[begin:at]
            elif identifier == _SUBSCRIPTION_IDENTIFIER:
                _, at = _variable_byte_integer(properties, at)
            elif identifier in _FIXED_BYTES:
                at += _FIXED_BYTES[identifier]
            else:
                break
    except (IndexError, MalformedPacketError):  # the last property is longer than the rest of the packet
        pass
    return response_topic, correlation_data


def _variable_byte_integer(data: bytes, at: int) -> tuple[int, int]:
    """Return the integer at `at` (MQTT 5, 1.5.5) and the offset behind it.

    Raises IndexError if the data end in it, and MalformedPacketError.
    """
    value = 0
    for shift in (0, 7, 14, 21):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise MalformedPacketError("a length of more than four bytes")
