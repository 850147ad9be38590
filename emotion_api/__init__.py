"""The read side over HTTP: request -> authentication -> parameters -> cache or query -> JSON or CSV. It never writes.

summary     rows of one device -> the summary as JSON. Pure
history     sums of minutes -> the history as JSON or CSV. Pure
local_time  the days and steps of a time zone. Pure
overview    sums of days and hours of all devices -> the overview as JSON. Pure
devices     rows of all devices -> their list as JSON. Pure
bad_request the error for a request that is invalid
web/        views, parameters, authentication, errors, documents, pages. The only place that imports Flask
reading/    queries, the cache of responses, and outages of the database
monitoring/ the API's Prometheus metrics
static/     the live page, and what the API's documents need
"""

import os
from collections.abc import Callable
from datetime import datetime

from flask import Flask

from emotion_api.monitoring.metrics import Metrics
from emotion_api.reading.reader import DevicesReader, HistoryReader, OverviewReader, SummaryReader, utc_now
from emotion_api.reading.source import Source
from emotion_api.web import auth, errors, headers, hosts, pages, views
from shared.batch import Topics
from shared.database import reader_engine, sqlite_path
from shared.settings import Settings
from shared.zones import zone

__all__ = ["create_app"]


def create_app(settings: Settings | None = None, *, now: Callable[[], datetime] = utc_now) -> Flask:
    """The WSGI application; without `settings` they come from the environment. `now` is aware UTC.

    The database need not exist yet. Its engine is `app.extensions["engine"]`: dispose of it to close the application.
    Raises SettingsError.
    """
    if settings is None:
        settings = Settings.from_environ(os.environ)
    engine = reader_engine(settings.database_url, echo=settings.sql_echo)
    readers = _readers(Source(engine, file=sqlite_path(settings.database_url)), settings, now)
    topics, with_tokens = Topics(settings.mqtt_topic_prefix), bool(settings.api_tokens)
    metrics = Metrics()

    app = headers.Application(__name__, static_folder=None)
    app.extensions["engine"] = engine
    views.register(app, readers, metrics, site=zone(settings.time_zone))
    pages.register(
        app,
        topics,
        mqtt_port=settings.mqtt_port,
        time_zone=settings.time_zone,
        with_tokens=with_tokens,
        frame_ancestors=settings.frame_ancestors,
    )
    hosts.register(app, settings.allowed_hosts, with_tokens=with_tokens)
    auth.register(app, settings.api_tokens)
    errors.register(app, topics)
    framed = ("dashboard",) if settings.frame_ancestors else ()
    headers.register(app, settings.cors_origins, metrics, private=with_tokens, framed=framed)
    return app


def _readers(source: Source, settings: Settings, now: Callable[[], datetime]) -> views.Readers:
    names, silent_after, zone = settings.device_names, settings.silent_after, settings.time_zone
    topics = Topics(settings.mqtt_topic_prefix)
    return views.Readers(
        source,
        SummaryReader(source, device_names=names, now=now),
        HistoryReader(source, device_names=names, now=now),
        DevicesReader(source, device_names=names, silent_after=silent_after, time_zone=zone, topics=topics, now=now),
        OverviewReader(source, device_names=names, silent_after=silent_after, time_zone=zone, topics=topics, now=now),
    )
