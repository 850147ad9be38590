"""The read side: summary and history of a device, and how all devices are doing, over HTTP. It never writes.

    request -> access -> parameters -> query -> summary, history or devices -> JSON or CSV

views      the addresses of the API: parse, call, answer
parameters query strings -> what is wanted
refused    what cannot be answered as it was asked, in a sentence
reader     the three answers, built from the database
source     where answers come from: kept ones, or the database, and whether it can be read
kept       the answers that were built, for as long as they are right
watch      whether something was committed (SQLite)
queries    the selects
summary    rows -> Summary as JSON. Pure
history    sums of minutes -> History as JSON or CSV. Pure
devices    rows -> Devices as JSON. Pure
pauses     rests during long work
answer     bytes, ETag, gzip
errors     every error as RFC 9457 problem details
access     who may read at all: bearer tokens
headers    who may read the answers from a browser, and what a browser may do with them
docs       the OpenAPI document, Swagger UI and ReDoc, without the internet
contract   what devices publish: AsyncAPI and JSON Schema
dashboard  the live page, for whoever has no front end
files      what these pages are made of, as answers
metrics    what Prometheus is told of the API itself, and nothing of the data
tally      counts in memory that the workers share
"""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import Flask

from emotion_api import access, contract, dashboard, docs, errors, headers, views
from emotion_api.metrics import RequestTimes
from emotion_api.reader import DevicesReader, HistoryReader, SummaryReader, utc_now
from emotion_api.source import Source
from shared.batch import Topics
from shared.database import reader_engine, sqlite_path
from shared.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None, *, now: Callable[[], datetime] = utc_now) -> Flask:
    """The WSGI application; without `settings` they come from the environment. `now` is aware UTC.

    The database need not be there yet. Its engine is `app.extensions["engine"]`, for whoever closes the application.
    Raises SettingsError.
    """
    if settings is None:
        settings = Settings.from_environ(os.environ)
    engine = reader_engine(settings.database_url, echo=settings.sql_echo)
    readers = _readers(Source(engine, file=sqlite_path(settings.database_url)), settings, now)
    specification = docs.new_specification()
    topics = Topics(settings.mqtt_topic_prefix)
    times = RequestTimes()

    app = Flask(__name__, static_folder=None)
    app.extensions["engine"] = engine
    app.ensure_sync = _as_it_is  # type: ignore[method-assign]
    views.register(app, readers, times, specification)
    app.register_blueprint(docs.blueprint(specification, with_tokens=bool(settings.api_tokens)))
    app.register_blueprint(contract.blueprint(topics))
    app.register_blueprint(dashboard.blueprint(topics, settings.mqtt_port))
    access.register(app, settings.api_tokens)
    errors.register(app, topics)
    headers.register(app, settings.cors_origins, private=bool(settings.api_tokens), note=times.add)
    return app


def _readers(source: Source, settings: Settings, now: Callable[[], datetime]) -> views.Readers:
    names = settings.device_names
    return views.Readers(
        source,
        SummaryReader(source, device_names=names, now=now),
        HistoryReader(source, device_names=names, now=now),
        DevicesReader(
            source,
            device_names=names,
            silent_after=settings.silent_after,
            topics=Topics(settings.mqtt_topic_prefix),
            now=now,
        ),
    )


def _as_it_is(func: Callable[..., Any]) -> Callable[..., Any]:
    """No view here is async; Flask would look whether one is, twice a request."""
    return func
