"""The API below a prefix, as a proxy may have it: `gunicorn 'tests.browser.prefixed:create_app()'`."""

from typing import TYPE_CHECKING

from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Request, Response

import emotion_api

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

PREFIX = "/site/emotions"


def create_app() -> "WSGIApplication":
    return DispatcherMiddleware(_site, {PREFIX: emotion_api.create_app()})


@Request.application
def _site(request: Request) -> Response:
    """Answer requests outside the prefix: a page of another site, and nothing that the live page may request."""
    return Response(status=200 if request.path == "/" else 404)
