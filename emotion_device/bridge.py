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
import ssl
import threading
import time
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from emotion_device import posted
from emotion_device.command_line import PROGRAM, Parser
from emotion_device.errors import InvalidBatch, PublisherError
from emotion_device.publisher import Network, Publisher, Reply
from emotion_device.unattended import Watchdog, log_to_stderr
from emotion_device.wire import DEVICE_ID, is_topic_prefix

PATH = "/api/emotions/batch"
MAX_BODY = 1 << 20
MAX_DEVICES = 100
"""The most devices that a bridge without a password file serves at the same time."""

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


class _Waiting:
    """A request whose batch is published, until the daemon's reply."""

    def __init__(self, timestamp: datetime) -> None:
        self.timestamp = timestamp
        self.reply: queue.Queue[Reply] = queue.Queue()

    def until(self, deadline: float) -> Reply | None:
        """Return the reply, or None if none arrives in time."""
        with suppress(queue.Empty):
            return self.reply.get(timeout=max(0.0, deadline - time.monotonic()))
        return None


class Device:
    """One device's publisher, and the requests that wait for the daemon's replies."""

    def __init__(self, connect: Callable[[Callable[[Reply], None]], Publisher]) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []  # in the order of publication
        self._made_at = self.used_at = time.monotonic()
        self._publisher = connect(self._replied)

    def deliver(self, batch: posted.Posted, timeout: float) -> Answer:
        """Publish a batch at once, and wait for the reply. Raises ValueError if the batch is invalid."""
        waiting = _Waiting(batch.timestamp)
        with self._lock:
            self._publisher.publish(batch.people, batch.timestamp)
            self._waiting.append(waiting)
        try:
            now = time.monotonic()
            first_connected_by = self._made_at + timeout
            reply = waiting.until(min(now + timeout, max(now + _CONNECT_SECONDS, first_connected_by)))
            if reply is None and not self._publisher.connected:
                return error(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "the broker is not reachable: the bridge holds the newest batch and sends it later",
                )
            return _answer(reply or waiting.until(now + timeout))
        finally:
            with self._lock:
                self._waiting.remove(waiting)

    @property
    def idle(self) -> bool:
        """Return True if the device posts no more, and the broker is there to hear so."""
        unused = time.monotonic() - self.used_at > IDLE_SECONDS
        return unused and not self._waiting and self._publisher.connected

    def close(self) -> None:
        """Disconnect, so that the broker says "offline"."""
        self._publisher.close(timeout=1.0)

    def _replied(self, reply: Reply) -> None:
        """Hand a reply to its request. A stored batch contains the earlier ones that it replaced in the publisher."""
        with self._lock:
            for number, waiting in reversed(list(enumerate(self._waiting))):
                if waiting.timestamp == reply.timestamp:
                    for answered in self._waiting[:number] if reply.status == "ok" else ():
                        answered.reply.put(reply)
                    waiting.reply.put(reply)
                    return


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
            if not DEVICE_ID.fullmatch(batch.device_id):
                raise InvalidBatch(f"device id {batch.device_id!r:.80} has to be 1 to 64 of A-Z a-z 0-9 . _ : -")
            if self._passwords is not None and batch.device_id not in self._passwords:
                return error(HTTPStatus.FORBIDDEN, "the bridge does not serve this device_id: see its password file")
            device = self._device(batch.device_id)
            if device is None:
                return error(
                    HTTPStatus.FORBIDDEN,
                    f"the bridge serves {MAX_DEVICES} devices already: give it a password file with a line for each",
                )
            return device.deliver(batch, self._settings.timeout)
        except PublisherError as refused:
            status = HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(refused, ValueError) else HTTPStatus.BAD_GATEWAY
            return error(status, str(refused))

    def close_idle(self) -> None:
        """Disconnect each device that posts no more, and free its place."""
        with self._lock:
            idle = {device_id: device for device_id, device in self._devices.items() if device.idle}
            for device_id in idle:
                del self._devices[device_id]
        for device in idle.values():
            device.close()

    def close(self) -> None:
        """Send the pending batches, five seconds at most, and disconnect every device."""
        self._network.close()

    def _device(self, device_id: str) -> Device | None:
        with self._lock:
            device = self._devices.get(device_id)
            if device is None:
                if self._passwords is None and len(self._devices) >= MAX_DEVICES:
                    return None
                device = self._devices[device_id] = Device(lambda on_reply: self._connect(device_id, on_reply))
            device.used_at = time.monotonic()  # under this lock: close_idle sees it
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
        if not DEVICE_ID.fullmatch(device_id) or not password:
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
        type=_ca,
        default=environ.get("EMOTION_MQTT_TLS_CA") or None,
        metavar="FILE",
        help="CA certificate: turns TLS on (EMOTION_MQTT_TLS_CA)",
    )
    add(
        "--prefix",
        type=_prefix,
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
    try:
        with open(text, "rb"):
            return Path(text)
    except OSError as wrong:
        raise argparse.ArgumentTypeError(f"is {text!r}, which cannot be read: {wrong.strerror}") from wrong


def _ca(text: str) -> Path:
    path = _file(text)
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as wrong:
        raise argparse.ArgumentTypeError(f"is {text!r}, which is not a file of CA certificates") from wrong
    return path


def _prefix(text: str) -> str:
    if not is_topic_prefix(text):
        raise argparse.ArgumentTypeError(f"is {text!r}, but a prefix is levels of a topic without + and #")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"is {text!r}, but it is a number from 0.1 to 60")
    return seconds
