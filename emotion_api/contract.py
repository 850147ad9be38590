"""What devices publish, as documents: `/asyncapi.json` and `/schemas/batch.json`, for whoever writes a device."""

from functools import cache

import msgspec
from flask import Blueprint, Response

from emotion_api.files import file
from shared.batch import Topics
from shared.contract import asyncapi, batch_schema


def blueprint(topics: Topics, mqtt_port: int, *, tls: bool) -> Blueprint:
    """The two documents. `topics`, `mqtt_port` and `tls` say how the broker is reached; its host is left open."""
    documents = Blueprint("contract", __name__)

    @cache
    def description() -> bytes:
        return msgspec.json.encode(asyncapi(topics, port=mqtt_port, tls=tls))

    @cache
    def schema() -> bytes:
        return msgspec.json.encode(batch_schema())

    @documents.get("/asyncapi.json")
    def asyncapi_json() -> Response:
        return file(description(), "application/json")

    @documents.get("/schemas/batch.json")
    def batch() -> Response:
        return file(schema(), "application/schema+json")

    return documents
