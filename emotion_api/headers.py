"""Who may read the answers from a browser (CORS), and what browsers and caches may do with them."""

import re
from collections.abc import Sequence

from flask import Flask, Response
from flask_cors import CORS

_ALWAYS = [
    ("Cross-Origin-Resource-Policy", "same-origin"),  # does not count for what CORS allows
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
]
_PUBLIC = [
    ("Cache-Control", "no-cache"),  # keep it, but ask each time whether it has changed
    ("Vary", "Origin"),
]
_PRIVATE = [
    ("Cache-Control", "private, no-cache"),  # a cache that several people share does not keep it at all
    ("Vary", "Origin, Authorization"),
]
_CONTENT_POLICY = "Content-Security-Policy"


def register(app: Flask, cors_origins: Sequence[str], *, private: bool) -> None:
    """Put the headers on every answer of `app`, errors too. A view's own Content-Security-Policy stays.

    `private` answers are for whoever asked for them: no shared cache may give them to somebody else.
    """
    always = _ALWAYS + (_PRIVATE if private else _PUBLIC)

    def add(response: Response) -> Response:
        response.headers.extend(always)
        if _CONTENT_POLICY not in response.headers:
            response.headers.add(_CONTENT_POLICY, "default-src 'none'; frame-ancestors 'none'")
        return response

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
    app.after_request(add)
