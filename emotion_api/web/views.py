"""The API's operations as Flask views: parse, call, answer. operations.py describes them."""

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast
from zoneinfo import ZoneInfo

from flask import Flask, Response, request
from werkzeug.datastructures import Accept, Headers, MIMEAccept
from werkzeug.http import parse_accept_header

from emotion_api.monitoring.metrics import CONTENT_TYPE_LATEST, Metrics
from emotion_api.reading.reader import DevicesReader, HistoryReader, OverviewReader, SummaryReader
from emotion_api.reading.response import CachedResponse
from emotion_api.reading.source import DatabaseUnavailable, Source
from emotion_api.web import auth, parameters

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

STANDBY_LAG = "X-Standby-Lag-Seconds"
"""The header that says how old the data are if they come from a PostgreSQL standby."""

_OK = b'{"status":"ok"}'


class Readers(NamedTuple):
    """The database, and the readers of its four responses."""

    source: Source
    summary: SummaryReader
    history: HistoryReader
    devices: DevicesReader
    overview: OverviewReader


def register(app: Flask, readers: Readers, metrics: Metrics, *, site: ZoneInfo) -> None:
    """Add the API's views to `app`. `site` is the time zone of histories that ask for days and name no zone."""

    @app.get("/")
    def health() -> Response:
        return Response(_OK, content_type="application/json")

    @app.get("/healthz")
    def healthz() -> Response:
        return Response(_OK, content_type="application/json")

    @app.get("/readyz")
    def ready() -> Response:
        readers.source.check()
        return Response(_OK, content_type="application/json")

    @app.get("/metrics", endpoint="metrics")
    def metrics_() -> Response:
        is_up = _can_be_read(readers.source)
        text = metrics.exposition(database_is_up=is_up, standby_lag=readers.source.standby_lag if is_up else None)
        return Response(text, content_type=CONTENT_TYPE_LATEST)

    @app.get("/api/dashboard/summary")
    def summary() -> Response:
        environ = request.environ
        wanted = parameters.summary(environ.get("QUERY_STRING", ""))
        auth.check_view(environ, "summary", *(["totals"] if wanted.totals_only else []))
        auth.check_device(environ, wanted.device_id)
        return respond(readers.summary.read(wanted, gzip=_accepts_gzip(environ)), "application/json")

    @app.get("/api/dashboard/history")
    def history() -> Response:
        environ = request.environ
        prefers_csv = _prefers_csv(environ.get("HTTP_ACCEPT", ""))
        wanted = parameters.history(environ.get("QUERY_STRING", ""), csv=prefers_csv, site=site)
        auth.check_view(environ, "history")
        auth.check_device(environ, wanted.device_id)
        cached = readers.history.read(wanted, gzip=_accepts_gzip(environ))
        response = respond(cached, "text/csv; charset=utf-8" if wanted.csv else "application/json")
        response.headers["Vary"] = "Accept"
        if wanted.csv and response.status_code == 200:
            response.headers["Content-Disposition"] = f'attachment; filename="{readers.history.file_name(wanted)}"'
        return response

    @app.get("/api/devices")
    def devices() -> Response:
        environ = request.environ
        parameters.devices(environ.get("QUERY_STRING", ""))
        auth.check_view(environ, "devices")
        return respond(
            readers.devices.read(auth.only_devices(environ), gzip=_accepts_gzip(environ)), "application/json"
        )

    @app.get("/api/dashboard/overview")
    def overview() -> Response:
        environ = request.environ
        parameters.overview(environ.get("QUERY_STRING", ""))
        auth.check_view(environ, "overview")
        return respond(
            readers.overview.read(auth.only_devices(environ), gzip=_accepts_gzip(environ)), "application/json"
        )

    def respond(cached: CachedResponse, content_type: str) -> Response:
        response = _respond(cached, content_type)
        lag = readers.source.standby_lag
        if lag is not None:
            response.headers[STANDBY_LAG] = f"{lag:.3f}"
        return response


def _can_be_read(source: Source) -> bool:
    try:
        source.check()
    except DatabaseUnavailable:
        return False
    return True


def _respond(cached: CachedResponse, content_type: str) -> Response:
    """The cached response; 304 without a body if the client has it."""
    environ = request.environ
    if_none_match = environ.get("HTTP_IF_NONE_MATCH")
    if if_none_match == cached.etag:
        not_modified = _CompleteResponse([], 304)
        not_modified.headers = Headers([("ETag", cached.etag)])
        return not_modified
    is_plain_get = environ["REQUEST_METHOD"] == "GET" and if_none_match is None
    response = (_CompleteResponse if is_plain_get else Response)(cached.blocks, content_type=content_type)
    response.headers["ETag"] = cached.etag
    response.headers["Content-Length"] = str(cached.length)
    if cached.encoding:
        response.headers["Content-Encoding"] = cached.encoding
    if if_none_match is not None:
        response.make_conditional(request)
    return response


class _CompleteResponse(Response):
    """A response with all its headers, sent as it is: with werkzeug's checks a summary takes 1.1 times as long."""

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return cast(list[bytes], self.response)


def _accepts_gzip(environ: "WSGIEnvironment") -> bool:
    return _names_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))


@lru_cache(maxsize=256)  # there are few different browsers
def _names_gzip(accept_encoding: str) -> bool:
    return parse_accept_header(accept_encoding, Accept).quality("gzip") > 0


@lru_cache(maxsize=256)
def _prefers_csv(accept: str) -> bool:
    """Return True if the client prefers text/csv to JSON; JSON is also for clients that accept neither."""
    accepted = parse_accept_header(accept, MIMEAccept)
    return accepted.quality("text/csv") > accepted.quality("application/json")
