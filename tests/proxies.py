"""A TCP proxy between a client and a broker: the network, which a test may cut."""

import contextlib
import select
import socket
import threading
from types import TracebackType

from tests.brokers import Broker

_CHUNK = 65_536


class Proxy:
    """Forwards connections to the broker until the block ends. One thread, blocking sends: for a test's few bytes."""

    host = "127.0.0.1"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join(timeout=15)
        self.cut()
        self._listener.close()

    def cut(self) -> None:
        """Break every connection of this moment; what was sent before still arrives."""
        with self._lock:
            while self._forward_waiting():
                pass
            for sock in self._peers:
                sock.close()
            self._peers.clear()

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._lock:
                if select.select([self._listener], [], [], 0)[0]:
                    self._accept()
                self._forward_waiting()
            self._closing.wait(0.002)

    def _forward_waiting(self) -> bool:
        """Forward once from every socket that has something, and tell whether any had."""
        readable, _, _ = select.select(list(self._peers), [], [], 0)
        for sock in readable:
            if sock in self._peers:
                self._forward(sock)
        return bool(readable)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection((self._broker.host, self._broker.port), timeout=5)
        except OSError:
            client.close()
            return
        self._peers |= {client: server, server: client}

    def _forward(self, sock: socket.socket) -> None:
        peer = self._peers[sock]
        data = b""
        with contextlib.suppress(OSError):
            data = sock.recv(_CHUNK)
            peer.sendall(data)
        if not data:
            for end in (sock, peer):
                self._peers.pop(end)
                end.close()
