"""RabbitMQ's side without RabbitMQ. tests/compose/test_rabbitmq.py has the real cluster."""

import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emotion_admin.__main__ import main
from emotion_admin.errors import OperatorError
from emotion_admin.rabbitmq import ManagementApi, RabbitMqLogins
from emotion_admin.secrets import Secrets
from shared.batch import Topics
from tests.brokers import Broker
from tests.waiting import free_port

TOPICS = Topics("emotions")


@pytest.fixture
def logins() -> RabbitMqLogins:
    return RabbitMqLogins(ManagementApi(f"http://127.0.0.1:{free_port()}", "emotion-admin", "x"), TOPICS)


@pytest.mark.parametrize(
    ("device_id", "says"),
    [("hall.1", "has a dot"), ("b8:27:eb", "has a colon"), ("emotion-daemon", "this system itself")],
)
def test_an_id_that_rabbitmq_cannot_carry_is_refused_with_a_reason(
    logins: RabbitMqLogins, device_id: str, says: str
) -> None:
    with pytest.raises(OperatorError, match=says):
        logins.check(device_id, new=True)


def test_without_a_node_a_sentence_says_so(logins: RabbitMqLogins) -> None:
    with pytest.raises(OperatorError, match=r"cannot reach RabbitMQ's management API at http://127\.0\.0\.1:\d+: "):
        logins.devices()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, b"<p>Not Found", "is not RabbitMQ's management API"),
        (200, b"<p>Welcome", "is not RabbitMQ's management API"),
        (401, b'{"error":"not_authorized"}', "refuses the login emotion-admin"),
        (503, b"", "answers 503"),
        (400, b'{"error":"bad_request","reason":"no majority"}', "answers 400 .*no majority.*: see the nodes' logs"),
    ],
)
def test_a_server_that_does_not_list_the_logins_is_named(status: int, body: bytes, says: str) -> None:
    with answering(status, body) as url, pytest.raises(OperatorError, match=says):
        RabbitMqLogins(ManagementApi(url, "emotion-admin", "x"), TOPICS).devices()


def test_a_queue_is_deleted_when_its_connection_has_ended() -> None:
    """RabbitMQ ends connections in its own time, and until then it refuses to delete their queues."""
    locked = (400, b'{"error":"bad_request","reason":"405 RESOURCE_LOCKED - cannot obtain exclusive access"}')
    user, connections, queue = ((204, b""),) * 3
    answers = [user, connections, locked, locked, queue]

    with answering_in_turn(answers) as url:
        RabbitMqLogins(ManagementApi(url, "emotion-admin", "x"), TOPICS).remove("jetson_1")

    assert answers == [queue], "it asked until RabbitMQ deleted the queue"


def test_a_server_that_speaks_no_http_is_named(broker: Broker) -> None:
    api = ManagementApi(f"http://{broker.host}:{broker.port}", "emotion-admin", "x")

    with pytest.raises(OperatorError, match="cannot reach RabbitMQ's management API"):
        api.get("users")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Yield the URL of a web server that answers every GET with this."""
    with answering_in_turn([(status, body)]) as url:
        yield url


@contextmanager
def answering_in_turn(answers: list[tuple[int, bytes]]) -> Iterator[str]:
    """Yield the URL of a web server that gives these answers in turn, and the last one for ever."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_secrets_has_the_definitions_and_the_cookie_only_for_rabbitmq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets(tmp_path, TOPICS)
    assert main(["--secrets", str(tmp_path), "secrets"]) == 0
    assert not secrets.rabbitmq_definitions.exists()

    monkeypatch.setenv("EMOTION_RABBITMQ_URL", "http://gate:15672")
    assert main(["--secrets", str(tmp_path), "secrets"]) == 0
    cookie = secrets.erlang_cookie.read_text()
    assert main(["--secrets", str(tmp_path), "secrets"]) == 0

    assert [user["name"] for user in json.loads(secrets.rabbitmq_definitions.read_text())["users"]] == [
        "emotion-daemon",
        "emotion-admin",
    ]
    assert secrets.erlang_cookie.read_text() == cookie, "the nodes would refuse one another with another cookie"
    assert stat.S_IMODE(secrets.erlang_cookie.stat().st_mode) == 0o640
