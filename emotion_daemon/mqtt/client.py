"""paho's client, except for the packets that a backlog consists of: PUBLISH in, PUBACK out.

paho calls `recv` three times a packet and sends one PUBACK after the other. This client reads the socket in large
pieces, takes the PUBLISH packets out of them (see publish_packet.py), and leaves each other packet to paho.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from emotion_daemon.mqtt.publish_packet import MalformedPacketError, packet_at

log = logging.getLogger(__name__)

_PIECE = 2**16  # bytes a recv
_PUBLISH, _PUBACK = 0x30, 0x40


class Client(mqtt.Client):
    """`on_publish_packet` gets each PUBLISH undecoded: its first byte, and what follows the remaining length."""

    def __init__(self, on_publish_packet: Callable[[int, bytes], None], client_id: str) -> None:
        self.has_unread = False
        """True if `read` had no room for all that it has taken from the socket: `select` does not see the rest."""
        self._unread = b""
        self._packet = b""
        self._on_publish_packet = on_publish_packet
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5, manual_ack=True)
        # With this callback set, paho queues packets until loop_write instead of one send a packet.
        self.on_socket_register_write = _write_later

    def read(self, has_room: Callable[[], bool]) -> None:
        """Handle the packets that have arrived, while `has_room`. Close a connection that is lost or malformed."""
        try:
            while self._handle_packets(has_room):
                piece = super()._sock_recv(_PIECE)
                if not piece:
                    raise ConnectionError("the broker closed the connection")
                self._unread += piece
                self._last_bytes_received = time.monotonic()
        except BlockingIOError:
            pass  # the socket is empty
        except OSError:
            self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        except MalformedPacketError as error:
            log.error("the broker sent %s", error)
            self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)

    def ack_all(self, packet_ids: Iterable[int]) -> None:
        """Queue a PUBACK for each of these packets, as one write."""
        acks = b"".join([b"\x40\x02" + packet_id.to_bytes(2, "big") for packet_id in packet_ids])
        if acks:
            self._packet_queue(_PUBACK, acks, 0, 1)

    def _handle_packets(self, has_room: Callable[[], bool]) -> bool:
        """Handle the packets that are complete; return True if there is room for more of them."""
        unread, at = self._unread, 0
        while has_room():
            found = packet_at(unread, at)
            if found is None:
                self.has_unread = False
                self._unread = unread[at:]
                return True
            begin, end = found
            command = unread[at]
            if command & 0xF0 == _PUBLISH:
                self._on_publish_packet(command, unread[begin:end])
            elif not self._leave_to_paho(unread[at:end]):
                return False
            at = end
        self.has_unread = True
        self._unread = unread[at:]
        return False

    def _leave_to_paho(self, packet: bytes) -> bool:
        """Let paho handle a packet; return True if the connection goes on."""
        self._packet = packet
        rc = self._packet_read()
        if rc > 0:
            self._loop_rc_handle(rc)
        return self._sock is not None

    def _sock_recv(self, bufsize: int) -> bytes:
        """Give paho's `_packet_read` the packet that was left to it."""
        data, self._packet = self._packet[:bufsize], self._packet[bufsize:]
        return data

    def _sock_close(self) -> None:
        super()._sock_close()
        self._unread, self.has_unread = b"", False


def _write_later(client: mqtt.Client, userdata: Any, sock: Any) -> None:
    """Do nothing: Subscriber writes when it has handled a group."""
