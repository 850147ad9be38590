"""The daemon over HTTP: /metrics for Prometheus, /healthz and /readyz for health checks.

The server has threads of its own: it also answers while the loop stands still, and then says so.
"""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from emotion_daemon.monitoring.heartbeat import OK, Heartbeat
from shared.settings import SettingsError


@contextmanager
def serving(address: tuple[str, int] | None, heartbeat: Heartbeat, registry: CollectorRegistry) -> Iterator[int]:
    """Serve at `address`, host and port, during the block, and yield the port. Raises SettingsError."""
    if address is None:
        yield 0
        return
    try:
        server = _Server(address, _application(heartbeat, registry))
    except OSError as error:
        found = f"is {address[0]}:{address[1]}, but the daemon cannot listen there: {error.strerror}"
        raise SettingsError("EMOTION_DAEMON_HTTP_ADDRESS", found) from error
    with server:
        Thread(target=server.serve_forever, name="http", daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def _application(heartbeat: Heartbeat, registry: CollectorRegistry) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path in ("/healthz", "/readyz"):
            line = heartbeat.alive if path == "/healthz" else heartbeat.ready_line
            status = "200 OK" if line == OK else "503 Service Unavailable"
        else:
            line, status = "Not found. This server has /metrics, /healthz and /readyz.", "404 Not Found"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")])
        return [f"{line}\n".encode(errors="backslashreplace")]

    return application


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a hanging client does not delay the daemon's end

    def __init__(self, address: tuple[str, int], application: WSGIApplication) -> None:
        (self.address_family, *_), *_ = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        super().__init__(address, _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind without looking up this machine's name, which takes long if a name server does not answer."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that went away."""


class _Handler(WSGIRequestHandler):
    timeout = 5.0  # after which a silent client's thread ends

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: health checks ask every few seconds."""
