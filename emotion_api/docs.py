"""The OpenAPI document, made from the structs, and Swagger UI and ReDoc to read it with. No internet is needed.

The pages hold no script of their own: all of it comes from files, so that the browser may be told to run nothing else.
"""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from flask import Blueprint, Response
from spectree import Response as Responses
from spectree import SpecTree
from spectree.model_adapter import get_msgspec_model_adapter
from spectree.plugins.flask_plugin import FlaskPlugin

from emotion_api.access import CHALLENGE
from emotion_api.errors import RETRY_AFTER_SECONDS, Problem
from emotion_api.files import content, file, media_type, page
from emotion_api.summary import Summary
from shared.batch import DEVICE_ID

View: TypeAlias = Callable[[], Response]

EXAMPLE = {
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


class SummaryQuery(msgspec.Struct, frozen=True):
    """What to ask for."""

    device_id: Annotated[
        str,
        msgspec.Meta(
            pattern=f"^{DEVICE_ID.pattern}$", min_length=1, max_length=64, description="the device, given once"
        ),
    ] = "jetson_1"
    fields: Annotated[
        Literal["totals"] | msgspec.UnsetType, msgspec.Meta(description="totals: the summary without current_people")
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
        description="How long the people in view of each camera have shown each emotion. Read-only.",
        model_adapter=get_msgspec_model_adapter(),
        naming_strategy=lambda model: model.__name__,
        nested_naming_strategy=lambda parent, child: child,
        validation_error_status=400,
        validation_error_model=Problem,
    )


def describe_health(specification: SpecTree) -> Callable[[View], View]:
    """Describe a view that answers with Health."""
    decorator: Callable[[View], View] = specification.validate(
        resp=Responses(
            HTTP_200=(Health, "The API runs"),
            HTTP_400=(Problem, "Not a valid request"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
        ),
        operation_id="health",
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


def describe_summary(specification: SpecTree) -> Callable[[View], View]:
    """Describe a view that answers with Summary."""
    decorator: Callable[[View], View] = specification.validate(
        query=SummaryQuery,
        resp=Responses(
            HTTP_200=(Summary, "The summary"),
            HTTP_304=(None, "The summary is the one that If-None-Match names"),
            HTTP_400=(Problem, "device_id or fields is not valid, empty, or given more than once"),
            HTTP_405=(Problem, "A method that is not GET, HEAD or OPTIONS"),
            HTTP_414=(None, _TOO_LONG),
            HTTP_500=(Problem, "The server failed"),
            HTTP_503=(Problem, _UNAVAILABLE),
        ),
        operation_id="summary",
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
    summary = document["paths"]["/api/dashboard/summary"]["get"]
    summary["responses"]["200"]["content"]["application/json"]["example"] = EXAMPLE
    if with_tokens:
        _ask_for_token(document, summary)
    return document


def _ask_for_token(document: dict[str, Any], operation: dict[str, Any]) -> None:
    """Have `document` say that `operation` is for whoever sends a bearer token."""
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "one of those in EMOTION_API_TOKEN"}
    }
    operation["security"] = [{"token": []}]
    operation["responses"]["401"] = {
        "description": "No bearer token was sent, or one that is not known",
        "headers": {"WWW-Authenticate": {"schema": {"type": "string", "examples": [CHALLENGE]}}},
        "content": operation["responses"]["400"]["content"],
    }
