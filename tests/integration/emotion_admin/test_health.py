"""`python -m emotion_admin.health URL`: its line and its exit code."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from emotion_admin import health
from emotion_admin.health import check, main
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


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OK, (True, "ok")),
        (b"HTTP/1.0 200 OK\r\n\r\nok\n", (True, "ok")),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\ncannot commit: locked\nmore\n", (False, "cannot commit: locked")),
        (PROBLEM, (False, "The database cannot be read.")),
        (b"HTTP/1.1 503 Busy\r\n\r\n{not JSON", (False, "{{not JSON")),
        (b"HTTP/1.1 503 Busy\r\n\r\n{}", (False, "{url} answers 503")),
        (b"HTTP/1.1 503 Busy\r\n\r\n[]", (False, "[]")),
        (b"HTTP/1.1 302 Found\r\n\r\n", (False, "{url} answers 302")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (False, "{url} answers 204")),
        (b"HTTP/1.1 200 OK\r\n\r\n\xff", (True, "\N{REPLACEMENT CHARACTER}")),
        (b"220 mail ESMTP\r\n", (False, "cannot reach {url}: 220 mail ESMTP\r\n")),
        (b"", (False, "cannot reach {url}: Remote end closed connection without response")),
    ],
)
def test_an_answer_becomes_a_line(answer: bytes, said: tuple[bool, str]) -> None:
    with answering(answer) as (port, _):
        url = f"http://{HOST}:{port}/readyz"
        found = check(url)

    assert found == (said[0], said[1].format(url=url))


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SECONDS", 0.1)
    with answering(closes=False) as (port, _):
        is_healthy, line = check(f"http://{HOST}:{port}/")

    assert not is_healthy
    assert line == f"http://{HOST}:{port}/ did not answer within 0.1 s"


def test_a_port_where_nothing_listens_is_a_sentence() -> None:
    url = f"http://{HOST}:{free_port()}/readyz"

    assert check(url) == (False, f"cannot reach {url}: Connection refused")


def test_an_unknown_name_is_a_sentence() -> None:
    is_healthy, line = check("http://nobody.invalid/")

    assert not is_healthy
    assert line.startswith("cannot reach http://nobody.invalid/: ")


def test_a_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{free_port()}")
    with answering(OK) as (port, _):
        assert check(f"http://{HOST}:{port}/") == (True, "ok")


@pytest.mark.parametrize(("answer", "code", "out"), [(OK, 0, "ok\n"), (PROBLEM, 1, "The database cannot be read.\n")])
def test_the_exit_code_tells(answer: bytes, code: int, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(answer) as (port, _):
        assert main([f"http://{HOST}:{port}/readyz"]) == code

    assert capsys.readouterr().out == out


def test_without_a_path_it_asks_for_the_root() -> None:
    with answering(OK) as (port, sent):
        assert main([f"http://{HOST}:{port}"]) == 0

    assert b"".join(sent).startswith(b"GET / HTTP/1.1\r\n")


def test_an_ipv6_address_stands_in_brackets() -> None:
    """An IPv4 address in the notation of IPv6, because a container may have no IPv6."""
    with answering(OK) as (port, _):
        assert main([f"http://[::ffff:{HOST}]:{port}/"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        *([], [""], ["--help"], ["127.0.0.1:8000/readyz"], ["http://a/", "http://b/"], ["https://a/"], ["http://"]),
        *(["http:///x"], ["http://:80/"], ["http://a:0/"], ["http://a:65536/"], ["http://a:x/"], ["http://[::1/"]),
        ["http://ä/"],
    ],
)
def test_other_arguments_are_exit_code_2_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", "usage: python -m emotion_admin.health http://HOST[:PORT]/PATH\n")
