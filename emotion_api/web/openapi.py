"""The OpenAPI document, made from the structs, and Swagger UI and ReDoc to read it with. No internet is needed.

The pages hold no script of their own: all of it comes from files, so that the browser may be told to run nothing else.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from flask import Blueprint, Response
from spectree import Response as Responses
from spectree import SpecTree
from spectree.model_adapter import get_msgspec_model_adapter
from spectree.plugins.flask_plugin import FlaskPlugin

from emotion_api.devices import Devices
from emotion_api.history import MOST_POINTS, History
from emotion_api.summary import Summary
from emotion_api.web.auth import CHALLENGE, OPEN_VIEWS
from emotion_api.web.errors import RETRY_AFTER_SECONDS, Problem
from emotion_api.web.files import content, file, media_type, page
from emotion_api.web.parameters import DEFAULT_DEVICE_ID, MOST_LISTED
from shared.batch import DEVICE_ID, MAX_PERSON_ID

View: TypeAlias = Callable[[], Response]

SUMMARY_EXAMPLE = {
    "device_id": "jetson_1",
    "device_name": "Entrance Camera",
    "updated_at": "2025-11-14T15:30:00Z",
    "emotion_totals": {"happy": 14523.0, "sad": 3421.0, "angry": 1205.0, "neutral": 0.0},
    "current_people": [
        {
            "person_id": "1",
            "current_emotion": "happy",
            "time_happy": 145.2,
            "time_sad": 23.1,
            "time_angry": 5.3,
            "time_neutral": 0.0,
            "last_seen": "2025-11-14T15:29:55Z",
        }
    ],
}

HISTORY_EXAMPLE = {
    "device_id": "jetson_1",
    "device_name": "Entrance Camera",
    "start": "2025-11-14T12:30:00Z",
    "end": "2025-11-14T12:35:00Z",
    "step": 300,
    "points": [
        {
            "start": "2025-11-14T12:30:00Z",
            "happy": 12.0,
            "sad": 0.0,
            "angry": 0.0,
            "neutral": 3.5,
            "most_people": 2,
        }
    ],
}

CSV_EXAMPLE = "start,happy,sad,angry,neutral,most_people\r\n2025-11-14T12:30:00Z,12.0,0.0,0.0,3.5,2\r\n"

DEVICES_EXAMPLE = {
    "silent_after": 30.0,
    "devices": [
        {
            "device_id": "jetson_1",
            "device_name": "Entrance Camera",
            "online": True,
            "status": "online",
            "status_at": "2025-11-14T08:00:00Z",
            "last_batch": "2025-11-14T15:30:00Z",
            "received_at": "2025-11-14T15:30:00.100000Z",
            "people_now": 3,
            "clock_skew": -0.1,
            "rejected_last_hour": 0,
        }
    ],
}

METRICS_EXAMPLE = (
    "# HELP emotion_api_database_up 1 while the database can be read\n"
    "# TYPE emotion_api_database_up gauge\n"
    "emotion_api_database_up 1.0\n"
)

_EXAMPLES = {"summary": SUMMARY_EXAMPLE, "history": HISTORY_EXAMPLE, "devices": DEVICES_EXAMPLE}
"""By the name of the view."""

ASSETS = {
    "docs.js": ("emotion_api", "static/docs.js"),
    "docs.css": ("emotion_api", "static/docs.css"),
    "icon.svg": ("emotion_api", "static/icon.svg"),
    "swagger_bundle.js": ("offapi", "swagger_bundle.js"),
    "swagger_preset.js": ("offapi", "swagger_preset.js"),
    "swagger_style.css": ("offapi", "swagger_style.css"),
    "redoc.js": ("offapi", "redoc.js"),
}
"""What is served below /docs/assets: the name there, and the package and file that it comes from."""

# ReDoc would also fetch its maker's logo and report to its maker; this keeps both from happening.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


_TOO_LONG = "The request line is longer than 2,048 bytes: gunicorn refuses it, in HTML"
_UNAVAILABLE = "The database cannot be read: try again after Retry-After seconds"


class Health(msgspec.Struct, frozen=True):
    """All is well: with the API itself, or with what it reads from too."""

    status: Annotated[str, msgspec.Meta(examples=["ok"])]


_DeviceId = Annotated[
    str,
    msgspec.Meta(pattern=f"^{DEVICE_ID.pattern}$", min_length=1, max_length=64, description="the device, given once"),
]


class SummaryQuery(msgspec.Struct, frozen=True):
    """What to ask for."""

    device_id: _DeviceId = DEFAULT_DEVICE_ID
    fields: Annotated[
        Literal["totals"] | msgspec.UnsetType, msgspec.Meta(description="totals: the summary without current_people")
    ] = msgspec.UNSET
    seen_within: Annotated[
        Annotated[float, msgspec.Meta(gt=0)] | msgspec.UnsetType,
        msgspec.Meta(description="seconds: list only those whose last_seen is not longer ago"),
    ] = msgspec.UNSET
    limit: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=MOST_LISTED)] | msgspec.UnsetType,
        msgspec.Meta(description="list so many people at most"),
    ] = msgspec.UNSET
    after: Annotated[
        Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PERSON_ID)] | msgspec.UnsetType,
        msgspec.Meta(description="a person_id: list those who come after this person"),
    ] = msgspec.UNSET


class HistoryQuery(msgspec.Struct, frozen=True):
    """What to ask for."""

    device_id: _DeviceId = DEFAULT_DEVICE_ID
    start: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})] | msgspec.UnsetType,
        msgspec.Meta(description="ISO 8601, without an offset UTC; a day before end where it is left out"),
    ] = msgspec.UNSET
    end: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})] | msgspec.UnsetType,
        msgspec.Meta(description="ISO 8601, without an offset UTC; now where it is left out"),
    ] = msgspec.UNSET
    step: Annotated[
        Annotated[int, msgspec.Meta(ge=60, multiple_of=60)] | msgspec.UnsetType,
        msgspec.Meta(
            description=f"seconds that each point stands for, at most {MOST_POINTS:,} points; where it is left out, "
            "as short as 500 points allow"
        ),
    ] = msgspec.UNSET


class _Bystander(FlaskPlugin):
    """Lets spectree describe views without taking part in their requests: it has nothing to check."""

    def validate(self, func: View, *options: object) -> Response:
        return func()


def new_specification() -> SpecTree:
    """An empty OpenAPI document, for views to be described to."""
    return SpecTree(
        backend=_Bystander,
        mode="strict",
        annotations=False,
        title="Emotion analytics",
        version="1.0.0",
        description=(
            "How long the people in view of each camera have shown each emotion. Read-only. What cameras publish is "
            "described in [asyncapi.json](asyncapi.json) and [schemas/batch.json](schemas/batch.json)."
        ),
        model_adapter=get_msgspec_model_adapter(),
        naming_strategy=lambda model: model.__name__,
        nested_naming_strategy=lambda parent, child: child,
        validation_error_status=400,
        validation_error_model=Problem,
    )


def describe_health(specification: SpecTree, operation_id: str) -> Callable[[View], View]:
    """Describe a view that answers with Health; `operation_id` is its name."""
    decorator: Callable[[View], View] = specification.validate(
        resp=Responses(
            HTTP_200=(Health, "The API runs"),
            HTTP_400=(Problem, "Not a valid request"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
        ),
        operation_id=operation_id,
    )
    return decorator


def describe_ready(specification: SpecTree) -> Callable[[View], View]:
    """Describe a view that answers with Health where the database can be read."""
    decorator: Callable[[View], View] = specification.validate(
        resp=Responses(
            HTTP_200=(Health, "The database can be read"),
            HTTP_400=(Problem, "Not a valid request"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
            HTTP_500=(Problem, "The server failed"),
            HTTP_503=(Problem, _UNAVAILABLE),
        ),
        operation_id="ready",
    )
    return decorator


def describe_metrics(specification: SpecTree) -> Callable[[View], View]:
    """Describe a view that answers with metrics as text."""
    decorator: Callable[[View], View] = specification.validate(
        resp=Responses(
            HTTP_200=(None, "The metrics, as Prometheus reads them"),
            HTTP_400=(Problem, "Not a valid request"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
            HTTP_500=(Problem, "The server failed"),
        ),
        operation_id="metrics",
    )
    return decorator


def describe_summary(specification: SpecTree) -> Callable[[View], View]:
    """Describe a view that answers with Summary."""
    decorator: Callable[[View], View] = specification.validate(
        query=SummaryQuery,
        resp=Responses(
            HTTP_200=(Summary, "The summary"),
            HTTP_304=(None, "The summary is the one that If-None-Match names"),
            HTTP_400=(Problem, "A parameter is not valid, empty, or given more than once, or after names nobody"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
            HTTP_500=(Problem, "The server failed"),
            HTTP_503=(Problem, _UNAVAILABLE),
        ),
        operation_id="summary",
    )
    return decorator


def describe_history(specification: SpecTree) -> Callable[[View], View]:
    """Describe a view that answers with History, or its points as CSV."""
    decorator: Callable[[View], View] = specification.validate(
        query=HistoryQuery,
        resp=Responses(
            HTTP_200=(History, "The history"),
            HTTP_304=(None, "The history is the one that If-None-Match names"),
            HTTP_400=(Problem, "A parameter is not valid or given more than once, or these would be too many points"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
            HTTP_500=(Problem, "The server failed"),
            HTTP_503=(Problem, _UNAVAILABLE),
        ),
        operation_id="history",
    )
    return decorator


def describe_devices(specification: SpecTree) -> Callable[[View], View]:
    """Describe a view that answers with Devices."""
    decorator: Callable[[View], View] = specification.validate(
        resp=Responses(
            HTTP_200=(Devices, "All devices"),
            HTTP_304=(None, "The devices are as If-None-Match has them"),
            HTTP_400=(Problem, "Not a valid request"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
            HTTP_500=(Problem, "The server failed"),
            HTTP_503=(Problem, _UNAVAILABLE),
        ),
        operation_id="devices",
    )
    return decorator


def blueprint(specification: SpecTree, *, with_tokens: bool) -> Blueprint:
    """`/openapi.json`, `/docs`, `/redoc` and what the two pages load.

    `with_tokens` the document says where a bearer token is asked for, and Swagger UI has a button to enter one.
    """
    pages = Blueprint("docs", __name__)

    @cache
    def document() -> bytes:
        return msgspec.json.encode(openapi(specification, with_tokens=with_tokens))

    @pages.get("/openapi.json")
    def openapi_json() -> Response:
        return file(document(), "application/json")

    @pages.get("/docs")
    def swagger() -> Response:
        return page(content("emotion_api", "static/docs.html"), _PAGE_POLICY)

    @pages.get("/redoc")
    def redoc() -> Response:
        return page(content("emotion_api", "static/redoc.html"), _PAGE_POLICY)

    @pages.get(f"/docs/assets/<any({','.join(ASSETS)}):name>")
    def asset(name: str) -> Response:
        return file(content(*ASSETS[name]), media_type(name))

    return pages


def openapi(specification: SpecTree, *, with_tokens: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the current application."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(specification.spec))
    operations = [path["get"] for path in document["paths"].values()]
    for operation in operations:
        for status, response in operation["responses"].items():
            if status >= "400" and "content" in response:
                response["content"] = {"application/problem+json": response["content"]["application/json"]}
        operation["responses"]["414"]["content"] = {"text/html": {"schema": {"type": "string"}}}
        if "503" in operation["responses"]:
            operation["responses"]["503"]["headers"] = {
                "Retry-After": {
                    "description": "seconds",
                    "schema": {"type": "integer", "examples": [RETRY_AFTER_SECONDS]},
                }
            }
        _show_example(operation)
    if with_tokens:
        _ask_for_token(document, [operation for operation in operations if operation["operationId"] not in OPEN_VIEWS])
    return document


def _show_example(operation: dict[str, Any]) -> None:
    """An operation's id is its view's name."""
    if operation["operationId"] == "metrics":
        operation["responses"]["200"]["content"] = {
            "text/plain": {"schema": {"type": "string"}, "example": METRICS_EXAMPLE}
        }
        return
    content = operation["responses"]["200"]["content"]
    if operation["operationId"] in _EXAMPLES:
        content["application/json"]["example"] = _EXAMPLES[operation["operationId"]]
    if operation["operationId"] == "history":
        content["text/csv"] = {"schema": {"type": "string"}, "example": CSV_EXAMPLE}


def _ask_for_token(document: dict[str, Any], operations: Iterable[dict[str, Any]]) -> None:
    """Have `document` say that the operations are for whoever sends a bearer token."""
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "one of those in EMOTION_API_TOKEN"}
    }
    for operation in operations:
        operation["security"] = [{"token": []}]
        operation["responses"]["401"] = {
            "description": "No bearer token was sent, or one that is not known",
            "headers": {"WWW-Authenticate": {"schema": {"type": "string", "examples": [CHALLENGE]}}},
            "content": operation["responses"]["400"]["content"],
        }
