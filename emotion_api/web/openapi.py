"""The OpenAPI 3.1 document: the operations of operations.py, with the schemas of the structs in their responses."""

from typing import Any

import msgspec

from emotion_api.web.auth import CHALLENGE, OPEN_VIEWS
from emotion_api.web.errors import RETRY_AFTER_SECONDS, Problem
from emotion_api.web.operations import OPERATIONS, Operation

_DESCRIPTION = (
    "How long the people in view of each camera have shown each emotion. Read-only. What cameras publish is described "
    "in [asyncapi.json](asyncapi.json) and [schemas/batch.json](schemas/batch.json)."
)

_SCHEMAS = "#/components/schemas/{name}"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": _SCHEMAS.format(name=Problem.__name__)}}}

_RESPONSES: dict[int, dict[str, Any]] = {
    304: {"description": "The response is the one that If-None-Match names"},
    400: {"description": "The request is invalid", "content": _PROBLEM},
    401: {
        "description": "The request has no bearer token, or an unknown one",
        "headers": {"WWW-Authenticate": {"schema": {"type": "string", "examples": [CHALLENGE]}}},
        "content": _PROBLEM,
    },
    403: {"description": "The token is limited to other devices or views", "content": _PROBLEM},
    405: {"description": "The method is not GET, HEAD or OPTIONS", "content": _PROBLEM},
    414: {
        "description": "The request line is longer than 2,048 bytes; gunicorn answers in HTML",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
    421: {"description": "The Host header names a host that EMOTION_ALLOWED_HOSTS does not list", "content": _PROBLEM},
    500: {"description": "The server failed", "content": _PROBLEM},
    503: {
        "description": "The database cannot be read, or other long responses are being built",
        "headers": {
            "Retry-After": {
                "description": "seconds",
                "schema": {"type": "integer", "examples": [RETRY_AFTER_SECONDS]},
            }
        },
        "content": _PROBLEM,
    },
}
"""Every response but 200, by status."""


def document(*, with_tokens: bool) -> dict[str, Any]:
    """The document; `with_tokens` it says which operations require a bearer token."""
    types = [Problem, *dict.fromkeys(type_ for each in OPERATIONS for type_, _ in each.content.values())]
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS)
    for component in components.values():  # a response has every field, also one that a device may leave out
        component["required"] = list(component["properties"])
    schema_of = dict(zip(types, schemas, strict=True))
    closed = {each.view for each in OPERATIONS if with_tokens} - OPEN_VIEWS
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "servers": [{"url": ".", "description": "where this document is, also below the prefix of a proxy"}],
        "info": {"title": "Emotion analytics", "version": "1.0.0", "description": _DESCRIPTION},
        "paths": {each.path: {"get": _get(each, schema_of, with_token=each.view in closed)} for each in OPERATIONS},
        "components": {"schemas": components},
    }
    if with_tokens:
        described["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "one of those in EMOTION_API_TOKEN"}
        }
    return described


def _get(operation: Operation, schema_of: dict[type, Any], *, with_token: bool) -> dict[str, Any]:
    content = {
        media_type: {"schema": schema_of[type_], "example": example}
        for media_type, (type_, example) in operation.content.items()
    }
    statuses = sorted([400, *([401, 403] if with_token else []), 405, 414, *operation.statuses])
    responses = {str(status): _RESPONSES[status] for status in statuses}
    if operation.bad_request:
        responses["400"] = _RESPONSES[400] | {"description": operation.bad_request}
    return {
        "operationId": operation.view,
        "summary": operation.title,
        "description": operation.description,
        "parameters": operation.parameters,
        "responses": {"200": {"description": operation.success, "content": content}, **responses},
        **({"security": [{"token": []}]} if with_token else {}),
    }
