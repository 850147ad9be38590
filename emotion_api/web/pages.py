"""Pages for a browser (the live page, Swagger UI, ReDoc) and documents for programs. They need no internet.

The pages hold no script of their own: all scripts are files, so the browser may be told to run nothing else. The data
of the live page come from the API's operations, which require a token if one is set.
"""

import gzip
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path

import msgspec
from flask import Flask, Response, redirect, request
from werkzeug.http import generate_etag
from werkzeug.wrappers import Response as WerkzeugResponse

from emotion_api.reading.response import SHORTEST_COMPRESSED
from emotion_api.web import openapi
from emotion_api.web.script import joined
from shared.batch import Topics
from shared.contract import asyncapi, batch_schema

_STATIC = Path(__file__).parents[1] / "static"
_DASHBOARD = _STATIC / "dashboard"
_OFFAPI = Path(str(resources.files("offapi")))

DOCS_ASSETS = {
    **dict.fromkeys(("docs.js", "docs.css", "redoc_url.js", "icon.svg"), _STATIC),
    **dict.fromkeys(("swagger_bundle.js", "swagger_preset.js", "swagger_style.css", "redoc.js"), _OFFAPI),
}
DASHBOARD_ASSETS = {
    **dict.fromkeys(("dashboard.css", "icon.svg"), _STATIC),
    **dict.fromkeys(sorted(file.name for file in _DASHBOARD.iterdir()), _DASHBOARD),
}
"""The folder of each file below /docs/assets and /dashboard/assets, by name."""

DASHBOARD_SCRIPT = "page.js"
"""The name of the script that the page loads: all its modules in one."""

# ReDoc would also fetch its maker's logo and report to its maker; this keeps both from happening.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_DASHBOARD_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors {ancestors}; base-uri 'none'; form-action 'none'"
)

_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def register(
    app: Flask,
    topics: Topics,
    *,
    mqtt_port: int,
    time_zone: str,
    with_tokens: bool,
    frame_ancestors: Sequence[str] = (),
) -> None:
    """Serve the pages and documents. The live page tells people to publish to `topics` at the broker's `mqtt_port`.
    Its times are those of `time_zone`, and pages of the origins `frame_ancestors` may frame it.

    `with_tokens` the OpenAPI document says what requires a bearer token, and Swagger UI has a button to enter one.
    """
    live_page = _live_page(topics, mqtt_port, time_zone)
    policy = _DASHBOARD_POLICY.format(ancestors=" ".join(frame_ancestors) or "'none'")
    openapi_document = msgspec.json.encode(openapi.document(with_tokens=with_tokens))
    asyncapi_document = msgspec.json.encode(asyncapi(topics))
    batch_document = msgspec.json.encode(batch_schema())

    @app.get("/dashboard")
    def dashboard() -> Response:
        return _with_policy(_document(live_page, "text/html"), policy)

    @app.get("/<any(dashboard,docs,redoc):page>/")
    def page_with_slash(page: str) -> WerkzeugResponse:
        query = request.query_string.decode("latin-1")
        return redirect(f"../{page}?{query}" if query else f"../{page}", 308)

    @app.get(f"/dashboard/assets/<any({','.join((DASHBOARD_SCRIPT, *DASHBOARD_ASSETS))}):name>")
    def dashboard_asset(name: str) -> Response:
        if name == DASHBOARD_SCRIPT:
            return _document(_script(), _MEDIA_TYPES[".js"])
        return _file(DASHBOARD_ASSETS[name], name)

    @app.get("/docs")
    def docs() -> Response:
        return _with_policy(_file(_STATIC, "docs.html"), _DOCS_POLICY)

    @app.get("/redoc")
    def redoc() -> Response:
        return _with_policy(_file(_STATIC, "redoc.html"), _DOCS_POLICY)

    @app.get(f"/docs/assets/<any({','.join(DOCS_ASSETS)}):name>")
    def docs_asset(name: str) -> Response:
        return _file(DOCS_ASSETS[name], name)

    @app.get("/openapi.json")
    def openapi_json() -> Response:
        return _document(openapi_document, "application/json")

    @app.get("/asyncapi.json")
    def asyncapi_json() -> Response:
        return _document(asyncapi_document, "application/json")

    @app.get("/schemas/batch.json")
    def batch_json() -> Response:
        return _document(batch_document, "application/schema+json")


def _live_page(topics: Topics, mqtt_port: int, time_zone: str) -> bytes:
    """The live page, with the MQTT topic and port to which its hints point, and the site's time zone."""
    html = (_STATIC / "dashboard.html").read_text(encoding="utf-8")
    html = html.replace("{{mqtt port}}", str(mqtt_port)).replace("{{time zone}}", time_zone)
    return html.replace("{{batch topic}}", escape(topics.batch("{device_id}"))).encode()


def _file(folder: Path, name: str) -> Response:
    return _document(_content(folder / name), _MEDIA_TYPES[Path(name).suffix])


@cache
def _content(file: Path) -> bytes:
    """A file's bytes, 4 MB in all.

    send_from_directory would send a file in blocks of 8 KiB: others wait ten times as long while 200 slow clients load
    a large one.
    """
    return file.read_bytes()


@cache
def _script() -> bytes:
    modules = {file.name: file.read_text(encoding="utf-8") for file in _DASHBOARD.iterdir()}
    return joined(modules, "main.js").encode()


def _document(content: bytes, media_type: str) -> Response:
    """The content, compressed if it is worth the time and the client can read that."""
    response = Response(content, mimetype=media_type)
    etag = _etag(content)
    if len(content) >= SHORTEST_COMPRESSED and request.accept_encodings.quality("gzip") > 0:
        response.data = _compressed(content)
        response.content_encoding = "gzip"
        etag += ".gz"
    response.set_etag(etag)
    response.make_conditional(request)
    return response


@cache
def _etag(content: bytes) -> str:
    return generate_etag(content)


@cache
def _compressed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _with_policy(page: Response, policy: str) -> Response:
    page.headers["Content-Security-Policy"] = policy
    return page
