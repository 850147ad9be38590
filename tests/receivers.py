"""A receiver of webhooks that a test starts: it holds what was posted, and answers with the status that it is told."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, NamedTuple


class Post(NamedTuple):
    headers: dict[str, str]
    body: bytes

    @property
    def alert(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Listens from the start of the block to its end."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.status = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append(Post({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                if receiver.status == 307:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    @property
    def alerts(self) -> list[Any]:
        return [post.alert for post in self.posts]

    def __enter__(self) -> "Receiver":
        Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
