"""Connections that do nothing, held by a process of their own: `python -m tests.faults.idle PORT NUMBER [mqtt]`.

A process of their own, because 1,024 handles is all that a process has by default, and all that select() takes.
"""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.processes import ROOT

HOST = "127.0.0.1"


@contextmanager
def idle_connections(port: int, number: int, *, mqtt: bool = False) -> Iterator[None]:
    """So many connections during the block; with `mqtt`, to a broker that has confirmed each of them."""
    command = [sys.executable, "-m", "tests.faults.idle", str(port), str(number), *(["mqtt"] if mqtt else [])]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"connected\n"
        yield
        process.stdin.close()


def hold(port: int, number: int, *, mqtt: bool) -> None:
    """Hold the connections until standard input ends; one that the server closes is made anew."""
    connections = [connect(port, f"idle {each}" if mqtt else None) for each in range(number)]
    print("connected", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        readable, _, _ = select.select(connections, [], [], 0.2)
        for sock in readable:
            if not sock.recv(4_096):
                each = connections.index(sock)
                sock.close()
                connections[each] = connect(port, f"idle {each}" if mqtt else None)


def connect(port: int, client_id: str | None) -> socket.socket:
    sock = socket.create_connection((HOST, port), timeout=30)
    if client_id is not None:
        sock.sendall(mqtt_connect(client_id.encode()))
        assert sock.recv(4) == b"\x20\x02\x00\x00", "the broker did not accept an idle client"
    return sock


def mqtt_connect(client_id: bytes) -> bytes:
    """A CONNECT of MQTT 3.1.1 with clean session and no keepalive: the broker never asks whether it is there."""
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(client_id).to_bytes(2, "big") + client_id
    return bytes([0x10, len(body)]) + body


if __name__ == "__main__":
    hold(int(sys.argv[1]), int(sys.argv[2]), mqtt=sys.argv[3:] == ["mqtt"])
