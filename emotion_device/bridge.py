"""python -m emotion_device bridge: takes batches by HTTP POST, as the former backend did, and publishes them.

camera -- POST /api/emotions/batch --> bridge -- MQTT --> broker --> daemon -- reply --> bridge --> camera
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import signal
import socket
import socketserver
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from emotion_device import posted
from emotion_device.command_line import PROGRAM, Parser
from emotion_device.errors import InvalidBatch, PublisherError
from emotion_device.publisher import Network, Publisher, Reply
from emotion_device.unattended import Watchdog, log_to_stderr

PATH = "/api/emotions/batch"
MAX_BODY = 1 << 20
MAX_DEVICES = 100
"""The most devices that a bridge without a password file serves."""

IDLE_SECONDS = 60.0
"""A device that has posted nothing for so long is reported offline."""

_RETRY_SECONDS = 5
_CONNECT_SECONDS = 1.0
_TURN_SECONDS = 1.0

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The response to one POST."""

    status: HTTPStatus
    body: Mapping[str, object]


class Device:
    """One device's publisher, and the request that waits for the daemon's reply. One request at a time."""

    def __init__(self, connect: Callable[[Callable[[Reply], None]], Publisher]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._replies: queue.Queue[Reply] = queue.Queue()
        self._used_at = time.monotonic()

    def deliver(self, batch: posted.Posted, timeout: float) -> Answer:
        """Publish a batch and wait for the reply. Raises ValueError if the batch or the device's id is invalid."""
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout=timeout):
            return error(HTTPStatus.SERVICE_UNAVAILABLE, "an earlier batch of this device is not answered yet")
        try:
            if self._publisher is None:
                self._publisher = self._connect(self._replies.put)
            self._used_at = time.monotonic()
            self._publisher.publish(batch.people, batch.timestamp)
            reply = self._reply_to(batch, min(deadline, time.monotonic() + _CONNECT_SECONDS))
            if reply is None and not self._publisher.connected:
                return error(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "the broker is not reachable: the bridge holds the newest batch and sends it later",
                )
            return _answer(reply or self._reply_to(batch, deadline))
        finally:
            self._lock.release()

    def close_if_idle(self) -> None:
        """Disconnect, so that the broker says "offline", if the device posts no more and everything is sent."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            idle = time.monotonic() - self._used_at > IDLE_SECONDS
            if idle and self._publisher is not None and self._publisher.connected:
                self._publisher.close(timeout=1.0)
                self._publisher = None
        finally:
            self._lock.release()

    def _reply_to(self, batch: posted.Posted, deadline: float) -> Reply | None:
        while True:
            try:
                reply = self._replies.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None
            if reply.timestamp == batch.timestamp:
                return reply


class Bridge:
    """Every device that posts here, each with a connection of its own: its login may publish for it alone."""

    def __init__(self, settings: argparse.Namespace, passwords: Mapping[str, str] | None) -> None:
        self._settings = settings
        self._passwords = passwords
        self._network = Network()
        self._devices: dict[str, Device] = {}
        self._lock = threading.Lock()

    def post(self, body: bytes) -> Answer:
        """Return the response to a POST with this body."""
        try:
            batch = posted.read(body)
            device = self._device(batch.device_id)
            if device is None:
                return error(HTTPStatus.FORBIDDEN, "the bridge does not serve this device_id: see its password file")
            return device.deliver(batch, self._settings.timeout)
        except PublisherError as refused:
            status = HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(refused, ValueError) else HTTPStatus.BAD_GATEWAY
            return error(status, str(refused))

    def close_idle(self) -> None:
        """Disconnect each device that posts no more."""
        with self._lock:
            devices = list(self._devices.values())
        for device in devices:
            device.close_if_idle()

    def close(self) -> None:
        """Send the pending batches, five seconds at most, and disconnect every device."""
        self._network.close()

    def _device(self, device_id: str) -> Device | None:
        with self._lock:
            known = self._devices.get(device_id)
            if known is not None:
                return known
            if len(self._devices) >= MAX_DEVICES if self._passwords is None else device_id not in self._passwords:
                return None
            device = Device(lambda on_reply: self._connect(device_id, on_reply))
            self._devices[device_id] = device
            return device

    def _connect(self, device_id: str, on_reply: Callable[[Reply], None]) -> Publisher:
        settings = self._settings
        try:
            return Publisher(
                device_id,
                host=settings.host,
                port=settings.port,
                password=(self._passwords or {}).get(device_id),
                tls_ca=settings.tls_ca,
                topic_prefix=settings.prefix,
                on_reply=on_reply,
                network=self._network,
            )
        except ValueError as wrong:
            raise InvalidBatch(str(wrong)) from wrong


def error(status: HTTPStatus, text: str) -> Answer:
    """Return an error in the form of the daemon's replies."""
    return Answer(status, {"status": "error", "error": text})


def _answer(reply: Reply | None) -> Answer:
    if reply is None:
        return error(HTTPStatus.GATEWAY_TIMEOUT, "the broker has the batch, and the daemon has not answered in time")
    if reply.status == "error":
        return error(HTTPStatus.UNPROCESSABLE_ENTITY, reply.error or "the batch was rejected")
    return Answer(HTTPStatus.OK, {"status": "ok", "updated_count": reply.updated_count})


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One thread a connection. Not HTTPServer, which asks the DNS for its own name when it starts."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], bridge: Bridge) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.bridge = bridge
        super().__init__(address, Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a connection that broke in one line; the parent prints a stack trace."""
        log.info("a connection ended with an error", exc_info=log.isEnabledFor(logging.DEBUG))


class Handler(BaseHTTPRequestHandler):
    """One connection: POST /api/emotions/batch, and GET / for a check of the bridge itself."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "emotion-bridge"
    sys_version = ""
    timeout = 30
    disable_nagle_algorithm = True  # head and body of a response are two writes

    def do_GET(self) -> None:
        """Answer that the bridge runs."""
        if self._path() == "/":
            self._send(Answer(HTTPStatus.OK, {"status": "ok"}))
        else:
            self._refuse_address("POST")

    def do_POST(self) -> None:
        """Take one batch."""
        if self._path() != PATH:
            self._refuse_address("GET")
        elif "Origin" in self.headers:  # a browser sends it: no web page shall post for a device
            self.send_error(HTTPStatus.FORBIDDEN, "the bridge takes no batch from a web page")
        else:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                self.send_error(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
            elif int(length) > MAX_BODY:
                self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {MAX_BODY} bytes")
            else:
                body = self.rfile.read(int(length))
                if len(body) == int(length):
                    self._send(self.server.bridge.post(body))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with JSON, and close the connection: the body of the request is not read."""
        self.close_connection = True
        self._send(error(HTTPStatus(code), message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request, if debugging."""
        log.debug(format, *args)

    def _path(self) -> str:
        return self.path.partition("?")[0].rstrip("/") or "/"

    def _refuse_address(self, allowed: str) -> None:
        if self._path() not in ("/", PATH):
            self.send_error(HTTPStatus.NOT_FOUND, f"not found: POST batches to {PATH}")
        else:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, f"{self._path()} takes {allowed} only")

    def _send(self, answer: Answer) -> None:
        payload = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", str(_RETRY_SECONDS))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(payload)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns 0; 2 if the settings are wrong."""
    parser = command_parser(environ)
    settings = parser.parse_args(argv)
    log_to_stderr()
    try:
        bridge = Bridge(settings, read_passwords(settings.password_file))
        server = Server(settings.listen, bridge)
    except (OSError, ValueError) as wrong:
        parser.error(str(wrong))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with server:
        _serve(server, stop)
    return 0


def _serve(server: Server, stop: threading.Event) -> None:
    thread = threading.Thread(target=server.serve_forever, name="bridge", daemon=True)
    thread.start()
    log.info("listening on http://%s:%d%s", *server.server_address[:2], PATH)
    watchdog = Watchdog()
    watchdog.ready()
    while thread.is_alive() and not stop.wait(_TURN_SECONDS):
        watchdog.beat()
        server.bridge.close_idle()
    watchdog.stopping()
    server.shutdown()
    server.bridge.close()


def read_passwords(path: Path | None) -> dict[str, str] | None:
    """Return the password of each device from lines device_id:password; None without a file. Raises ValueError."""
    if path is None:
        return None
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    passwords = {}
    for number, line in enumerate(lines, 1):
        device_id, _, password = line.rpartition(":")  # an id may have colons, a password of scripts/device has none
        if not line or line.startswith("#"):
            continue
        if not device_id or not password:
            raise ValueError(f"{path}, line {number}: it is not device_id:password")
        passwords[device_id] = password
    if not passwords:
        raise ValueError(f"{path} has no line device_id:password")
    return passwords


def command_parser(environ: Mapping[str, str]) -> Parser:
    """The arguments of the command, with the environment's values as defaults."""
    parser = Parser(
        prog=f"{PROGRAM} bridge",
        description="Take batches by HTTP POST, publish them over MQTT, and answer with the daemon's reply.",
    )
    add = parser.add_argument
    add(
        "--listen",
        type=_address,
        default=environ.get("EMOTION_BRIDGE_LISTEN") or "127.0.0.1:8080",
        metavar="HOST:PORT",
        help="the address that takes POSTs (EMOTION_BRIDGE_LISTEN, or 127.0.0.1:8080)",
    )
    add(
        "--host",
        default=environ.get("EMOTION_MQTT_HOST") or "localhost",
        help="the broker (EMOTION_MQTT_HOST, or localhost)",
    )
    add(
        "--port",
        type=_port,
        default=environ.get("EMOTION_MQTT_PORT") or "1883",
        help="its port (EMOTION_MQTT_PORT, or 1883)",
    )
    add(
        "--tls-ca",
        type=_file,
        default=environ.get("EMOTION_MQTT_TLS_CA") or None,
        metavar="FILE",
        help="CA certificate: turns TLS on (EMOTION_MQTT_TLS_CA)",
    )
    add(
        "--prefix",
        default=environ.get("EMOTION_MQTT_TOPIC_PREFIX") or "emotions",
        help="first topic level (EMOTION_MQTT_TOPIC_PREFIX, or emotions)",
    )
    add(
        "--password-file",
        type=_file,
        default=environ.get("EMOTION_BRIDGE_PASSWORD_FILE") or None,
        metavar="FILE",
        help="a line device_id:password for each device, and no other device is served "
        "(EMOTION_BRIDGE_PASSWORD_FILE); without it, any device_id is served, without a login",
    )
    add(
        "--timeout",
        type=_seconds,
        default=4.0,
        metavar="SECONDS",
        help="how long a POST waits for the daemon's reply (%(default)g)",
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host:
        raise argparse.ArgumentTypeError(f"is {text!r}, but it is HOST:PORT, like 127.0.0.1:8080")
    return host.strip("[]"), _port(port)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"is {text!r}, but a port is a whole number from 1 to 65535")
    return int(text)


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"is {text!r}, which is not a file")
    return Path(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"is {text!r}, but it is a number from 0.1 to 60")
    return seconds
