"""Bearer tokens (RFC 6750): if EMOTION_API_TOKEN has any, the API's data require one of them.

A token may be limited to some devices and views. For others it gets 403.
"""

import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from emotion_api.web.errors import Forbidden, problem
from emotion_api.web.hosts import HEALTH_VIEWS
from shared.tokens import Token

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

OPEN_VIEWS = frozenset(
    (
        *HEALTH_VIEWS,
        *("docs", "redoc", "docs_asset", "openapi_json", "asyncapi_json", "batch_json"),
        *("dashboard", "dashboard_asset", "page_with_slash"),
    ),
)
"""Flask's names of the views that require no token: they hold nothing of the data."""

_LIMITED = "emotion_api.token"
"""The key of a request's token in its environment, if the token is limited."""

CHALLENGE = 'Bearer realm="emotion-analytics"'


def register(app: Flask, tokens: Sequence[str]) -> None:
    """Have `app` answer 401 to requests without one of `tokens`, if there are any.

    A request that leads to no view (unknown address, another method, a redirect) requires a token, too. OPTIONS does
    not: browsers send no token with a preflight.
    """
    if not tokens:
        return
    parsed = [Token.parse(token) for token in tokens]
    known = {token.text.encode("ascii"): None if token == Token(token.text) else token for token in parsed}

    def require_token() -> Response | None:
        if request.method == "OPTIONS" or request.endpoint in OPEN_VIEWS:
            return None
        credentials = _credentials(request.headers.get("Authorization", ""))
        if not credentials:
            return _unauthorized(CHALLENGE, "A bearer token is required. Send Authorization: Bearer <token>.")
        if not _is_known(credentials, list(known)):
            return _unauthorized(
                f'{CHALLENGE}, error="invalid_token"', "The bearer token is unknown. Send one of EMOTION_API_TOKEN."
            )
        request.environ[_LIMITED] = known[credentials]
        return None

    app.before_request(require_token)


def check_view(environ: "WSGIEnvironment", *views: str) -> None:
    """Check that the request's token may ask for one of these views. Raises Forbidden."""
    token: Token | None = environ.get(_LIMITED)
    if token is not None and not token.may_ask(*views):
        raise Forbidden(f"This token is limited to other views: {_listed(token.views)}. Use another token.")


def check_device(environ: "WSGIEnvironment", device_id: str) -> None:
    """Check that the request's token may read the device. Raises Forbidden."""
    token: Token | None = environ.get(_LIMITED)
    if token is not None and not token.may_read(device_id):
        raise Forbidden(f"This token is limited to other devices: {_listed(token.devices)}. Use another token.")


def only_devices(environ: "WSGIEnvironment") -> frozenset[str] | None:
    """The devices that the request's token is limited to; None without a limit."""
    token: Token | None = environ.get(_LIMITED)
    return None if token is None else token.devices


def _listed(values: frozenset[str] | None) -> str:
    return ", ".join(sorted(values or ()))


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
