"""The API's Prometheus metrics: request durations of all workers, and whether the database can be read.

/metrics asks for no token. So it tells nothing of the data, and of a request only its view and its status.
"""

import os
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, Histogram, disable_created_metrics, generate_latest, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE_LATEST", "NO_VIEW", "WORKER", "Metrics"]

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0)
"""Seconds. A cached response takes 0.1 ms; a response after more than 1 s keeps a dashboard waiting."""

NO_VIEW = "none"
"""The view of a request that led to none: an address that does not exist, or another method."""

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's variable for the folder of the workers' counts, which gunicorn.conf.py makes."""

WORKER = "API_WORKER"
"""The variable in which gunicorn.conf.py gives a worker its number: the lowest that no running worker has."""

disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one application; under gunicorn /metrics adds up those of all workers."""

    def __init__(self) -> None:
        folder, worker = os.environ.get(FOLDER), os.environ.get(WORKER)
        if folder and worker:
            # With a file for each process id, as is the default, every worker that ended would leave one.
            values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]
        self._durations = Histogram(
            "emotion_api_request_duration_seconds",
            "From a request to the start of its response, all workers together",
            ("view", "status"),
            buckets=BUCKETS,
            registry=None,
        )
        self._requests: Collector = self._durations
        if folder and worker:
            self._requests = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]

    def observe(self, view: str | None, status: str, seconds: float) -> None:
        """Count a request whose response began after so many `seconds`.

        The response is complete when it begins: how long a client takes to read it says nothing about the API.
        """
        self._durations.labels(view or NO_VIEW, status).observe(seconds)

    def exposition(self, *, database_is_up: bool, standby_lag: float | None = None) -> bytes:
        """The metrics as Prometheus reads them, which is CONTENT_TYPE_LATEST. `standby_lag`: see reading/source.py."""
        return generate_latest(_Scrape(self._requests, database_is_up, standby_lag))


class _Scrape(Collector):
    """The request durations, and the state of the database at this moment."""

    def __init__(self, requests: Collector, database_is_up: bool, standby_lag: float | None) -> None:
        self._requests, self._database_is_up, self._standby_lag = requests, database_is_up, standby_lag

    def collect(self) -> Iterator[Metric]:
        yield from self._requests.collect()
        yield GaugeMetricFamily(
            "emotion_api_database_up", "1 while the database can be read", value=self._database_is_up
        )
        if self._standby_lag is not None:
            yield GaugeMetricFamily(
                "emotion_api_standby_lag_seconds",
                "Seconds since the newest transaction that the PostgreSQL standby has replayed",
                value=self._standby_lag,
            )
