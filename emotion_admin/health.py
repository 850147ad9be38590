"""Ask a service whether it works: `python -m emotion_admin.health http://127.0.0.1:8000/readyz`, for health checks.

It runs every few seconds, so it imports next to nothing: an HTTP/1.0 request over a socket, and no proxy.
"""

import socket
import sys
import time

SECONDS = 4.0
"""How long connection and answer may take together."""

MOST_BYTES = 65_536

USAGE = "usage: python -m emotion_admin.health http://HOST[:PORT]/PATH\n"


def main(arguments: list[str]) -> int:
    """Print what the address says, or what is wrong with it; 0 if it answers 200, 2 for a wrong argument, else 1."""
    place = parse(arguments[0]) if len(arguments) == 1 else None
    if place is None:
        sys.stderr.write(USAGE)
        return 2
    is_well, line = check(*place)
    sys.stdout.write(f"{line}\n")
    return 0 if is_well else 1


def check(host: str, port: int, path: str, *, seconds: float = SECONDS) -> tuple[bool, str]:
    """Whether http://host:port/path answers 200 within so many seconds, and what it says, in a line."""
    url = f"http://{host}:{port}{path}" if ":" not in host else f"http://[{host}]:{port}{path}"
    try:
        answer = _ask(host, port, path, time.monotonic() + seconds)
    except TimeoutError:
        return False, f"{url} did not answer within {seconds:g} s: it hangs, or the machine has too much to do"
    except OSError as error:
        return False, f"cannot reach {url}: {error.strerror or error}"
    head, _, body = answer.partition(b"\r\n\r\n")
    protocol, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    if not protocol.startswith("HTTP/"):
        return False, f"{url} does not speak HTTP"
    return status[:3] == "200", _line(body) or f"{url} answers {status}"


def parse(url: str) -> tuple[str, int, str] | None:
    """Host, port and path of `http://HOST[:PORT]/PATH`, None where `url` is something else."""
    scheme, _, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    host, colon, port = netloc.rpartition(":") if not netloc.endswith("]") else (netloc, "", "")
    if not colon:
        host, port = netloc, "80"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    is_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536
    is_plain = url.isascii() and url.isprintable() and " " not in url and "@" not in netloc
    return (host, int(port), slash + path or "/") if scheme == "http" and host and is_port and is_plain else None


def _ask(host: str, port: int, path: str, deadline: float) -> bytes:
    """The answer, with its head. Raises OSError, also where it takes longer than until `deadline`."""
    with socket.create_connection((host, port), timeout=_left(deadline)) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
        answer = b""
        while len(answer) < MOST_BYTES:
            connection.settimeout(_left(deadline))
            part = connection.recv(MOST_BYTES)
            if not part:
                break
            answer += part
        return answer


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _line(body: bytes) -> str:
    """What a body says: `ok`, the detail of problem details, or its first line."""
    if body.startswith(b"{"):
        return _said(body)
    return body.strip().partition(b"\n")[0].strip().decode("utf-8", "replace")


def _said(body: bytes) -> str:
    if body == b'{"status":"ok"}':
        return "ok"
    import json  # a tenth of the run, and needed only where something is wrong

    try:
        fields = json.loads(body)
    except ValueError:
        fields = {}
    said = fields.get("detail") or fields.get("status")
    return said if isinstance(said, str) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
