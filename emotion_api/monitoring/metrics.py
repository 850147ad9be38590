"""What Prometheus is told: how long requests took, of all workers together, and whether the database can be read.

Everybody may read it, so there is nothing of the data in it, and of a request only its view and its status.
"""

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from emotion_api.monitoring.tally import Tally

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["CONTENT_TYPE_LATEST", "FILE", "NO_VIEW", "RequestTimes"]

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0)
"""Seconds. A kept answer takes 0.1 ms; what takes longer than 1 s keeps a dashboard waiting."""

NO_VIEW = "none"
"""The view of a request that led to none: an address that does not exist, or another method."""

FILE = "API_METRICS_FILE"
"""The variable in which gunicorn.conf.py names a worker's file; the others' are in the same folder."""


class RequestTimes:
    """The times of the requests of one application; under gunicorn, of those of all its workers.

    A worker goes on in the file of one that has ended: no counter falls, and there are no more files than workers.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        file = environ.get(FILE)
        self._tally = Tally(BUCKETS, Path(file) if file else None)
        self._counts: dict[tuple[str | None, str], memoryview[float]] = {}

    def add(self, environ: "WSGIEnvironment", status: str, seconds: float) -> None:
        """Count a request of Flask's whose answer began with `status` after so many `seconds`.

        An answer is there as a whole when it begins: how long a client takes to read it says nothing of the API.
        Without a lock, as gevent changes to another request only where one waits.
        """
        request = environ["werkzeug.request"]  # there until Flask has returned
        rule = request.url_rule
        pair = rule and rule.endpoint, status
        counts = self._counts.get(pair)
        if counts is None:
            counts = self._new_counts(pair)
        counts[bisect_left(BUCKETS, seconds)] += 1.0
        counts[-1] += seconds

    def exposition(self, *, database_is_up: bool) -> bytes:
        """All of it as Prometheus reads it, which is CONTENT_TYPE_LATEST."""
        registry = CollectorRegistry()
        registry.register(_Now(self._tally, database_is_up))
        return generate_latest(registry)

    def _new_counts(self, pair: tuple[str | None, str]) -> "memoryview[float]":
        endpoint, status = pair
        return self._counts.setdefault(pair, self._tally.counts(f"{endpoint or NO_VIEW} {status.partition(' ')[0]}"))


class _Now(Collector):
    """What there is to tell at this moment."""

    def __init__(self, tally: Tally, database_is_up: bool) -> None:
        self._tally, self._database_is_up = tally, database_is_up

    def collect(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily(
            "emotion_api_request_duration_seconds",
            "From a request to the start of its answer, all workers together",
            labels=("view", "status"),
        )
        bounds = [floatToGoString(bound) for bound in (*BUCKETS, float("inf"))]  # type: ignore[no-untyped-call]
        for label, (*counts, total) in sorted(self._tally.all().items()):
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            seconds.add_metric(label.split(" "), buckets, total)
        yield seconds
        yield GaugeMetricFamily(
            "emotion_api_database_up", "1 while the database can be read", value=self._database_is_up
        )
