"""The API as it is where every request must build its answer anew: `benchmarks.unkept_api:create_app()`."""

from flask import Flask

import emotion_api
from emotion_api.reading.cache import KeptAnswers, Question
from emotion_api.reading.response import Answer


def create_app() -> Flask:
    """The application, which finds no answer that was kept."""
    KeptAnswers.find = _nothing  # type: ignore[method-assign]
    return emotion_api.create_app()


def _nothing(self: KeptAnswers, wanted: Question) -> Answer | None:
    self._watch.look()  # what it costs to ask stays
    return None
