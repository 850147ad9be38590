"""Who may read the answers from a browser (CORS), and what a browser may do with them."""

import re
from collections.abc import Sequence

from flask import Flask, Response
from flask_cors import CORS

_ALWAYS = [
    ("Cache-Control", "no-cache"),  # keep it, but ask each time whether it has changed
    ("Cross-Origin-Resource-Policy", "same-origin"),  # does not count for what CORS allows
    ("Referrer-Policy", "no-referrer"),
    ("Vary", "Origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
]
_CONTENT_POLICY = "Content-Security-Policy"


def register(app: Flask, cors_origins: Sequence[str]) -> None:
    """Put the headers on every answer of `app`, errors too. A view's own Content-Security-Policy stays."""
    CORS(
        app,
        # As plain strings flask-cors would take some for patterns and compare the others without regard to case.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in cors_origins],
        methods=["GET", "HEAD", "OPTIONS"],
        expose_headers=["ETag", "Retry-After"],
        max_age=600,
        always_send=False,
        vary_header=False,  # it would be left out where the origin is refused, and a cache would mix the two up
    )
    app.after_request(_add)


def _add(response: Response) -> Response:
    response.headers.extend(_ALWAYS)
    if _CONTENT_POLICY not in response.headers:
        response.headers.add(_CONTENT_POLICY, "default-src 'none'; frame-ancestors 'none'")
    return response
