"""What the daemon answers over HTTP, with real sockets; only the loop that it tells of is the test's."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from emotion_daemon.monitoring import http
from emotion_daemon.monitoring.heartbeat import STALE_SECONDS, Heartbeat
from emotion_daemon.monitoring.http import MOST_CLIENTS, StatusServer
from emotion_daemon.monitoring.metrics import Metrics
from tests.fakes import Clock
from tests.waiting import wait_until

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
def server(heartbeat: Heartbeat) -> Iterator[StatusServer]:
    with StatusServer(("127.0.0.1", 0), heartbeat, Metrics(heartbeat).registry) as server:
        yield server


def ask(server: StatusServer, path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def said(server: StatusServer, path: str) -> tuple[int, str]:
    response, body = ask(server, path)
    return response.status, body


class TestHealth:
    def test_all_is_well(self, server: StatusServer) -> None:
        assert said(server, "/healthz") == said(server, "/readyz") == (200, "ok\n")

    def test_trouble_makes_it_not_ready_and_not_unhealthy(self, server: StatusServer, heartbeat: Heartbeat) -> None:
        heartbeat.database(LOCKED)

        assert said(server, "/healthz") == (200, "ok\n")
        assert said(server, "/readyz") == (503, f"{LOCKED}\n")

    def test_a_loop_that_stands_still_is_neither(self, server: StatusServer, clock: Clock) -> None:
        clock.seconds = STALE_SECONDS + 25
        line = "the daemon's loop has not turned for 40 s: it hangs\n"

        assert said(server, "/healthz") == said(server, "/readyz") == (503, line)

    def test_a_line_that_is_no_utf_8_is_answered_all_the_same(self, server: StatusServer, heartbeat: Heartbeat) -> None:
        heartbeat.broker("cannot reach the broker at \udcff")

        assert said(server, "/readyz") == (503, "cannot reach the broker at \\udcff\n")

    def test_no_cache_keeps_it(self, server: StatusServer) -> None:
        assert ask(server, "/readyz")[0].headers["Cache-Control"] == "no-store"


class TestMetrics:
    def test_they_are_what_prometheus_reads(self, server: StatusServer) -> None:
        response, body = ask(server, "/metrics")
        families = {family.name for family in text_string_to_metric_families(body)}

        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert {"emotion_messages", "emotion_commit_duration_seconds", "process_cpu_seconds"} <= families

    def test_a_query_does_not_matter(self, server: StatusServer) -> None:
        assert ask(server, "/metrics?name=x")[0].status == 200


class TestOthers:
    def test_another_path_says_what_there_is(self, server: StatusServer) -> None:
        assert said(server, "/") == (404, "there are /metrics, /healthz and /readyz\n")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_other_methods_are_refused(self, server: StatusServer, method: str) -> None:
        assert ask(server, "/readyz", method)[0].status == 501

    def test_head_has_no_body(self, server: StatusServer) -> None:
        response, body = ask(server, "/readyz", "HEAD")

        assert (response.status, response.headers["Content-Length"], body) == (200, "3", "")

    def test_it_does_not_say_what_it_is_made_of(self, server: StatusServer) -> None:
        assert ask(server, "/")[0].headers["Server"].strip() == "emotion-daemon"

    def test_nothing_is_written_to_the_log(self, server: StatusServer, capfd: pytest.CaptureFixture[str]) -> None:
        ask(server, "/readyz")
        ask(server, "/nothing")
        with socket.create_connection(("127.0.0.1", server.port)) as rude:
            rude.sendall(b"\x00\xff\r\n\r\n")
            while rude.recv(4096):
                pass

        assert capfd.readouterr() == ("", "")


class TestSlowClients:
    def test_they_are_left_after_a_while(self, server: StatusServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http._Handler, "patience", 0.3)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
            slow.settimeout(0.05)

            def is_left() -> bool:
                """After another byte: each comes soon enough for itself."""
                try:
                    slow.sendall(b"x")
                    return slow.recv(1) == b""
                except TimeoutError:
                    return False
                except OSError:
                    return True

            wait_until(is_left, seconds=10, what="the client is left")

    def test_beyond_so_many_they_are_turned_away_and_later_served(
        self, server: StatusServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ExitStack() as idle:
            for _ in range(MOST_CLIENTS):
                idle.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            with socket.create_connection(("127.0.0.1", server.port), timeout=3) as late:
                assert late.recv(1) == b""

        wait_until(lambda: answers(server), seconds=10, what="it answers when they have gone")

    def test_those_for_whom_no_thread_begins_take_no_place(
        self, server: StatusServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(thread: Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(Thread, "start", start)
            assert not any(answers(server) for _ in range(MOST_CLIENTS))

        assert answers(server)


def answers(server: StatusServer) -> bool:
    try:
        return said(server, "/readyz") == (200, "ok\n")
    except OSError:
        return False


def test_after_the_end_nobody_answers(heartbeat: Heartbeat) -> None:
    with StatusServer(("127.0.0.1", 0), heartbeat, Metrics(heartbeat).registry) as server:
        port = server.port

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_it_may_listen_on_ipv6(heartbeat: Heartbeat) -> None:
    """The address is of IPv4 behind the API of IPv6, which a container without IPv6 has, too."""
    with StatusServer(("::ffff:127.0.0.1", 0), heartbeat, Metrics(heartbeat).registry) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()

    assert status == 200
