"""A TCP proxy between a client and a broker: the network, which a test may cut, stall, slow down or half close."""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from types import TracebackType
from typing import Literal

from tests.background import repeatedly
from tests.brokers import Broker

Side = Literal["client", "broker"]

_CHUNK = 65_536
_TICK_SECONDS = 0.002
_BYTES_A_TICK = 20
"""Bytes that travel in a tick, each in a segment of its own, while they travel one at a time."""


class Proxy:
    """Forwards connections to the broker until the block ends, on one thread that never waits for a single socket.

    `stalled`, `dripping`, `delayed` and `silent` last for their block and hold for old and new connections alike;
    `cut` and `half_open` happen to the connections of that moment.
    """

    host = "127.0.0.1"

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._listener = socket.create_server((self.host, 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._pipes: list[_Pipe] = []
        self._abandoned: list[socket.socket] = []
        self._stalled_from: frozenset[Side] = frozenset()
        self._dripping = False
        self._delay = 0.0
        self._silent = False
        self._lock = threading.Lock()
        self._block = ExitStack()

    def __enter__(self) -> "Proxy":
        self._block.callback(self._close)
        self._block.enter_context(repeatedly(self._forward_all, pause=_TICK_SECONDS))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._block.close()

    @property
    def abandoned(self) -> int:
        """Return the number of open connections that have become silent for ever, or were from their start."""
        return len(self._abandoned)

    def cut(self) -> None:
        """Break every connection of this moment; what was sent before still arrives, unless the network stalls."""
        with self._lock:
            while any([self._forward(pipe) for pipe in self._pipes]):  # a list: each has its turn
                pass
            for pipe in self._pipes:
                pipe.source.close()
            self._pipes.clear()

    def half_open(self, *, closed: Side | None) -> None:
        """From now on nothing passes on the connections of this moment, and only the `closed` side learns of it.

        The other side, or with None both, has an open connection that is silent for ever.
        """
        with self._lock:
            for pipe in self._pipes:
                if pipe.sender == closed:
                    pipe.source.close()
                else:
                    self._abandoned.append(pipe.source)
            self._pipes.clear()

    @contextmanager
    def stalled(self, *senders: Side) -> Iterator[None]:
        """Nothing that these send is forwarded during the block; all of it is at the end."""
        self._stalled_from = frozenset(senders)
        try:
            yield
        finally:
            self._stalled_from = frozenset()

    @contextmanager
    def dripping(self) -> Iterator[None]:
        """Every byte travels alone during the block, about 10,000 a second."""
        self._dripping = True
        try:
            yield
        finally:
            self._dripping = False

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """Delay the bytes that are sent during the block by so many seconds, each way."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connections that are made during the block are accepted, and never hear anything."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    def _forward_all(self) -> None:
        with self._lock:
            self._accept()
            for pipe in list(self._pipes):
                self._forward(pipe)

    def _close(self) -> None:
        self.cut()
        for sock in self._abandoned:
            sock.close()
        self._listener.close()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        if self._silent:
            self._abandoned.append(client)
            return
        try:
            server = socket.create_connection((self._broker.host, self._broker.port), timeout=5)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pipes += [_Pipe("client", client, server), _Pipe("broker", server, client)]

    def _forward(self, pipe: "_Pipe") -> bool:
        """Move on what this pipe has, as the network is just now, and tell whether anything was sent."""
        if pipe.sender in self._stalled_from or pipe not in self._pipes:
            return False
        try:
            pipe.read(arrival=monotonic() + self._delay)
            return pipe.write_bytes() if self._dripping else pipe.write()
        except OSError:  # one side has closed: the other is told
            self._pipes = [other for other in self._pipes if other.source not in (pipe.source, pipe.sink)]
            pipe.source.close()
            pipe.sink.close()
            return False


class _Pipe:
    """One direction of a connection: what `source` sent and `sink` has not got yet."""

    def __init__(self, sender: Side, source: socket.socket, sink: socket.socket) -> None:
        self.sender = sender
        self.source = source
        self.sink = sink
        self._travelling: deque[tuple[float, bytes]] = deque()
        self._arrived = b""
        self._ended = False

    def read(self, *, arrival: float) -> None:
        """Take what the source has sent; it can be written from `arrival` (monotonic seconds) on."""
        if not self._ended and len(self._travelling) < 100:
            with contextlib.suppress(BlockingIOError):
                data = self.source.recv(_CHUNK)
                self._ended = not data
                self._travelling.append((arrival, data))
        while self._travelling and self._travelling[0][0] <= monotonic() and len(self._arrived) < _CHUNK:
            self._arrived += self._travelling.popleft()[1]
        if self._ended and not self._travelling and not self._arrived:
            raise ConnectionResetError

    def write(self) -> bool:
        """Send what has arrived, as far as the sink takes it."""
        return self._send(self._arrived)

    def write_bytes(self) -> bool:
        """Send the first bytes of what has arrived, one by one."""
        return any([self._send(self._arrived[:1]) for _ in range(_BYTES_A_TICK)])

    def _send(self, data: bytes) -> bool:
        if not data:
            return False
        with contextlib.suppress(BlockingIOError):
            self._arrived = self._arrived[self.sink.send(data) :]
            return True
        return False
