"""Every error as RFC 9457 problem details: what went wrong, and what the caller or the operator can do about it."""

from http import HTTPStatus
from typing import Annotated

import msgspec
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from emotion_api.bad_request import BadRequest
from emotion_api.reading.source import Busy, DatabaseUnavailable
from shared.batch import Topics

RETRY_AFTER_SECONDS = 5

_encoder = msgspec.json.Encoder()


class Problem(msgspec.Struct, frozen=True):
    """A problem as in RFC 9457."""

    type: Annotated[str, msgspec.Meta(description="about:blank: the status says what kind of problem it is")]
    title: Annotated[str, msgspec.Meta(description="the status in words")]
    status: int
    detail: Annotated[str, msgspec.Meta(description="the fault of this request, or the next step")]


class Forbidden(Exception):
    """Raised for a request that its token may not make: the text says what the token is limited to."""


def problem(status: int, detail: str) -> Response:
    """A response with `status` whose body says `detail`."""
    body = _encoder.encode(Problem("about:blank", HTTPStatus(status).phrase, status, detail))
    return Response(body, status, content_type="application/problem+json")


def register(app: Flask, topics: Topics) -> None:
    """Have `app` answer all errors as problem details. A 405 names the MQTT topic that devices publish to."""

    def http_error(error: HTTPException) -> Response:
        response = problem(error.code or 500, _detail(error, topics))
        response.headers.extend((name, value) for name, value in error.get_headers() if name != "Content-Type")
        return response

    def bad_request(error: BadRequest) -> Response:
        return problem(400, str(error))

    def forbidden(error: Forbidden) -> Response:
        return problem(403, str(error))

    def internal_error(error: InternalServerError) -> Response:
        return problem(500, "The server failed unexpectedly. Its log has the reason.")

    def database_unavailable(error: DatabaseUnavailable) -> Response:
        return _try_again(
            "The database cannot be read; the log has the reason. Check that emotion_daemon is running, because it "
            "creates the database, and that both have the same EMOTION_DATABASE_URL."
        )

    def busy(error: Busy) -> Response:
        return _try_again(
            "The API is building other long responses. Try again after Retry-After seconds, or ask for less: a shorter "
            "time, or fewer people with limit."
        )

    app.register_error_handler(Busy, busy)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(BadRequest, bad_request)
    app.register_error_handler(Forbidden, forbidden)
    app.register_error_handler(InternalServerError, internal_error)
    app.register_error_handler(DatabaseUnavailable, database_unavailable)


def _try_again(detail: str) -> Response:
    response = problem(503, detail)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _detail(error: HTTPException, topics: Topics) -> str:
    match error:
        case MethodNotAllowed():
            topic = topics.batch("<device_id>")
            return (
                f"This API is read-only. Devices publish batches over MQTT to {topic}. "
                "For a program that can only POST, run python -m emotion_device bridge."
            )
        case NotFound():
            return "Not found. See /docs for the list of endpoints."
        case _:
            return error.description or "The request cannot be answered."
