"""Who may read the answers from a browser (CORS), and what browsers and caches may do with them."""

import re
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from flask import Flask, request
from flask.typing import AfterRequestCallable
from flask_cors import CORS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Note: TypeAlias = Callable[["WSGIEnvironment", str, float], None]

_ALWAYS = [
    ("Cross-Origin-Resource-Policy", "same-origin"),  # does not count for what CORS allows
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
]
_PUBLIC = [
    ("Cache-Control", "no-cache"),  # keep it, but ask each time whether it has changed
    ("Vary", "Origin, Accept-Encoding"),
]
_PRIVATE = [
    ("Cache-Control", "private, no-cache"),  # a cache that several people share does not keep it at all
    ("Vary", "Origin, Authorization, Accept-Encoding"),
]


def register(app: Flask, cors_origins: Sequence[str], *, private: bool, note: Note) -> None:
    """Put the headers on every answer of `app`, errors too. A view's own Content-Security-Policy and Vary stay.

    `private` answers are for whoever asked for them: no shared cache may give them to somebody else. `note` is told of
    each request, with its status and the seconds until its answer began: another layer around the application, only for
    that, would cost as much again.
    """
    CORS(
        app,
        # As plain strings flask-cors would take some for patterns and compare the others without regard to case.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in cors_origins],
        methods=["GET", "HEAD", "OPTIONS"],
        allow_headers="*",  # answered with the names that were asked for: browsers do not take * for Authorization
        expose_headers=["ETag", "Retry-After", "WWW-Authenticate"],
        max_age=600,
        always_send=False,
        vary_header=False,  # it would be left out where the origin is refused, and a cache would mix the two up
    )
    (cors,) = app.after_request_funcs[None]  # its only hook so far
    app.after_request_funcs[None] = [_where_there_is_an_origin(cors)]
    app.wsgi_app = _with_headers(app.wsgi_app, _ALWAYS + (_PRIVATE if private else _PUBLIC), note)  # type: ignore[assignment, method-assign]


def _where_there_is_an_origin(hook: AfterRequestCallable[Any]) -> AfterRequestCallable[Any]:
    """flask-cors, which has nothing to add to the others: a tenth of the time that a request takes."""

    def for_origin(response: Any) -> Any:
        return hook(response) if "HTTP_ORIGIN" in request.environ else response

    return for_origin


def _with_headers(application: "WSGIApplication", always: Sequence[tuple[str, str]], note: Note) -> "WSGIApplication":
    """Around the application and not in it: there each header is looked through once more for each answer."""

    def wrapped(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        began = perf_counter()

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            note(environ, status, perf_counter() - began)
            names = [name for name, _ in headers]
            if "Content-Security-Policy" not in names:
                headers.append(("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"))
            headers += always
            if "Vary" in names:
                headers = _with_one_vary(headers)
            return start_response(status, headers, *exc_info)

        return application(environ, start)

    return wrapped


def _with_one_vary(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """There are caches that look at the first line of that name only."""
    vary = ", ".join(value for name, value in headers if name == "Vary")
    return [*(header for header in headers if header[0] != "Vary"), ("Vary", vary)]
