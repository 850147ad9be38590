"""doctor's findings with given settings, by subject."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from emotion_admin.doctor import examine
from emotion_admin.doctor.finding import Finding, Level
from shared.settings import Settings
from tests.brokers import Broker

OF_THIS_MACHINE = ("clock", "database disk", "database file system")
"""Subjects that are what they are on the machine of the tests."""


class Findings:
    """All findings of one run."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    def __getitem__(self, subject: str) -> Finding:
        """The one finding about `subject`."""
        (found,) = [finding for finding in self.findings if finding.subject == subject]
        return found

    def __contains__(self, subject: str) -> bool:
        return any(finding.subject == subject for finding in self.findings)

    def level(self, subject: str) -> Level:
        return self[subject].level

    @property
    def amiss(self) -> list[Finding]:
        """Return the findings that are not ok, without this machine's own."""
        return [found for found in self.findings if found.level != "ok" and found.subject not in OF_THIS_MACHINE]


def examined(
    broker: Broker | None, database_url: str, settings: Mapping[str, str] | None = None, **options: Any
) -> Findings:
    """Run every check; without a broker nothing listens there."""
    environ = {
        "EMOTION_DATABASE_URL": database_url,
        "EMOTION_MQTT_HOST": "127.0.0.1",
        "EMOTION_MQTT_PORT": str(broker.port if broker else 1),
        **(settings or {}),
    }
    return Findings(list(examine(Settings.from_environ(environ), **options)))


@contextmanager
def answering(status: int, word: str, metrics: str | Callable[[], str] = "") -> Iterator[str]:
    """A daemon's /readyz and /metrics, as EMOTION_DAEMON_HTTP_ADDRESS has it; `metrics` may be made anew each time."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path == "/readyz"
            self.send_response(status if ready else 200)
            self.end_headers()
            self.wfile.write((word if ready else metrics if isinstance(metrics, str) else metrics()).encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Not to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="a daemon's word")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
