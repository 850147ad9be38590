"""The API as it is if every request must build its response anew: `benchmarks.uncached_api:create_app()`."""

from flask import Flask

import emotion_api
from emotion_api.reading.cache import Request, ResponseCache
from emotion_api.reading.response import CachedResponse


def create_app() -> Flask:
    """The application, whose cache never has a current response."""
    ResponseCache.get = _miss  # type: ignore[method-assign]
    return emotion_api.create_app()


def _miss(self: ResponseCache, request: Request) -> CachedResponse | None:
    self._changes.now(request.device_id)  # the cost of asking stays
    return None
