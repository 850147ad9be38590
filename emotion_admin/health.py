"""Ask a service for its health: `python -m emotion_admin.health http://127.0.0.1:8000/readyz`, for health checks."""

import json
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from socket import AF_UNIX, socket
from urllib.parse import unquote, urlsplit

SECONDS = 4.0
"""Seconds that each step, like connecting or reading, may take."""

_MOST_BYTES = 2**24


_UNIX = "http+unix"


class _UnixConnection(HTTPConnection):
    """A connection to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def main(arguments: list[str]) -> int:
    """Print the service's answer, or what is wrong. Return 0 if it is 200, 2 for wrong arguments, otherwise 1."""
    if len(arguments) != 1 or not is_url(arguments[0]):
        print("usage: python -m emotion_admin.health http://HOST[:PORT]/PATH", file=sys.stderr)
        return 2
    is_healthy, line = check(arguments[0])
    print(line)
    return 0 if is_healthy else 1


def check(url: str) -> tuple[bool, str]:
    """Return whether `url` answers 200, and one line: the answer, or what is wrong."""
    try:
        status, body = get(url)
    except TimeoutError:
        return False, f"{url} did not answer within {SECONDS:g} s"
    except (OSError, HTTPException) as error:
        return False, f"cannot reach {url}: {getattr(error, 'strerror', None) or error}"
    return status == 200, _summary(body) or f"{url} answers {status}"


def get(url: str) -> tuple[int, str]:
    """Return status and body of `url`, without a proxy. Raises OSError and HTTPException."""
    parts = urlsplit(url)
    connection = (
        _UnixConnection(unquote(parts.netloc))
        if parts.scheme == _UNIX
        else HTTPConnection(parts.hostname or "", parts.port or 80, timeout=SECONDS)
    )
    with closing(connection):
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        return response.status, response.read(_MOST_BYTES).decode("utf-8", "replace").strip()


def is_url(text: str) -> bool:
    """Return True if `text` is like http://127.0.0.1:8000/readyz, or http+unix:// with the quoted path of a socket."""
    try:
        parts = urlsplit(text)
        if parts.scheme == _UNIX:
            return unquote(parts.netloc).startswith("/")
        return text.isascii() and parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number
        return False


def _summary(body: str) -> str:
    """The status or the detail of a JSON body, or the first line of another."""
    try:
        fields = json.loads(body)
        return str(fields.get("detail") or fields.get("status") or "")
    except (ValueError, AttributeError):
        return body.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
