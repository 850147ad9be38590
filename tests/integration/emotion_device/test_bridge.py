"""The bridge in this process, against a real Mosquitto; a plain paho client plays the daemon."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from emotion_device import bridge
from emotion_device.bridge import Bridge, Server, command_parser, read_passwords
from tests.brokers import Broker
from tests.examples import README_PAYLOAD, payload
from tests.integration.emotion_device.test_publisher import Listener
from tests.waiting import DEADLINE_SECONDS, free_port, wait_until

OK = b'{"status":"ok","updated_count":1}'


class Response:
    """Status, JSON and headers of one request."""

    def __init__(
        self, port: int, body: bytes, *, method: str = "POST", path: str = bridge.PATH, **headers: str
    ) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
        connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        self.status = response.status
        self.headers = response.headers
        self.body: dict[str, Any] = json.loads(response.read())
        connection.close()


@contextmanager
def serving(broker: Broker, *options: str, passwords: dict[str, str] | None = None) -> Iterator[int]:
    """A bridge on a free port, which is yielded."""
    port = free_port()
    arguments = ["--listen", f"127.0.0.1:{port}", "--host", broker.host, "--port", str(broker.port), *options]
    settings = command_parser({}).parse_args(arguments)
    running = Bridge(settings, passwords)
    with Server(settings.listen, running) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield port
        finally:
            server.shutdown()
            thread.join()
            running.close()


def test_a_batch_is_published_and_answered_with_the_reply(broker: Broker) -> None:
    with Listener(broker, "emotions", lambda _: OK) as listener, serving(broker) as port:
        response = Response(port, README_PAYLOAD.encode())

    assert (response.status, response.body) == (200, {"status": "ok", "updated_count": 1})
    assert listener.batches == [json.loads(README_PAYLOAD)]


def test_a_connection_may_post_many_batches(broker: Broker) -> None:
    with Listener(broker, "emotions", lambda _: OK), serving(broker) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
        statuses = []
        for second in range(10, 15):
            connection.request("POST", bridge.PATH, README_PAYLOAD.replace("12:34:56", f"12:34:{second}"))
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

    assert statuses == [200] * 5


def test_two_batches_of_a_device_at_the_same_time_are_both_answered(broker: Broker) -> None:
    bodies = [README_PAYLOAD.replace("12:34:56", f"12:34:{second}").encode() for second in range(10, 18)]
    statuses: list[int] = []
    with Listener(broker, "emotions", lambda _: OK), serving(broker, "--timeout", "30") as port:
        threads = [
            threading.Thread(target=lambda body=body: statuses.append(Response(port, body).status)) for body in bodies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert statuses == [200] * 8


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (payload(cumulative='{"happy": -1}'), "person 1 of 1, happy: -1.0 is not a finite number of seconds >= 0"),
        (payload(cumulative='{"happy": NaN}'), "person 1 of 1, happy: nan is not a finite number of seconds >= 0"),
        (payload(device_id='"a/b"'), "has to be 1 to 64 of A-Z a-z 0-9 . _ : -"),
        (payload(timestamp='"yesterday"'), "timestamp is not ISO 8601"),
        (b"hello", "the body is not JSON"),
    ],
)
def test_an_invalid_batch_is_refused_with_its_fault_and_not_published(broker: Broker, body: bytes, reason: str) -> None:
    with Listener(broker, "emotions", lambda _: OK) as listener, serving(broker) as port:
        response = Response(port, body)
        Response(port, README_PAYLOAD.encode())

    assert (response.status, response.body["status"]) == (422, "error")
    assert reason in response.body["error"]
    assert len(listener.batches) == 1


def test_the_daemon_s_reason_is_the_answer_s(broker: Broker) -> None:
    refusal = b'{"status":"error","error":"not today"}'
    with Listener(broker, "emotions", lambda _: refusal), serving(broker) as port:
        response = Response(port, README_PAYLOAD.encode())

    assert (response.status, response.body) == (422, {"status": "error", "error": "not today"})


def test_a_broker_that_is_away_gets_the_batch_when_it_returns(broker: Broker) -> None:
    broker.stop()
    with serving(broker, "--timeout", "1") as port:
        response = Response(port, README_PAYLOAD.encode())
        broker.start()
        with Listener(broker, "emotions", lambda _: OK) as listener:
            wait_until(lambda: listener.batches or Response(port, README_PAYLOAD.encode()).status == 200)
            wait_until(lambda: listener.batches, what="the batch arrives")

    assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert response.body["error"].startswith("the broker is not reachable")
    assert listener.batches[0] == json.loads(README_PAYLOAD)


def test_a_daemon_that_does_not_answer_is_a_timeout(broker: Broker) -> None:
    with Listener(broker, "emotions") as listener, serving(broker, "--timeout", "1.5") as port:
        response = Response(port, README_PAYLOAD.encode())

        assert listener.batches
    assert (response.status, response.body["status"]) == (504, "error")


def test_without_a_daemon_a_batch_is_published_while_earlier_ones_wait(broker: Broker) -> None:
    bodies = [README_PAYLOAD.replace("12:34:56", f"12:34:{second}").encode() for second in range(10, 14)]
    with Listener(broker, "emotions") as listener, serving(broker, "--timeout", "30") as port:
        threads = [threading.Thread(target=Response, args=(port, body)) for body in bodies]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda number=number: len(listener.batches) == number, what="it is published")  # type: ignore[misc]
        # The daemon is back, and answers the newest one: it contains the seconds of those before.
        with Listener(broker, "emotions", lambda _: OK):
            newest = Response(port, README_PAYLOAD.encode())
            for thread in threads:
                thread.join()

    assert newest.status == 200


def test_a_device_that_posts_no_more_is_offline(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "IDLE_SECONDS", 0.0)
    settings = command_parser({}).parse_args(["--host", broker.host, "--port", str(broker.port)])
    running = Bridge(settings, None)
    with Listener(broker, "emotions", lambda _: OK) as listener:
        first = running.post(README_PAYLOAD.encode())
        running.close_idle()
        wait_until(lambda: listener.statuses == [b"online", b"offline"], what="the device is offline")

        again = running.post(README_PAYLOAD.replace(":56Z", ":57Z").encode())
        running.close()

    assert (first.status, again.status) == (200, 200)


def test_only_devices_of_the_password_file_are_served(broker: Broker) -> None:
    with (
        Listener(broker, "emotions", lambda _: OK) as listener,
        serving(broker, passwords={"jetson_1": "password"}) as port,
    ):
        served = Response(port, README_PAYLOAD.encode())
        other = Response(port, README_PAYLOAD.replace("jetson_1", "jetson_2").encode())

    assert (served.status, other.status) == (200, 403)
    assert len(listener.batches) == 1


def test_without_a_password_file_the_number_of_devices_is_bounded(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "MAX_DEVICES", 2)
    with Listener(broker, "emotions", lambda _: OK), serving(broker) as port:
        statuses = [Response(port, payload(device_id=f'"{name}"')).status for name in ("/", "a", "b", "a", "b")]
        third = Response(port, payload(device_id='"c"'))

    assert statuses == [422, 200, 200, 200, 200]
    assert third.status == 403
    assert third.body["error"].startswith("the bridge serves 2 devices already")


def test_a_device_that_posts_no_more_makes_room_for_another(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "MAX_DEVICES", 1)
    monkeypatch.setattr(bridge, "IDLE_SECONDS", 0.0)
    running = Bridge(command_parser({}).parse_args(["--host", broker.host, "--port", str(broker.port)]), None)
    with Listener(broker, "emotions", lambda _: OK):
        first = running.post(payload(device_id='"a"'))
        full = running.post(payload(device_id='"b"'))
        running.close_idle()
        second = running.post(payload(device_id='"b"'))
        running.close()

    assert (first.status, full.status, second.status) == (200, 403, 200)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", bridge.PATH, {}, 405),
        ("POST", "/", {}, 405),
        ("POST", "/api/other", {}, 404),
        ("GET", "/api/dashboard/summary", {}, 404),
        ("PUT", bridge.PATH, {}, 501),
        ("POST", bridge.PATH, {"Origin": "http://page.example"}, 403),
        ("POST", bridge.PATH, {"Content-Length": str(bridge.MAX_BODY + 1)}, 413),
        ("POST", bridge.PATH, {"Content-Length": "-1"}, 411),
    ],
)
def test_other_requests_are_answered_with_json(
    broker: Broker, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    with serving(broker) as port:
        response = Response(port, b"", method=method, path=path, **headers)

    assert response.status == status
    assert response.body["status"] == ("ok" if status == 200 else "error")


def test_a_request_that_is_no_http_ends_its_connection_only(broker: Broker) -> None:
    with Listener(broker, "emotions", lambda _: OK), serving(broker) as port:
        with socket.create_connection(("127.0.0.1", port)) as strange:
            strange.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            received = strange.recv(1_000)

        assert b"Bad HTTP" in received
        assert Response(port, README_PAYLOAD.encode()).status == 200


def test_a_password_file_has_a_line_for_each_device(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text("# the gateway's devices\njetson_1:one\n\n00:1b:44:11:3a:b7:two\n")

    assert read_passwords(tmp_path / "passwords") == {"jetson_1": "one", "00:1b:44:11:3a:b7": "two"}
    assert read_passwords(None) is None


@pytest.mark.parametrize("text", ["", "# none\n", "secret\n", "jetson_1:\n", ":secret\n", "a/b:secret\n"])
def test_a_wrong_password_file_is_refused_without_the_password(tmp_path: Path, text: str) -> None:
    (tmp_path / "passwords").write_text(text)

    with pytest.raises(ValueError, match="device_id:password") as refused:
        read_passwords(tmp_path / "passwords")

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("environ", "arguments", "sentence"),
    [
        ({}, ["--listen", "8080"], "it is HOST:PORT"),
        ({"EMOTION_BRIDGE_LISTEN": "localhost:0"}, [], "a port is a whole number"),
        ({"EMOTION_MQTT_PORT": "mqtt"}, [], "a port is a whole number"),
        ({}, ["--timeout", "0"], "it is a number from 0.1 to 60"),
        ({"EMOTION_BRIDGE_PASSWORD_FILE": "/nowhere"}, [], "which cannot be read: No such file or directory"),
        ({"EMOTION_BRIDGE_PASSWORD_FILE": "/"}, [], "which cannot be read: Is a directory"),
        ({"EMOTION_MQTT_TLS_CA": __file__}, [], "which is not a file of CA certificates"),
        ({}, ["--prefix", "a/#"], "a prefix is levels of a topic without + and #"),
    ],
)
def test_wrong_settings_end_the_start_with_a_sentence(
    environ: dict[str, str], arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bridge.main(arguments, environ)

    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
