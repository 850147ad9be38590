"""`python -m emotion_admin.health URL`: what it says of an answer, and that it costs little."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from emotion_admin.health import USAGE, check, main
from tests.processes import ROOT, without_settings
from tests.waiting import free_port

HOST = "127.0.0.1"
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"status":"ok"}'
PROBLEM = (
    b"HTTP/1.1 503 SERVICE UNAVAILABLE\r\nContent-Type: application/problem+json\r\n\r\n"
    b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The database cannot be read."}'
)


@contextmanager
def answering(*parts: bytes, closes: bool = True) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one connection: its port, and what it was sent. It answers in parts, and may leave it open."""
    sent: list[bytes] = []
    with socket.socket() as listener:
        listener.settimeout(30)
        listener.bind((HOST, 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                while not b"".join(sent).endswith(b"\r\n\r\n"):
                    sent.append(connection.recv(4_096))
                with suppress(ConnectionError):  # it may have enough before all is sent
                    for part in parts:
                        connection.sendall(part)
                    if not closes:
                        connection.recv(1)  # until it ends

        thread = Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], sent
        thread.join(timeout=30)
        assert not thread.is_alive()


class TestCheck:
    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (OK, (True, "ok")),
            (b"HTTP/1.0 200 OK\r\n\r\nok\n", (True, "ok")),
            (
                b"HTTP/1.0 503 Service Unavailable\r\n\r\ncannot commit: locked\nmore\n",
                (False, "cannot commit: locked"),
            ),
            (PROBLEM, (False, "The database cannot be read.")),
            (b"HTTP/1.1 503 Busy\r\n\r\n{not JSON", (False, "http://127.0.0.1:{port}/readyz answers 503 Busy")),
            (b"HTTP/1.1 503 Busy\r\n\r\n{}", (False, "http://127.0.0.1:{port}/readyz answers 503 Busy")),
            (b"HTTP/1.1 503 Busy\r\n\r\n", (False, "http://127.0.0.1:{port}/readyz answers 503 Busy")),
            (b"HTTP/1.1 302 Found\r\n\r\n", (False, "http://127.0.0.1:{port}/readyz answers 302 Found")),
            (b"HTTP/1.1 204 No Content\r\n\r\n", (False, "http://127.0.0.1:{port}/readyz answers 204 No Content")),
            (b"HTTP/1.1 200 OK\r\n\r\n\xff", (True, "\N{REPLACEMENT CHARACTER}")),
            (b"220 mail ESMTP\r\n", (False, "http://127.0.0.1:{port}/readyz does not speak HTTP")),
            (b"", (False, "http://127.0.0.1:{port}/readyz does not speak HTTP")),
        ],
    )
    def test_an_answer_is_a_line(self, answer: bytes, said: tuple[bool, str]) -> None:
        with answering(answer) as (port, _):
            found = check(HOST, port, "/readyz")

        assert found == (said[0], said[1].format(port=port))

    def test_it_asks_for_the_path_and_names_the_host(self) -> None:
        with answering(OK) as (port, sent):
            check(HOST, port, "/readyz?x=1")

        assert b"".join(sent).split(b"\r\n")[:2] == [b"GET /readyz?x=1 HTTP/1.0", b"Host: 127.0.0.1"]

    def test_an_answer_may_come_in_parts(self) -> None:
        with answering(*(OK[begin : begin + 1] for begin in range(len(OK)))) as (port, _):
            assert check(HOST, port, "/") == (True, "ok")

    def test_silence_ends(self) -> None:
        with answering(closes=False) as (port, _):
            is_well, line = check(HOST, port, "/", seconds=0.1)

        assert not is_well
        assert line.startswith(f"http://127.0.0.1:{port}/ did not answer within 0.1 s")

    def test_an_answer_that_never_ends_is_read_so_far(self) -> None:
        with answering(b"HTTP/1.1 200 OK\r\n\r\nok\n", b"x" * 100_000, closes=False) as (port, _):
            assert check(HOST, port, "/", seconds=20) == (True, "ok")

    def test_nobody_there_is_a_sentence(self) -> None:
        port = free_port()

        assert check(HOST, port, "/readyz") == (
            False,
            f"cannot reach http://127.0.0.1:{port}/readyz: Connection refused",
        )

    def test_a_name_that_nobody_has_is_a_sentence(self) -> None:
        is_well, line = check("nobody.invalid", 80, "/")

        assert not is_well
        assert line.startswith("cannot reach http://nobody.invalid:80/: ")


class TestMain:
    @pytest.mark.parametrize(
        ("answer", "code", "out"), [(OK, 0, "ok\n"), (PROBLEM, 1, "The database cannot be read.\n")]
    )
    def test_the_exit_code_tells(self, answer: bytes, code: int, out: str, capsys: pytest.CaptureFixture[str]) -> None:
        with answering(answer) as (port, _):
            assert main([f"http://{HOST}:{port}/readyz"]) == code

        assert capsys.readouterr().out == out

    def test_no_path_is_the_root(self) -> None:
        with answering(OK) as (port, sent):
            assert main([f"http://{HOST}:{port}"]) == 0

        assert b"".join(sent).startswith(b"GET / HTTP/1.0\r\n")

    def test_an_ipv6_address_stands_in_brackets(self) -> None:
        """This one is of IPv4 behind the API of IPv6, which a container without IPv6 has, too."""
        with answering(OK) as (port, _):
            assert main([f"http://[::ffff:{HOST}]:{port}/"]) == 0

    def test_the_port_may_be_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[tuple[str, int, str]] = []
        monkeypatch.setattr("emotion_admin.health.check", recorder(asked))

        for url in ("http://camera/x", "http://[::1]/x", "http://[::1]:81/x"):
            main([url])

        assert asked == [("camera", 80, "/x"), ("::1", 80, "/x"), ("::1", 81, "/x")]

    @pytest.mark.parametrize(
        "arguments",
        [
            *([], [""], ["--help"], ["127.0.0.1:8000/readyz"], ["http://a/", "http://b/"]),
            *(["https://a/"], ["http://"], ["http:///x"], ["http://:80/"], ["http://a:/"], ["http://a:0/"]),
            *(["http://a:65536/"], ["http://a:x/"], ["http://a:²/"], ["http://::1/"], ["http://u:p@a/"]),
            *(["http://a/ b"], ["http://a/\r\nX: y"], ["http://ä/"]),
        ],
    )
    def test_anything_else_is_2_with_the_usage(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[str, int, str]] = []
        monkeypatch.setattr("emotion_admin.health.check", recorder(asked))

        assert main(arguments) == 2
        assert capsys.readouterr() == ("", USAGE)
        assert asked == []


def recorder(asked: list[tuple[str, int, str]]) -> Callable[..., tuple[bool, str]]:
    def check(host: str, port: int, path: str) -> tuple[bool, str]:
        asked.append((host, port, path))
        return True, "ok"

    return check


def test_it_asks_no_proxy_and_imports_little() -> None:
    proxy = f"http://{HOST}:{free_port()}"
    with answering(OK) as (port, _):
        run = subprocess.run(
            [sys.executable, "-S", "-X", "importtime", "-m", "emotion_admin.health", f"http://{HOST}:{port}/readyz"],
            cwd=ROOT,
            env=without_settings() | {"http_proxy": proxy, "HTTP_PROXY": proxy},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}

    assert (run.returncode, run.stdout) == (0, "ok\n")
    assert {"shared", "socket"} <= imported
    assert imported.isdisjoint({"http.client", "urllib.request", "json", "logging", "argparse", "ssl", "msgspec"})
