"""The daemon answers over HTTP, with real sockets. Only the loop that it reports on is the test's own."""

import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import pytest
from prometheus_client.parser import text_string_to_metric_families

from emotion_daemon.monitoring import http
from emotion_daemon.monitoring.heartbeat import STALE_SECONDS, Heartbeat
from emotion_daemon.monitoring.http import serving
from emotion_daemon.monitoring.metrics import Metrics
from shared.settings import SettingsError
from tests.fakes import Clock

LOCKED = "cannot commit: database is locked"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeat(clock: Clock) -> Heartbeat:
    heartbeat = Heartbeat(monotonic=clock)
    heartbeat.ready()
    heartbeat.broker(None)
    return heartbeat


@pytest.fixture
def port(heartbeat: Heartbeat) -> Iterator[int]:
    with serving(("127.0.0.1", 0), heartbeat, Metrics(heartbeat).registry) as port:
        yield port


def ask(port: int, path: str) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def said(port: int, path: str) -> tuple[int, str]:
    response, body = ask(port, path)
    return response.status, body


class TestHealth:
    def test_all_is_well(self, port: int) -> None:
        assert said(port, "/healthz") == said(port, "/readyz") == (200, "ok\n")

    def test_an_outage_makes_it_not_ready_but_leaves_it_healthy(self, port: int, heartbeat: Heartbeat) -> None:
        heartbeat.database(LOCKED)

        assert said(port, "/healthz") == (200, "ok\n")
        assert said(port, "/readyz") == (503, f"{LOCKED}\n")

    def test_a_loop_that_stands_still_is_neither(self, port: int, clock: Clock) -> None:
        clock.seconds = STALE_SECONDS + 25
        line = "the daemon's loop has not turned for 40 s: it hangs\n"

        assert said(port, "/healthz") == said(port, "/readyz") == (503, line)

    def test_a_line_that_is_not_utf_8_is_answered_all_the_same(self, port: int, heartbeat: Heartbeat) -> None:
        heartbeat.broker("cannot reach the broker at \udcff")

        assert said(port, "/readyz") == (503, "cannot reach the broker at \\udcff\n")

    def test_no_cache_stores_it(self, port: int) -> None:
        assert ask(port, "/readyz")[0].headers["Cache-Control"] == "no-store"


class TestMetrics:
    def test_prometheus_can_read_them(self, port: int) -> None:
        response, body = ask(port, "/metrics")
        families = {family.name for family in text_string_to_metric_families(body)}

        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert {"emotion_messages", "emotion_commit_duration_seconds", "process_cpu_seconds"} <= families

    def test_a_query_does_not_matter(self, port: int) -> None:
        assert ask(port, "/metrics?debug=1")[0].status == 200


def test_another_path_is_not_found_and_names_those_that_exist(port: int) -> None:
    assert said(port, "/") == (404, "Not found. This server has /metrics, /healthz and /readyz.\n")


def test_nothing_is_written_to_the_log(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    ask(port, "/readyz")
    ask(port, "/nothing")
    with socket.create_connection(("127.0.0.1", port)) as rude:
        rude.sendall(b"\x00\xff\r\n\r\n")
        while rude.recv(4096):
            pass

    assert capfd.readouterr() == ("", "")


class TestHangingClients:
    def test_they_do_not_delay_the_answers_of_others_nor_the_end(self, heartbeat: Heartbeat) -> None:
        began = time.monotonic()
        with serving(("127.0.0.1", 0), heartbeat, Metrics(heartbeat).registry) as port:
            hanging = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            answer = said(port, "/readyz")

        assert answer == (200, "ok\n")
        assert time.monotonic() - began < http._Handler.timeout
        for client in hanging:
            client.close()

    def test_they_are_disconnected_after_a_while(
        self, port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(http._Handler, "timeout", 0.1)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as hanging:
            assert hanging.recv(1) == b""

        assert capfd.readouterr() == ("", "")


def test_after_the_end_the_port_is_closed(heartbeat: Heartbeat) -> None:
    with pytest.raises(RuntimeError), serving(("127.0.0.1", 0), heartbeat, Metrics(heartbeat).registry) as port:
        raise RuntimeError("the daemon failed")

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_that_is_taken_is_a_wrong_setting(port: int, heartbeat: Heartbeat) -> None:
    with (
        pytest.raises(SettingsError, match=rf"is 127.0.0.1:{port}, but the daemon cannot listen there: "),
        serving(("127.0.0.1", port), heartbeat, Metrics(heartbeat).registry),
    ):
        pass


def test_it_may_listen_on_ipv6(heartbeat: Heartbeat) -> None:
    """The address is of IPv4 behind the API of IPv6, which a container without IPv6 has, too."""
    with serving(("::ffff:127.0.0.1", 0), heartbeat, Metrics(heartbeat).registry) as port:
        assert said(port, "/readyz") == (200, "ok\n")
