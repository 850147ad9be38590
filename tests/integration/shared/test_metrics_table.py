"""The table of metrics in docs/OPERATING.md beside what daemon and API really export."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.mqtt.subscriber import broker_limits
from shared.batch import Batch
from shared.settings import Settings
from tests.groups import committed, rejection
from tests.processes import ROOT
from tests.web import served

ROW = re.compile(r"^\| `(emotion_\w+)(?:\{(\w+(?:,\w+)*)\})?` \| (counter|gauge|histogram) \| .+ \|$", re.MULTILINE)

Described = dict[str, tuple[str, set[str]]]
"""Kind and labels by name."""


def described() -> Described:
    rows = ROW.findall((ROOT / "docs" / "OPERATING.md").read_text(encoding="utf-8"))
    assert len(rows) == len({name for name, _, _ in rows})
    return {name: (kind, set(labels.split(",")) - {""}) for name, labels, kind in rows}


def exported(text: str) -> Described:
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("emotion_")
    }


def of_the_daemon(folder: Path) -> str:
    """All metrics of a daemon with a broker, a device and an SQLite file."""
    database = folder / "emotion.db"
    for name in ("emotion.db", "emotion.db-wal"):
        (folder / name).touch()
    heartbeat = Heartbeat()
    heartbeat.broker(None)
    heartbeat.limits = broker_limits(None) | {"maximum_packet_bytes": 2**20}
    metrics = Metrics(heartbeat, database=database)
    metrics.heard_before({"jetson_1": (datetime(2025, 11, 14, tzinfo=UTC), timedelta(0))})
    now = datetime(2025, 11, 14, tzinfo=UTC)
    wrong = Batch("jetson_1", now, {}, now, clock_skew=timedelta(days=-1))
    metrics.committed(committed(wrong, rejections=[rejection("emotions/jetson_1/batch", device_id="jetson_1")]))
    return generate_latest(metrics.registry).decode()


def of_the_api(sqlite_url: str) -> str:
    with served(Settings(database_url=sqlite_url)) as client:
        client.get("/")
        return client.get("/metrics").get_data(as_text=True)


def test_every_metric_is_described_and_every_one_that_is_described_is_there(tmp_path: Path, sqlite_url: str) -> None:
    assert described() == exported(of_the_daemon(tmp_path)) | exported(of_the_api(sqlite_url))
