"""The API under the gunicorn that an operator starts, or within the test; and what a test asks it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from emotion_api import create_app
from emotion_api.reading.reader import utc_now
from shared.settings import Settings
from tests.processes import ROOT, without_settings
from tests.waiting import DEADLINE_SECONDS, free_port, wait_until

HOST = "127.0.0.1"
SUMMARY = "/api/dashboard/summary"
HISTORY = "/api/dashboard/history"
DEVICES = "/api/devices"
OVERVIEW = "/api/dashboard/overview"
WORKERS = 2
APPLICATION = "emotion_api:create_app()"


class Answer(NamedTuple):
    """Status, body, and headers by lower-case name; a header that came twice has both values, joined by ", "."""

    status: int
    body: bytes
    headers: dict[str, str]


class Api:
    """gunicorn with the repository's configuration, from the start of the block to its end."""

    def __init__(self, database_url: str, log: Path, *, application: str = APPLICATION, **settings: str) -> None:
        self._application = application
        self._environment = without_settings() | {"EMOTION_DATABASE_URL": database_url} | settings
        self._log = log
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"

    def __enter__(self) -> "Api":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                gunicorn(self.port, self._application), cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        try:
            wait_until(self._serves, what="both workers of the API answer")
        except AssertionError as error:
            error.add_note(self.log())
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """End it, if it has not ended yet, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self._process.wait(timeout=DEADLINE_SECONDS)

    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        return psutil.Process(self._process.pid).children()

    def open_files(self) -> int:
        """Return the number of file handles of the workers, sockets too."""
        return sum(worker.num_fds() for worker in self.workers())

    def memory(self) -> int:
        """The workers' resident set, in bytes."""
        return sum(worker.memory_info().rss for worker in self.workers())

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def ask(self, path: str, *, method: str = "GET", timeout: float = 15, **headers: str) -> Answer:
        """One request on a connection of its own."""
        connection = HTTPConnection(HOST, self.port, timeout=timeout)
        try:
            return ask(connection, path, method=method, **headers)
        finally:
            connection.close()

    def summary(self, device_id: str | None = None) -> Any:
        """Return the summary of a device, or of the default one."""
        answer = self.ask(SUMMARY if device_id is None else f"{SUMMARY}?device_id={device_id}")
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def _serves(self) -> bool:
        """Return True if every worker does; one that is starting would answer late."""
        try:
            answered = self.ask("/").status == 200
        except OSError:
            return False
        return answered and self.log().count("Booting worker") == WORKERS


def gunicorn(port: int, application: str = APPLICATION) -> list[str]:
    """The command that an operator starts it with."""
    return [sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}", application]


class BufferedClient(FlaskClient):
    """Flask's test client, which reads each response to its end: a response with a file closes it then."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=True, **kwargs)


@contextmanager
def served(settings: Settings, *, now: Callable[[], datetime] = utc_now) -> Iterator[FlaskClient]:
    """The API in this process, without gunicorn."""
    app = create_app(settings, now=now)
    try:
        app.test_client_class = BufferedClient
        yield app.test_client()
    finally:
        app.extensions["engine"].dispose()


def ask(connection: HTTPConnection, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """One request; an underscore in a header's name stands for a hyphen."""
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return Answer(response.status, response.read(), found)
