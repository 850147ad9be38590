"""The read side: one JSON summary of a device over HTTP. It never writes.

    request -> access -> query -> summary -> JSON

views      the three addresses of the API: parse, call, answer
reader     the answer for a device: one that was kept, or built from the database
kept       the answers that were built, for as long as they are right
watch      whether something was committed (SQLite)
queries    the selects
summary    rows -> Summary as JSON. Pure
answer     bytes, ETag, gzip
errors     every error as RFC 9457 problem details
access     who may read at all: bearer tokens
headers    who may read the answers from a browser, and what a browser may do with them
docs       the OpenAPI document, Swagger UI and ReDoc, without the internet
dashboard  the live page, for whoever has no front end
files      what these pages are made of, as answers
"""

import os
from collections.abc import Callable
from typing import Any

from flask import Flask

from emotion_api import access, dashboard, docs, errors, headers, views
from emotion_api.reader import SummaryReader
from shared.batch import Topics
from shared.database import reader_engine, sqlite_path
from shared.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """The WSGI application; without `settings` they come from the environment.

    The database need not be there yet. Its engine is `app.extensions["engine"]`, for whoever closes the application.
    Raises SettingsError.
    """
    if settings is None:
        settings = Settings.from_environ(os.environ)
    engine = reader_engine(settings.database_url, echo=settings.sql_echo)
    reader = SummaryReader(engine, device_names=settings.device_names, file=sqlite_path(settings.database_url))
    specification = docs.new_specification()
    topics = Topics(settings.mqtt_topic_prefix)

    app = Flask(__name__, static_folder=None)
    app.extensions["engine"] = engine
    app.ensure_sync = _as_it_is  # type: ignore[method-assign]
    views.register(app, reader, specification)
    app.register_blueprint(docs.blueprint(specification, with_tokens=bool(settings.api_tokens)))
    app.register_blueprint(dashboard.blueprint(topics))
    access.register(app, settings.api_tokens)
    errors.register(app, topics)
    headers.register(app, settings.cors_origins, private=bool(settings.api_tokens))
    return app


def _as_it_is(func: Callable[..., Any]) -> Callable[..., Any]:
    """No view here is async; Flask would look whether one is, twice a request."""
    return func
