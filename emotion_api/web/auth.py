"""Bearer tokens (RFC 6750): if EMOTION_API_TOKEN has any, the API's data require one of them."""

import hmac
from collections.abc import Sequence

from flask import Flask, Response, request

from emotion_api.web.errors import problem
from emotion_api.web.hosts import HEALTH_VIEWS

OPEN_VIEWS = frozenset(
    (
        *HEALTH_VIEWS,
        *("docs", "redoc", "docs_asset", "openapi_json", "asyncapi_json", "batch_json"),
        *("dashboard", "dashboard_asset", "page_with_slash"),
    ),
)
"""Flask's names of the views that require no token: they hold nothing of the data."""

CHALLENGE = 'Bearer realm="emotion-analytics"'


def register(app: Flask, tokens: Sequence[str]) -> None:
    """Have `app` answer 401 to requests without one of `tokens`, if there are any.

    A request that leads to no view (unknown address, another method, a redirect) requires a token, too. OPTIONS does
    not: browsers send no token with a preflight.
    """
    if not tokens:
        return
    known = [token.encode("ascii") for token in tokens]

    def require_token() -> Response | None:
        if request.method == "OPTIONS" or request.endpoint in OPEN_VIEWS:
            return None
        credentials = _credentials(request.headers.get("Authorization", ""))
        if not credentials:
            return _unauthorized(CHALLENGE, "A bearer token is required. Send Authorization: Bearer <token>.")
        if not _is_known(credentials, known):
            return _unauthorized(
                f'{CHALLENGE}, error="invalid_token"', "The bearer token is unknown. Send one of EMOTION_API_TOKEN."
            )
        return None

    app.before_request(require_token)


def _credentials(authorization: str) -> bytes:
    """The credentials of the scheme Bearer; empty for another scheme, and without any."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return b""
    return credentials.strip(" ").encode("ascii", "replace")  # no token has the ? that replaces a byte beyond ASCII


def _is_known(credentials: bytes, known: Sequence[bytes]) -> bool:
    """Return True if `credentials` are one of `known`. The time it takes tells neither which, nor how much was right.

    compare_digest takes as long as its second argument is, which the client chose.
    """
    matches = [hmac.compare_digest(token, credentials) for token in known]  # a list: any() alone would stop at one
    return any(matches)


def _unauthorized(challenge: str, detail: str) -> Response:
    response = problem(401, detail)
    response.headers["WWW-Authenticate"] = challenge
    return response
