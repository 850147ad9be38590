"""The daemon's Prometheus metrics. They contain ids of devices, but of people only numbers.

The daemon's thread counts once a group, not once a message. `collect` runs in a thread of the HTTP server and reads the
present state. docs/reference/metrics.md describes each metric.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emotion_daemon.monitoring.device_rates import Rate
from emotion_daemon.monitoring.disk import DiskUsage, Sizes
from emotion_daemon.monitoring.group import Group
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.outage import OutageKind
from emotion_daemon.rules.history import ROUNDING
from shared.batch import InvalidPart

disable_created_metrics()  # type: ignore[no-untyped-call] # they would double the series, and only say when the process started

MOST_DEVICES = 5_000
"""Most devices with metrics of their own: more would make a page of a megabyte, and Prometheus slow."""

OUTAGE_KINDS: tuple[OutageKind, ...] = get_args(OutageKind)
INVALID_PARTS: tuple[InvalidPart, ...] = get_args(InvalidPart)

PRUNED = ("person_emotion", "emotion_minute", "rejected_message", "forgotten_person")
"""The tables from which Retention deletes."""

POSTS = ("accepted", "failed", "dropped")
"""The results of a post: the receiver accepts the alert, does not accept it yet, or the alert waited too long."""

BROKER_LIMITS = {
    "receive_maximum_messages": "How many messages the broker accepts before it acknowledges one",
    "maximum_packet_bytes": "The largest packet that the broker accepts",
    "maximum_qos": "The highest QoS that the broker grants",
    "session_expiry_seconds": "How long the broker keeps the session after a connection; 4294967295 means forever",
    "keepalive_seconds": "How long the broker lets the daemon be silent",
    "retain_available": "1 if the broker stores retained messages",
}
"""The limits in the broker's newest CONNACK, with their help: see `subscriber.broker_limits`."""

_COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


Heard = tuple[datetime, timedelta]
"""Time of receipt of a device's last batch, and by how much the device's clock was ahead of the daemon's."""


class Metrics(Collector):
    """Counts what the daemon does. `registry` is what Prometheus gets.

    `database` is an SQLite file, whose size and disk are measured. `waiting` returns how many messages the subscriber
    holds for the next group.
    """

    def __init__(
        self, heartbeat: Heartbeat, *, database: Path | None = None, waiting: Callable[[], int] = lambda: 0
    ) -> None:
        self.registry = CollectorRegistry()
        self._heartbeat = heartbeat
        self._disk = None if database is None else DiskUsage(database)
        self.waiting = waiting
        self.in_hand = 0
        """Number of messages in the present group."""
        self.device_rates: Mapping[str, Rate] = {}
        """The devices above the limit. The loop replaces the whole mapping, because other threads read it."""
        self._heard: dict[str, Heard] = {}
        self._rejected_of: dict[str, int] = {}
        self._restamped_of: dict[str, int] = {}
        self._started_at = time.time()
        self._failing: OutageKind | None = None
        messages = self._counter("messages", "Messages that were stored or recorded", "result")
        self._batches, self._statuses, self._invalid = map(messages.labels, ("batch", "status", "rejected"))
        self._rejected = self._counter("rejected_messages", "Invalid messages", "reason")
        self._omitted = self._counter("omitted_dead_letters", "Invalid messages beyond the quota of their topic")
        self._people = self._counter("people", "People in valid batches")
        self._commits = self._counter("commits", "Groups of messages that were committed")
        self._failures = self._counter("commit_failures", "Attempts to commit that failed", "reason")
        self._implausible = self._counter(
            "implausible_seconds", "Reported seconds that exceed the time that passed; the history omits them"
        )
        self._restamped = self._counter(
            "restamped_batches", "Batches with an impossible timestamp, which was replaced by the time of receipt"
        )
        self._suppressed = self._counter("suppressed_people", "Erased people that the daemon left out of batches")
        self._pruned = self._counter("pruned_rows", "Rows that retention deleted for their age", "table")
        self._posts = self._counter(
            "webhook_posts", "Alerts that the daemon posted to the webhook, or dropped", "result"
        )
        self._commit_seconds = Histogram(
            "emotion_commit_duration_seconds",
            "Seconds from the start of a group's transaction to the end of its commit",
            buckets=_COMMIT_SECONDS,
            registry=self.registry,
        )
        for counter, labels in (
            (self._rejected, INVALID_PARTS),
            (self._failures, OUTAGE_KINDS),
            (self._pruned, PRUNED),
            (self._posts, POSTS),
        ):
            for label in labels:
                counter.labels(label)  # a series that exists from the start has a rate
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    @property
    def waiting_messages(self) -> int:
        """Return the number of messages that the daemon holds and has not committed."""
        return self.waiting() + self.in_hand

    def heard_before(self, devices: Mapping[str, Heard]) -> None:
        """Take over when devices were heard before this process began."""
        for device_id, heard in devices.items():
            if len(self._heard) < MOST_DEVICES:
                self._heard.setdefault(device_id, heard)

    def committed(self, group: Group) -> None:
        """Count a committed group."""
        folded = group.folded
        self._failing = None
        self._commits.inc()
        self._commit_seconds.observe(group.seconds)
        self._batches.inc(len(group.batches))
        self._people.inc(group.people)
        self._statuses.inc(group.statuses)
        self._invalid.inc(len(group.rejected))
        self._omitted.inc(group.omitted)
        self._suppressed.inc(folded.suppressed)
        for rejection in group.rejected:
            self._rejected.labels(rejection.kind).inc()
            if rejection.device_id is not None:
                _count_one(self._rejected_of, rejection.device_id)
        for batch in group.batches:
            if batch.clock_skew is not None:
                self._restamped.inc()
                _count_one(self._restamped_of, batch.device_id)
        for seconds in folded.capped.values():
            if seconds > ROUNDING:
                self._implausible.inc(seconds)
        for batch, _ in folded.heard.values():
            if batch.received_at is not None and (batch.device_id in self._heard or len(self._heard) < MOST_DEVICES):
                ahead = batch.timestamp - batch.received_at if batch.clock_skew is None else batch.clock_skew
                self._heard[batch.device_id] = batch.received_at, ahead

    def commit_failed(self, kind: OutageKind) -> None:
        """Count an attempt to commit that failed in an outage of this kind."""
        self._failures.labels(kind).inc()

    def database_failed(self, kind: OutageKind) -> None:
        """An outage of this kind lasts until `committed` or `database_answers`."""
        self._failing = kind

    def database_answers(self) -> None:
        """The outage of the database is over."""
        self._failing = None

    def pruned(self, table: str, rows: int) -> None:
        """Count rows that retention deleted."""
        self._pruned.labels(table).inc(rows)

    def posted(self, result: str) -> None:
        """Count an alert for the webhook, by its result: one of POSTS."""
        self._posts.labels(result).inc()

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"emotion_{name}", what, labels, registry=self.registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that are read at the moment when Prometheus asks."""
        heartbeat = self._heartbeat
        # prometheus_client's process_start_time_seconds is missing if /proc has no stat. The loop has an age and no
        # timestamp, so that a Prometheus with another clock is not misled.
        yield _gauge("start_timestamp_seconds", "When the daemon started", self._started_at)
        age = max(0.0, time.monotonic() - heartbeat.beaten_at)
        yield _gauge("loop_age_seconds", "Seconds since the daemon's loop turned last", age)
        yield _gauge("database_wait_seconds", "Seconds that one commit or query has lasted until now", heartbeat.waited)
        yield _gauge("waiting_messages", "Messages that the daemon holds and has not committed", self.waiting_messages)
        if heartbeat.subscribed is not None:
            yield _gauge("broker_connected", "1 while the broker has confirmed the subscription", heartbeat.subscribed)
        yield CounterMetricFamily(
            "emotion_broker_reconnects", "How often the daemon has subscribed again", value=heartbeat.reconnects
        )
        for limit, value in heartbeat.limits.items():
            yield _gauge(f"broker_{limit}", BROKER_LIMITS[limit], value)
        failing = _labelled("database_failing", "1 while commits fail for this reason, or would fail", "reason")
        for kind in OUTAGE_KINDS:
            failing.add_metric([kind], kind == self._failing)
        yield failing
        yield from self._collect_devices()
        if self._disk is not None:
            yield from _sizes(self._disk.sizes())

    def _collect_devices(self) -> Iterator[Metric]:
        last = _labelled("device_last_batch_timestamp_seconds", "When the device's last batch arrived", "device_id")
        skew = _labelled(
            "device_clock_skew_seconds", "Seconds that the device's clock was ahead at its last batch", "device_id"
        )
        for device_id, (received_at, ahead) in list(self._heard.items()):
            last.add_metric([device_id], received_at.timestamp())
            skew.add_metric([device_id], ahead.total_seconds())
        yield from (last, skew)
        messages = _labelled(
            "device_messages_per_second", "Messages a second of a device above its limit, until 30 s later", "device_id"
        )
        size = _labelled(
            "device_bytes_per_second", "Bytes a second of a device above its limit, until 30 s later", "device_id"
        )
        for device_id, rate in self.device_rates.items():
            messages.add_metric([device_id], rate.messages)
            size.add_metric([device_id], rate.bytes)
        yield from (messages, size)
        yield _of_devices("rejected_messages", "Invalid messages on the device's topics", self._rejected_of)
        yield _of_devices("restamped_batches", "Batches of the device with an impossible timestamp", self._restamped_of)


def _count_one(counts: dict[str, int], device_id: str) -> None:
    if device_id in counts or len(counts) < MOST_DEVICES:
        counts[device_id] = counts.get(device_id, 0) + 1


def _of_devices(name: str, what: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"emotion_device_{name}", what, labels=["device_id"])
    for device_id, count in list(counts.items()):
        family.add_metric([device_id], count)
    return family


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"emotion_{name}", what, value=value)


def _labelled(name: str, what: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"emotion_{name}", what, labels=[label])


def _sizes(known: Sizes) -> Iterator[Metric]:
    """Yield the sizes that are known."""
    for name, what, value in (
        ("database_bytes", "Size of the SQLite file", known.database),
        ("database_wal_bytes", "Size of the SQLite file's -wal file", known.wal),
        ("database_disk_free_bytes", "Free bytes on the database's disk for the daemon's user", known.free),
        ("database_disk_bytes", "Size of the database's disk, without the space reserved for root", known.disk),
    ):
        if value is not None:
            yield _gauge(name, what, value)
