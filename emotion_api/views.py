"""HTTP only: parse, call, answer."""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qs

from flask import Flask, Response, request
from spectree import SpecTree
from werkzeug.datastructures import Accept, Headers
from werkzeug.exceptions import BadRequest
from werkzeug.http import parse_accept_header

from emotion_api import docs
from emotion_api.kept import Wanted
from emotion_api.reader import SummaryReader
from shared.batch import DEVICE_ID

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DEFAULT_DEVICE_ID = "jetson_1"

_OK = b'{"status":"ok"}'


def register(app: Flask, reader: SummaryReader, specification: SpecTree) -> None:
    """Have `app` answer at the addresses of the API, and describe them to `specification`."""

    @app.get("/")
    @docs.describe_health(specification)
    def health() -> Response:
        """Health

        Answers as soon as the API runs, also while its database cannot be read, and asks for no token.
        """
        return Response(_OK, content_type="application/json")

    @app.get("/readyz")
    @docs.describe_ready(specification)
    def ready() -> Response:
        """Readiness

        Answers 200 as soon as this worker can read its database, and asks for no token.
        """
        reader.check()
        return Response(_OK, content_type="application/json")

    @app.get("/api/dashboard/summary")
    @docs.describe_summary(specification)
    def summary() -> Response:
        """Summary of one device

        How long each of its people has shown each emotion. A device that nobody has heard of has no people.
        """
        environ = request.environ
        answer = reader.read(
            _wanted(environ.get("QUERY_STRING", "")), gzip=_names_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        )
        asked_for = environ.get("HTTP_IF_NONE_MATCH")
        if asked_for == answer.etag:
            return _not_modified(answer.etag)
        response = _WholeResponse(answer.blocks, content_type="application/json")
        response.headers["ETag"] = answer.etag
        response.headers["Content-Length"] = str(answer.length)
        if answer.encoding:
            response.headers["Content-Encoding"] = answer.encoding
        if asked_for is not None:
            response.make_conditional(request)
        return response


class _WholeResponse(Response):
    """A response whose headers are whole already. werkzeug looks through them: a tenth of the time of a request."""

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        body = cast(list[bytes], self.response)
        if environ["REQUEST_METHOD"] != "GET" or (body and self.status_code != HTTPStatus.OK):
            return super().__call__(environ, start_response)
        start_response(self.status, self.headers.to_wsgi_list())
        return body


def _not_modified(etag: str) -> Response:
    response = _WholeResponse([], HTTPStatus.NOT_MODIFIED)
    response.headers = Headers([("ETag", etag)])
    return response


@lru_cache(maxsize=1_000)  # a dashboard asks the same again and again
def _wanted(query: str) -> Wanted:
    """What a query string asks for. Raises BadRequest."""
    given = parse_qs(query, keep_blank_values=True)
    return Wanted(_device_id(given.get("device_id", [])), _totals_only(given.get("fields", [])))


def _device_id(given: list[str]) -> str:
    """The `device_id`, or the default. Raises BadRequest."""
    if not given:
        return DEFAULT_DEVICE_ID
    if len(given) > 1:
        raise BadRequest("device_id is given more than once: ask for one device at a time.")
    if not DEVICE_ID.fullmatch(given[0]):
        raise BadRequest("device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -")
    return given[0]


def _totals_only(given: list[str]) -> bool:
    """Whether `fields` leave out the people. Raises BadRequest."""
    if given not in ([], ["totals"]):
        raise BadRequest("fields can only be totals, given once: the summary without current_people.")
    return bool(given)


@lru_cache(maxsize=256)  # there are only so many browsers
def _names_gzip(accept_encoding: str) -> bool:
    return parse_accept_header(accept_encoding, Accept).quality("gzip") > 0
