"""The API with an alternative to the live page's polling: the summary as server-sent events.

For comparison only: `benchmarks.events_api:create_app()`. It checks as often for each follower as the page polls.
"""

import os
import time
from collections.abc import Iterator

from flask import Flask, Response

import emotion_api
from emotion_api.reading.reader import SummaryReader
from emotion_api.reading.source import Source
from emotion_api.summary import SummaryRequest
from shared.database import reader_engine, sqlite_path
from shared.settings import Settings

CHECK_SECONDS = 1.0


def create_app() -> Flask:
    """The application with one more address, /events/<device id>."""
    settings = Settings.from_environ(os.environ)
    source = Source(reader_engine(settings.database_url), file=sqlite_path(settings.database_url))
    reader = SummaryReader(source, device_names={})
    app = emotion_api.create_app(settings)

    @app.get("/events/<device_id>")
    def events(device_id: str) -> Response:
        return Response(_events(reader, SummaryRequest(device_id)), content_type="text/event-stream")

    return app


def _events(reader: SummaryReader, request: SummaryRequest) -> Iterator[bytes]:
    sent = ""
    while True:
        response = reader.read(request)
        if response.etag != sent:
            yield b"data: " + response.body + b"\n\n"
            sent = response.etag
        time.sleep(CHECK_SECONDS)
