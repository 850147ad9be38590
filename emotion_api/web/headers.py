"""CORS, security and caching headers, and the duration of each request."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from flask_cors import CORS

from emotion_api.monitoring.metrics import Metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ALWAYS = [
    ("Cross-Origin-Resource-Policy", "same-origin"),  # CORS allows its origins all the same
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
_NO_FRAME = ("X-Frame-Options", "DENY")
_PUBLIC = [
    ("Cache-Control", "no-cache"),  # a cache may store it, but asks each time if it has changed
    ("Vary", "Origin, Accept-Encoding"),
]
_PRIVATE = [
    ("Cache-Control", "private, no-cache"),  # a shared cache does not store it at all
    ("Vary", "Origin, Authorization, Accept-Encoding"),
]

_OF_A_PROXY = re.compile(r'-(?:gzip|br|zstd)"')
"""The end of an entity tag whose response a proxy, like Apache, has compressed. The API's own tags have none."""


class Application(Flask):
    """Flask, with flask-cors only for requests that have an Origin."""

    def process_response(self, response: Response) -> Response:
        """Run the after_request functions if there is an Origin: flask-cors is the only one.

        For the others it would change nothing, and make a summary take 1.2 times as long within the application.
        """
        return super().process_response(response) if "HTTP_ORIGIN" in request.environ else response


def register(
    app: Application, cors_origins: Sequence[str], metrics: Metrics, *, private: bool, framed: Collection[str] = ()
) -> None:
    """Put the headers on every response of `app`, errors too, and tell `metrics` of each request.

    A view's own Content-Security-Policy and Vary stay. `private` responses are for their client alone: no shared
    cache may store them. `framed` are Flask's names of the views whose own policy says which pages may frame them.
    """
    CORS(
        app,
        # flask-cors takes some plain strings for patterns, and compares the others without regard to case.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in cors_origins],
        methods=["GET", "HEAD", "OPTIONS"],
        allow_headers="*",  # answered with the requested names: browsers do not take * for Authorization
        expose_headers=["Content-Disposition", "ETag", "Retry-After", "WWW-Authenticate", "X-Standby-Lag-Seconds"],
        max_age=600,
        always_send=False,
        vary_header=False,  # flask-cors leaves it out for a refused origin, and a cache would mix the two up
    )
    always = _ALWAYS + (_PRIVATE if private else _PUBLIC)
    app.wsgi_app = _middleware(app.wsgi_app, always, metrics, framed)  # type: ignore[assignment, method-assign]


def _middleware(
    application: "WSGIApplication", always: Sequence[tuple[str, str]], metrics: Metrics, framed: Collection[str]
) -> "WSGIApplication":
    """Add the headers `always` to each response, and observe each request's view, status and duration.

    An entity tag to which a proxy has added its compression becomes the API's own, or there would never be a 304.
    """

    def middleware(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        began = perf_counter()
        if_none_match = environ.get("HTTP_IF_NONE_MATCH")
        if if_none_match is not None:
            environ["HTTP_IF_NONE_MATCH"] = _OF_A_PROXY.sub('"', if_none_match)

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            # werkzeug documents this key. For an after_request function every request would pay: see Application.
            view = environ["werkzeug.request"].endpoint
            metrics.observe(view, status[:3], perf_counter() - began)
            names = [name for name, _ in headers]
            if "Content-Security-Policy" not in names:
                headers.append(("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"))
            headers += always
            if view not in framed:
                headers.append(_NO_FRAME)
            if "Vary" in names:
                headers = _with_one_vary(headers)
            return start_response(status, headers, *exc_info)

        return application(environ, start)

    return middleware


def _with_one_vary(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers with one line for Vary: some caches look at the first line alone."""
    vary = ", ".join(value for name, value in headers if name == "Vary")
    return [*(header for header in headers if header[0] != "Vary"), ("Vary", vary)]
