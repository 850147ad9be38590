"""Bytes that are no valid request, and origins that may not read the answers.

Junk is answered with a 4xx or by closing the connection, never with a 5xx and never with silence. Two 5xx are right all
the same: 501 for a transfer coding that the server does not have, 505 for a version of HTTP that it does not speak.
"""

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.databases import make_tables
from tests.faults.conftest import Rounds
from tests.waiting import wait_until
from tests.web import HOST, SUMMARY, Api

REFUSALS = {*range(400, 500), 501, 505}
ANSWERED_SECONDS = 30.0

ORIGINS = ("http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000", "https://xn--bcher-kva.example")

HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

JUNK = {
    "nothing": b"",
    "line ends only": b"\r\n\r\n\r\n\r\n",
    "NUL bytes": b"\0" * 4096,
    "every byte": bytes(range(256)) * 8,
    "no version": b"GET /\r\n\r\n",
    "HTTP/0.9": b"GET /\n",
    "version 2.0 in the request line": b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "version 1.10": b"GET / HTTP/1.10\r\nHost: localhost\r\n\r\n",
    "version 9.9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no version number": b"GET / HTTP/\r\nHost: localhost\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "MQTT": bytes.fromhex("101000044d5154540502003c00000361626300") + b"\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
    "TLS hello": bytes.fromhex("160301006a010000660303") + bytes(range(95)),
    "PROXY line": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + HELLO + b"\r\n",
    "only a method": b"GET\r\n\r\n",
    "four words": b"GET / / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "method in lower case": b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "method with a slash": b"GE/T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "method of 10,000 letters": b"G" * 10_000 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "DELETE": b"DELETE " + SUMMARY.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "URL of a megabyte": b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "query of 2,000 fields": b"GET /?" + b"a&" * 2_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "path up and out": b"GET /docs/assets/../../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "path up and out, encoded": b"GET /docs/assets/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "path with a backslash": b"GET /docs/assets/..\\..\\docs.py HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "path without a slash": b"GET docs HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "percent escapes that are none": b"GET /%zz%%%2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "path that is not UTF-8": b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "raw bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "encoded NUL in the device": b"GET " + SUMMARY.encode() + b"?device_id=a%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "line end in the device": b"GET " + SUMMARY.encode() + b"?device_id=a%0d%0aX:y HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "header of a megabyte": HELLO + b"X: " + b"a" * 2**20 + b"\r\n\r\n",
    "10,000 headers": HELLO + b"".join(b"X-%d: a\r\n" % number for number in range(10_000)) + b"\r\n",
    "header without a colon": HELLO + b"nonsense\r\n\r\n",
    "header without a name": HELLO + b": a\r\n\r\n",
    "space before the colon": HELLO + b"X : a\r\n\r\n",
    "NUL in a header": HELLO + b"X: a\0b\r\n\r\n",
    "NUL in a header's name": HELLO + b"X\0: a\r\n\r\n",
    "carriage return in a header": HELLO + b"X: a\rb: c\r\n\r\n",
    "folded header": HELLO + b"X: a\r\n b\r\n\r\n",
    "Host with a line end": b"GET / HTTP/1.1\r\nHost: localhost\r\n b\r\n\r\n",
    "length below zero": HELLO + b"Content-Length: -1\r\n\r\n",
    "length with a plus": HELLO + b"Content-Length: +1\r\n\r\na",
    "length that is a word": HELLO + b"Content-Length: many\r\n\r\n",
    "length in other digits": HELLO + "Content-Length: \u0661\r\n\r\na".encode(),
    "two lengths": HELLO + b"Content-Length: 0\r\nContent-Length: 35\r\n\r\n" + SMUGGLED,
    "two lengths in one": HELLO + b"Content-Length: 0, 35\r\n\r\n" + SMUGGLED,
    "length and chunks": HELLO + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks twice": HELLO + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks, then identity": HELLO + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks under another name": HELLO + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks with a vertical tab": HELLO + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks in HTTP/1.0": b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "expectation": HELLO + b"Expect: a miracle\r\n\r\n",
}
"""The bytes to send. The client then says that it will send no more, and reads."""


VALID = (
    b"GET /api/dashboard/summary?device_id=jetson_1 HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n"
    b'Origin: http://localhost:3000\r\nIf-None-Match: W/"0123456789abcdef", "fedc"\r\nContent-Length: 0\r\n\r\n'
)

OTHER_ORIGINS = (
    "http://localhost:3000.evil.example",
    "http://localhost:3000@evil.example",
    "http://evil.example@localhost:3000",
    "http://user@localhost:3000",
    "http://user:password@localhost:3000",
    "http://evil.example/http://localhost:3000",
    "http://evillocalhost:3000",
    "http://sub.localhost:3000",
    "http://localhost.:3000",
    "http://localhost:30000",
    "http://localhost:03000",
    "http://localhost:3001",
    "http://localhost:",
    "http://localhost",
    "https://localhost:3000",
    "ws://localhost:3000",
    "file://",
    "localhost:3000",
    "//localhost:3000",
    "HTTP://localhost:3000",
    "http://LOCALHOST:3000",
    "http://localhost:3000/",
    "http://localhost:3000/path",
    "http://localhost:3000?",
    "http://localhost:3000#",
    "http://localhost:3000 http://evil.example",
    "http://localhost:3000, http://127.0.0.1:3000",
    "http://localhost:3000,",
    "http://localhost:3000\t.evil.example",
    "http://localhost:3000%00.evil.example",
    "http://127.0.0.1:3000.evil.example",
    "http://127x0x0x1:3000",
    "http://127.1:3000",
    "http://2130706433:3000",
    "http://[::1]",
    "http://[::1%25lo]:3000",
    "http://[0:0:0:0:0:0:0:1]:3000",
    "http://[::ffff:127.0.0.1]:3000",
    "https://b\u00fccher.example",
    "https://xn--bcher-kva.example.evil.example",
    "null",
    "*",
    "http://*",
    ".*",
    "",
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One for all tests of this file: each sees whether it outlived the ones before."""
    folder = tmp_path_factory.mktemp("api")
    url = f"sqlite:///{folder}/emotion.db"
    make_tables(url)
    with Api(url, folder / "log", EMOTION_CORS_ORIGINS=",".join(ORIGINS)) as api:
        yield api
        assert "Traceback" not in api.log()
        assert api.log().count("Booting worker") == len(api.workers()), "a worker died and was replaced"


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_junk_is_refused_and_the_next_client_is_served(junk: bytes, api: Api) -> None:
    statuses = exchange(api, junk)

    assert len(statuses) <= 1
    assert set(statuses) <= REFUSALS
    assert api.ask(SUMMARY).status == 200


def test_an_edited_request_is_answered_or_refused(api: Api, rounds: Rounds) -> None:
    for chance in rounds(100, full=3_000):
        edited = edit(VALID, chance)
        print(edited)

        statuses = exchange(api, edited)

        assert set(statuses) <= {200, 304, 308, *REFUSALS}  # 308: to the same path without "//"
        assert api.ask(SUMMARY).status == 200


def test_a_client_that_leaves_in_the_middle_of_its_request_costs_nothing(api: Api, rounds: Rounds) -> None:
    handles = api.open_files()

    for chance in rounds(30, full=300):
        with socket.create_connection((HOST, api.port)) as client:
            client.sendall(VALID[: chance.randrange(len(VALID))])
        assert api.ask(SUMMARY).status == 200

    wait_until(lambda: api.open_files() < handles + 10, what="the connections are closed")


def test_half_a_request_is_given_up_when_the_keepalive_is_over(sqlite_url: str, tmp_path: Path) -> None:
    with (
        Api(sqlite_url, tmp_path / "log", GUNICORN_CMD_ARGS="--keep-alive 1") as api,
        socket.create_connection((HOST, api.port), timeout=ANSWERED_SECONDS) as client,
    ):
        client.sendall(VALID[:-2])

        assert client.recv(1) == b""


def test_requests_sent_together_are_answered_in_their_order(api: Api) -> None:
    missing = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"

    statuses = exchange(api, (VALID + missing) * 20)

    assert statuses == [200, 404] * 20


def test_nothing_after_the_first_refused_request_is_answered(api: Api) -> None:
    statuses = exchange(api, VALID + b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n" + VALID)

    assert statuses == [200, 400]


@pytest.mark.parametrize("path", ["/", SUMMARY, "/nothing"])
@pytest.mark.parametrize("origin", ORIGINS)
def test_a_configured_origin_may_read(origin: str, path: str, api: Api) -> None:
    answer = api.ask(path, Origin=origin)

    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["vary"] == "Origin, Accept-Encoding"


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize("origin", OTHER_ORIGINS)
def test_no_other_origin_may_read(origin: str, method: str, api: Api) -> None:
    request = (
        f"{method} / HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: GET\r\n\r\n"
    )

    answer = talk(api, request.encode())

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"access-control" not in answer.lower()
    assert re.findall(rb"\r\nvary: *(.*)\r\n", answer.lower()) == [b"origin, accept-encoding"]


def test_a_configured_origin_beside_another_may_not_read(api: Api) -> None:
    origins = b"Origin: http://localhost:3000\r\nOrigin: http://evil.example\r\n\r\n"

    answer = talk(api, HELLO + origins)

    assert b"access-control" not in answer.lower()


def edit(request: bytes, chance: Random) -> bytes:
    """Replace, put in, take out or repeat a few bytes."""
    edited = bytearray(request)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(edited))
        end = min(len(edited), start + chance.choice((0, 1, 1, 2, 8)))
        put_in = chance.choice((b"", chance.randbytes(1), chance.randbytes(4), b"\r\n", bytes(edited[start:end]) * 20))
        edited[start:end] = put_in
    return bytes(edited)


def exchange(api: Api, sent: bytes) -> list[int]:
    """The statuses that come back for `sent`, until the server closes the connection."""
    return [int(status) for status in re.findall(rb"HTTP/\d\.\d (\d{3}) ", talk(api, sent))]


def talk(api: Api, sent: bytes) -> bytes:
    """All that comes back for `sent`, then the client says no more. Raises TimeoutError where it does not end."""
    received = b""
    with socket.create_connection((HOST, api.port), timeout=ANSWERED_SECONDS) as client:
        with contextlib.suppress(ConnectionError):  # refused before all of it was sent
            client.sendall(sent)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65_536):
                received += part
    return received
