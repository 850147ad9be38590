"""The tables of docs/reference/metrics.md, from what daemon and API export."""

import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from emotion_daemon.monitoring.device_rates import Rate
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.mqtt.subscriber import broker_limits
from shared.batch import Batch
from shared.settings import Settings
from tests.documents.markdown import table
from tests.groups import committed, rejection
from tests.web import served

OPEN_LABELS = {"device_id", "view", "status"}
"""Labels whose values are not a fixed list."""


def of_the_daemon() -> str:
    """The metrics of a daemon with a broker, a device and an SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "emotion.db"
        for name in ("emotion.db", "emotion.db-wal"):
            (database.parent / name).touch()
        heartbeat = Heartbeat()
        heartbeat.broker(None)
        heartbeat.limits = broker_limits(None) | {"maximum_packet_bytes": 2**20}
        metrics = Metrics(heartbeat, database=database)
        metrics.heard_before({"jetson_1": (datetime(2025, 11, 14, tzinfo=UTC), timedelta(0))})
        metrics.device_rates = {"jetson_1": Rate(21, 1_000)}
        now = datetime(2025, 11, 14, tzinfo=UTC)
        wrong = Batch("jetson_1", now, {}, now, clock_skew=timedelta(days=-1))
        metrics.committed(committed(wrong, rejections=[rejection("emotions/jetson_1/batch", device_id="jetson_1")]))
        return _described(generate_latest(metrics.registry).decode())


def of_the_api() -> str:
    """The metrics of an API that has answered one request."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Settings(database_url=f"sqlite:///{folder}/emotion.db")) as client,
    ):
        client.get("/")
        return _described(client.get("/metrics").get_data(as_text=True))


def _described(exposition: str) -> str:
    families = [family for family in text_string_to_metric_families(exposition) if family.name.startswith("emotion_")]
    rows = [(f"`{_name(family)}`", family.type, _meaning(family)) for family in families]
    return table(("metric", "kind", "meaning"), sorted(rows))


def _name(family: Metric) -> str:
    labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
    suffix = "_total" if family.type == "counter" else ""
    return f"{family.name}{suffix}{{{','.join(labels)}}}" if labels else f"{family.name}{suffix}"


def _meaning(family: Metric) -> str:
    text = family.documentation.rstrip(".")
    for label in dict.fromkeys(label for sample in family.samples for label in sample.labels):
        if label not in OPEN_LABELS | {"le"}:
            text += f". `{label}`: {_listed(sample.labels[label] for sample in family.samples)}"
    return text


def _listed(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in dict.fromkeys(values))
