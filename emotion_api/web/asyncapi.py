"""What devices publish, as documents: `/asyncapi.json` and `/schemas/batch.json`, for whoever writes a device."""

from functools import cache

import msgspec
from flask import Blueprint, Response

from emotion_api.web.files import file
from shared.batch import Topics
from shared.contract import asyncapi, batch_schema


def blueprint(topics: Topics) -> Blueprint:
    """The two documents. How the broker is reached is left open: the API does not know it."""
    documents = Blueprint("contract", __name__)

    @cache
    def description() -> bytes:
        return msgspec.json.encode(asyncapi(topics))

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
