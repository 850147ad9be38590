"""The API as it is where every request must build its answer anew: `benchmarks.uncached_api:create_app()`."""

from flask import Flask

import emotion_api
from emotion_api.reading.cache import Request, ResponseCache
from emotion_api.reading.response import CachedResponse


def create_app() -> Flask:
    """The application, which finds no answer that was kept."""
    ResponseCache.find = _nothing  # type: ignore[method-assign]
    return emotion_api.create_app()


def _nothing(self: ResponseCache, wanted: Request) -> CachedResponse | None:
    self._watch.look()  # what it costs to ask stays
    return None
