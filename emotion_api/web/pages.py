"""The live page: what each camera sees now, in a browser, for whoever has no front end. No internet is needed.

The page and its modules are files; all data come from the addresses of the API, which ask for a token where one is set.
"""

from functools import cache
from html import escape
from importlib import resources

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as WerkzeugResponse

from emotion_api.web.files import content, file, media_type, page
from shared.batch import Topics

_MODULES = sorted(each.name for each in resources.files("emotion_api").joinpath("static/dashboard").iterdir())

ASSETS = {
    "dashboard.css": "static/dashboard.css",
    "icon.svg": "static/icon.svg",
    **{name: f"static/dashboard/{name}" for name in _MODULES},
}
"""What is served below /dashboard/assets: the name there, and the file that it comes from."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

_TOPIC, _PORT = b"{{batch topic}}", b"{{mqtt port}}"


def blueprint(topics: Topics, mqtt_port: int) -> Blueprint:
    """`/dashboard` and what it loads. `topics` and `mqtt_port` say where the page tells people to publish."""
    pages = Blueprint("dashboard", __name__)

    @cache
    def html() -> bytes:
        topic = escape(topics.batch("{device_id}")).encode()
        text = content("emotion_api", "static/dashboard.html").replace(_PORT, str(mqtt_port).encode())
        return text.replace(_TOPIC, topic)

    @pages.get("/dashboard")
    def live() -> Response:
        return page(html(), _POLICY)

    @pages.get("/dashboard/")
    def with_slash() -> WerkzeugResponse:
        query = request.query_string.decode("latin-1")
        return redirect(f"../dashboard?{query}" if query else "../dashboard", 308)

    @pages.get(f"/dashboard/assets/<any({','.join(ASSETS)}):name>")
    def asset(name: str) -> Response:
        return file(content("emotion_api", ASSETS[name]), media_type(name))

    return pages
