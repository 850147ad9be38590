"""HTTP only: parse, call, answer."""

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, cast

from flask import Flask, Response, request
from spectree import SpecTree
from werkzeug.datastructures import Accept, Headers, MIMEAccept
from werkzeug.http import parse_accept_header

from emotion_api.monitoring.metrics import CONTENT_TYPE_LATEST, RequestTimes
from emotion_api.reading.reader import DevicesReader, HistoryReader, SummaryReader
from emotion_api.reading.response import CachedResponse
from emotion_api.reading.source import DatabaseUnavailable, Source
from emotion_api.web import openapi, parameters

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_OK = b'{"status":"ok"}'


class Readers(NamedTuple):
    """What answers."""

    source: Source
    summary: SummaryReader
    history: HistoryReader
    devices: DevicesReader


def register(app: Flask, readers: Readers, times: RequestTimes, specification: SpecTree) -> None:
    """Have `app` answer at the addresses of the API, and describe them to `specification`."""

    @app.get("/")
    @openapi.describe_health(specification, "health")
    def health() -> Response:
        """Health

        Answers as soon as the API runs, also while its database cannot be read, and asks for no token.
        """
        return Response(_OK, content_type="application/json")

    @app.get("/healthz")
    @openapi.describe_health(specification, "healthz")
    def healthz() -> Response:
        """Health

        The same as /, under the name that the daemon has for it, too.
        """
        return Response(_OK, content_type="application/json")

    @app.get("/readyz")
    @openapi.describe_ready(specification)
    def ready() -> Response:
        """Readiness

        Answers 200 as soon as this worker can read its database, and asks for no token.
        """
        readers.source.check()
        return Response(_OK, content_type="application/json")

    @app.get("/metrics")
    @openapi.describe_metrics(specification)
    def metrics() -> Response:
        """Metrics

        For Prometheus: how long the requests of all workers took, and whether this worker can read its database. Asks
        for no token, and has nothing of the data in it.
        """
        return Response(times.exposition(database_is_up=_can_be_read(readers.source)), content_type=CONTENT_TYPE_LATEST)

    @app.get("/api/dashboard/summary")
    @openapi.describe_summary(specification)
    def summary() -> Response:
        """Summary of one device

        How long each of its people has shown each emotion. A device that nobody has heard of has no people.
        """
        environ = request.environ
        wanted = parameters.summary(environ.get("QUERY_STRING", ""))
        return _whole(readers.summary.read(wanted, gzip=_takes_gzip(environ)), "application/json")

    @app.get("/api/dashboard/history")
    @openapi.describe_history(specification)
    def history() -> Response:
        """History of one device

        How long each emotion was shown, in steps of a minute or more; as CSV where Accept asks for text/csv. A device
        that nobody has heard of has zeros.
        """
        environ = request.environ
        csv = _prefers_csv(environ.get("HTTP_ACCEPT", ""))
        wanted = parameters.history(environ.get("QUERY_STRING", ""), csv=csv)
        answer = readers.history.read(wanted, gzip=_takes_gzip(environ))
        response = _whole(answer, "text/csv; charset=utf-8" if csv else "application/json")
        response.headers["Vary"] = "Accept"
        return response

    @app.get("/api/devices")
    @openapi.describe_devices(specification)
    def devices() -> Response:
        """All devices

        Whether each is online, when it was last heard of, and what of it was rejected.
        """
        return _whole(readers.devices.read(gzip=_takes_gzip(request.environ)), "application/json")


def _can_be_read(source: Source) -> bool:
    try:
        source.check()
    except DatabaseUnavailable:
        return False
    return True


def _whole(answer: CachedResponse, content_type: str) -> Response:
    """The answer as a response, or that it is the one which the client has."""
    asked_for = request.environ.get("HTTP_IF_NONE_MATCH")
    if asked_for == answer.etag:
        return _not_modified(answer.etag)
    response = _WholeResponse(answer.blocks, content_type=content_type)
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


def _takes_gzip(environ: "WSGIEnvironment") -> bool:
    return _names_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))


@lru_cache(maxsize=256)  # there are only so many browsers
def _names_gzip(accept_encoding: str) -> bool:
    return parse_accept_header(accept_encoding, Accept).quality("gzip") > 0


@lru_cache(maxsize=256)
def _prefers_csv(accept: str) -> bool:
    """Whether text/csv is more welcome than JSON, which is answered where neither is."""
    accepted = parse_accept_header(accept, MIMEAccept)
    return accepted.quality("text/csv") > accepted.quality("application/json")
