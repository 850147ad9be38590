"""Who may read: where EMOTION_API_TOKEN has bearer tokens (RFC 6750), whoever sends one of them; else everybody."""

import hmac
from collections.abc import Sequence

from flask import Flask, Response, request

from emotion_api.web.errors import problem

OPEN_VIEWS = frozenset(
    (
        *("health", "healthz", "ready", "metrics"),
        *("docs.openapi_json", "docs.swagger", "docs.redoc", "docs.asset", "contract.asyncapi_json", "contract.batch"),
        *("dashboard.live", "dashboard.with_slash", "dashboard.asset"),
    ),
)
"""Flask's names of the views that ask for no token.

They tell whether the API runs and can read and how fast, describe it and what devices publish, and are the live page,
which holds no data of its own.
"""

CHALLENGE = 'Bearer realm="emotion-analytics"'


def register(app: Flask, tokens: Sequence[str]) -> None:
    """Have `app` answer 401 to every request without one of `tokens`. Where there are none, nobody is asked for one.

    What leads to no view (an address that does not exist, another method, a redirect) is not open either. OPTIONS is:
    browsers send no token with a preflight.
    """
    if not tokens:
        return
    known = [token.encode("ascii") for token in tokens]

    def refuse() -> Response | None:
        if request.method == "OPTIONS" or request.endpoint in OPEN_VIEWS:
            return None
        credentials = _credentials(request.headers.get("Authorization", ""))
        if not credentials:
            return _unauthorized(CHALLENGE, "This address asks for a bearer token: send Authorization: Bearer <token>.")
        if not _is_known(credentials, known):
            return _unauthorized(
                f'{CHALLENGE}, error="invalid_token"', "The bearer token that was sent is not one of EMOTION_API_TOKEN."
            )
        return None

    app.before_request(refuse)


def _credentials(authorization: str) -> bytes:
    """What stands behind the scheme Bearer; nothing where there is another scheme or none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return b""
    return credentials.strip(" ").encode("ascii", "replace")  # no token has the ? that replaces a byte beyond ASCII


def _is_known(credentials: bytes, known: Sequence[bytes]) -> bool:
    """Whether `credentials` are one of `known`: in a time that tells nothing of which, nor of how much was right.

    compare_digest takes as long as its second argument is, which is the caller's own.
    """
    matches = [hmac.compare_digest(token, credentials) for token in known]  # a list: any() alone would stop at one
    return any(matches)


def _unauthorized(challenge: str, detail: str) -> Response:
    answer = problem(401, detail)
    answer.headers["WWW-Authenticate"] = challenge
    return answer
