"""What the daemon answers over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever restarts or waits.

A thread of its own, which answers also while the loop stands still: then that is what it says.
"""

import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import BoundedSemaphore, Thread, Timer
from types import TracebackType
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from emotion_daemon.monitoring.heartbeat import OK, Heartbeat

PATIENCE_SECONDS = 5.0
"""How long a client may take to ask, and to read."""

MOST_CLIENTS = 16
"""How many are answered at the same time; the others are turned away, and each may ask again."""


class StatusServer:
    """Answers at `address`, host and port, for the block. Raises OSError where it cannot listen there."""

    def __init__(self, address: tuple[str, int], heartbeat: Heartbeat, registry: CollectorRegistry) -> None:
        self._server = _Server(address, heartbeat, registry)
        self._thread = Thread(target=self._server.serve_forever, name="status", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens, also where any free port was asked for."""
        return int(self._server.server_address[1])

    def __enter__(self) -> "StatusServer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client that hangs does not hold up the end
    block_on_close = False

    def __init__(self, address: tuple[str, int], heartbeat: Heartbeat, registry: CollectorRegistry) -> None:
        (self.address_family, *_), *_ = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        self.heartbeat = heartbeat
        self.registry = registry
        self._room = BoundedSemaphore(MOST_CLIENTS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the look for our own name, which http.server does not need, and a silent name server delays."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread has begun, and so none gives the place back
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away: nothing to do, and nothing for the log."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    patience = PATIENCE_SECONDS
    server_version, sys_version = "emotion-daemon", ""

    def setup(self) -> None:
        super().setup()
        # The socket's own timeout counts for each byte: sixteen who send one now and then would keep out all others.
        self._deadline = Timer(self.patience, self._leave)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        super().finish()

    def _leave(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        heartbeat = self.server.heartbeat
        if path == "/metrics":
            self._answer(200, generate_latest(self.server.registry), CONTENT_TYPE_LATEST)
        elif path == "/healthz":
            self._say(heartbeat.alive)
        elif path == "/readyz":
            self._say(heartbeat.ready_line)
        else:
            self._answer(404, b"there are /metrics, /healthz and /readyz\n")

    do_HEAD = do_GET

    def _say(self, line: str) -> None:
        self._answer(200 if line == OK else 503, f"{line}\n".encode(errors="backslashreplace"))

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Somebody asks every few seconds: that is no news."""
