"""HTTP only: parse, call, answer."""

from flask import Blueprint, Response, request
from spectree import SpecTree
from werkzeug.exceptions import BadRequest

from emotion_api import docs
from emotion_api.reader import SummaryReader
from shared.batch import DEVICE_ID

DEFAULT_DEVICE_ID = "jetson_1"

_OK = b'{"status":"ok"}'


def blueprint(reader: SummaryReader, specification: SpecTree) -> Blueprint:
    """The addresses of the API, described to `specification`."""
    views = Blueprint("views", __name__)

    @views.get("/")
    @docs.describe_health(specification)
    def health() -> Response:
        """Health

        Answers as soon as the API runs, also while its database cannot be read, and asks for no token.
        """
        return Response(_OK, content_type="application/json")

    @views.get("/readyz")
    @docs.describe_ready(specification)
    def ready() -> Response:
        """Readiness

        Answers 200 as soon as this worker can read its database, and asks for no token.
        """
        reader.check()
        return Response(_OK, content_type="application/json")

    @views.get("/api/dashboard/summary")
    @docs.describe_summary(specification)
    def summary() -> Response:
        """Summary of one device

        How long each of its people has shown each emotion. A device that nobody has heard of has no people.
        """
        answer = reader.read(_device_id())
        response = Response(answer.body, content_type="application/json")
        response.set_etag(answer.etag)
        if "If-None-Match" in request.headers:
            response.make_conditional(request)
        return response

    return views


def _device_id() -> str:
    """The query's `device_id`, or the default. Raises BadRequest."""
    given = request.args.getlist("device_id")
    if not given:
        return DEFAULT_DEVICE_ID
    if len(given) > 1:
        raise BadRequest("device_id is given more than once: ask for one device at a time.")
    if not DEVICE_ID.fullmatch(given[0]):
        raise BadRequest("device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -")
    return given[0]
