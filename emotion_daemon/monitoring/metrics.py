"""What Prometheus reads of the daemon. Of devices it has ids, of people only numbers.

The daemon's thread counts, once a group and not once a message; `collect` runs in the thread that answers, and looks at
what is true at that moment. docs/OPERATING.md says what the figures are for.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emotion_daemon.monitoring.disk import DiskLook, Sizes
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.rules.history import ROUNDING
from shared.batch import Batch

disable_created_metrics()  # type: ignore[no-untyped-call] # each counter would be told twice, once with the time of the process's start

MOST_DEVICES = 5_000
"""How many devices have figures of their own: more would make a page of a megabyte, and Prometheus slow."""

TROUBLES = ("locked", "full", "unreadable", "unreachable", "other")
"""Why a commit may fail: see `store.trouble_kind`."""

REJECTED = ("json", "batch", "device_id", "topic", "timestamp", "person_id", "status", "retained", "database")
"""Why a message may be rejected: see `shared.batch.DecodeError`."""

PRUNED = ("person_emotion", "emotion_minute", "rejected_message", "forgotten_person")
"""The tables that a retention counts for."""

_COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


Heard = tuple[datetime, timedelta]
"""When a device's last batch arrived, by the daemon's clock, and how far the device's own was ahead of it."""


class Metrics:
    """Counts what the daemon does. `registry` is what is to be shown.

    `database` is the file of an SQLite database, whose size and disk are looked at; `waiting` says how many messages
    are here and not stored yet.
    """

    def __init__(
        self, heartbeat: Heartbeat, *, database: Path | None = None, waiting: Callable[[], int] = lambda: 0
    ) -> None:
        self.registry = CollectorRegistry()
        self._heartbeat = heartbeat
        self._disk = None if database is None else DiskLook(database)
        self.waiting = waiting
        self.in_hand = 0
        """How many messages are being stored."""
        self._heard: dict[str, Heard] = {}
        self._rejected_of: dict[str, int] = {}
        self._restamped_of: dict[str, int] = {}
        self._started_at = time.time()
        self._failing: str | None = None
        self._messages = self._counter("messages", "Messages that were stored or recorded", "result")
        self._rejected = self._counter("rejected_messages", "Messages that were no valid batch or status", "reason")
        self._people = self._counter("people", "People in valid batches")
        self._groups = self._counter("groups", "Groups of messages that were committed")
        self._failures = self._counter("commit_failures", "Attempts to commit that failed", "reason")
        self._implausible = self._counter(
            "implausible_seconds", "Seconds that were reported and cannot have been shown; the history leaves them out"
        )
        self._restamped = self._counter(
            "restamped_batches", "Batches with an impossible timestamp, which got the time of arrival instead"
        )
        self._left_out = self._counter("left_out_people", "People in batches whom an operator had erased")
        self._pruned = self._counter("pruned_rows", "Rows that were older than the retention allows", "table")
        self._commit_seconds = Histogram(
            "emotion_commit_duration_seconds",
            "Seconds that a group took from the begin of its transaction to the end of its commit",
            buckets=_COMMIT_SECONDS,
            registry=self.registry,
        )
        for result in ("batch", "status", "rejected"):  # a series that is there from the start has a rate
            self._messages.labels(result)
        for reason in REJECTED:
            self._rejected.labels(reason)
        for trouble in TROUBLES:
            self._failures.labels(trouble)
        for table in PRUNED:
            self._pruned.labels(table)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Now(self._collect))

    def heard_before(self, devices: Mapping[str, Heard]) -> None:
        """When devices were heard before this process began."""
        for device_id, heard in devices.items():
            if len(self._heard) < MOST_DEVICES:
                self._heard.setdefault(device_id, heard)

    def committed(self, batches: list[Batch], *, statuses: int, heard: Iterable[Batch], seconds: float) -> None:
        """A group was committed in so many seconds; what was rejected of it is told apart."""
        self._failing = None
        self._groups.inc()
        self._commit_seconds.observe(seconds)
        if batches:
            self._messages.labels("batch").inc(len(batches))
            self._people.inc(sum(len(batch.people) for batch in batches))
            restamped = [batch.device_id for batch in batches if batch.clock_skew is not None]
            if restamped:
                self._restamped.inc(len(restamped))
                for device_id in restamped:
                    _count_one(self._restamped_of, device_id)
        if statuses:
            self._messages.labels("status").inc(statuses)
        for batch in heard:
            if batch.received_at is not None and (batch.device_id in self._heard or len(self._heard) < MOST_DEVICES):
                ahead = batch.timestamp - batch.received_at if batch.clock_skew is None else batch.clock_skew
                self._heard[batch.device_id] = batch.received_at, ahead

    def rejected(self, reason: str, device_id: str | None) -> None:
        """A message was recorded as rejected; `device_id` is whose topic it came on, if that is one's."""
        self._messages.labels("rejected").inc()
        self._rejected.labels(reason).inc()
        if device_id is not None:
            _count_one(self._rejected_of, device_id)

    def commit_failed(self, trouble: str) -> None:
        """An attempt to commit failed, for one of TROUBLES; until the next that succeeds it is what is in the way."""
        self.database_fails(trouble)
        self._failures.labels(trouble).inc()

    def database_fails(self, trouble: str) -> None:
        """One of TROUBLES is in the way of the database, until a commit succeeds or `database_answers`."""
        self._failing = trouble

    def database_answers(self) -> None:
        """What was in the way of the database is not any more."""
        self._failing = None

    def implausible(self, seconds: float) -> None:
        """So many seconds were reported that cannot have been shown."""
        if seconds > ROUNDING:
            self._implausible.inc(seconds)

    def left_out(self, people: int) -> None:
        """So many people were left out of a group, because an operator had them erased."""
        self._left_out.inc(people)

    def pruned(self, table: str, rows: int) -> None:
        """So many rows were older than the retention allows."""
        self._pruned.labels(table).inc(rows)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"emotion_{name}", what, labels, registry=self.registry)

    def _collect(self) -> Iterator[Metric]:
        heartbeat = self._heartbeat
        # Ours, as process_start_time_seconds is missing where /proc has no stat. The loop has an age and no time: so a
        # Prometheus with another clock is not misled.
        yield _gauge("start_timestamp_seconds", "When the daemon started", self._started_at)
        age = max(0.0, time.monotonic() - heartbeat.beaten_at)
        yield _gauge("loop_age_seconds", "Seconds since the daemon's loop turned last", age)
        yield _gauge("waiting_messages", "Messages that are here and not stored yet", self.waiting() + self.in_hand)
        if heartbeat.subscribed is not None:
            yield _gauge("broker_connected", "1 while the broker has confirmed the subscription", heartbeat.subscribed)
        reconnects = CounterMetricFamily("emotion_broker_reconnects", "How many times the broker was lost and found")
        reconnects.add_metric([], heartbeat.reconnects)
        yield reconnects
        if heartbeat.limits:
            limits = _Labelled("broker_limit", "What the broker said of itself at the newest connection", "limit")
            for limit, value in heartbeat.limits.items():
                limits.add_metric([limit], value)
            yield limits
        failing = _Labelled("database_failing", "1 while commits fail for this reason, or would", "reason")
        for trouble in TROUBLES:
            failing.add_metric([trouble], trouble == self._failing)
        yield failing
        yield from self._collect_devices()
        if self._disk is not None:
            yield from _told_sizes(self._disk.sizes())

    def _collect_devices(self) -> Iterator[Metric]:
        last = _Labelled("device_last_batch_timestamp_seconds", "When a batch of the device arrived last", "device_id")
        skew = _Labelled(
            "device_clock_skew_seconds", "Seconds that the device's clock was ahead of the arrival then", "device_id"
        )
        for device_id, (received_at, ahead) in list(self._heard.items()):
            last.add_metric([device_id], received_at.timestamp())
            skew.add_metric([device_id], ahead.total_seconds())
        yield from (last, skew)
        yield _of_devices("rejected_messages", "Messages on the device's topics that were rejected", self._rejected_of)
        yield _of_devices("restamped_batches", "Batches of the device with an impossible timestamp", self._restamped_of)


class _Now(Collector):
    """What is looked at when somebody asks."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


class _Labelled(GaugeMetricFamily):
    def __init__(self, name: str, what: str, label: str) -> None:
        super().__init__(f"emotion_{name}", what, labels=[label])


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


def _told_sizes(sizes: Sizes) -> Iterator[Metric]:
    """Without those that nobody knows."""
    for name, what, value in (
        ("database_bytes", "Size of the SQLite file", sizes.database),
        ("database_wal_bytes", "Size of its -wal file", sizes.wal),
        ("database_disk_free_bytes", "Room on the database's disk for the daemon's user", sizes.free),
        ("database_disk_bytes", "Size of the database's disk, as far as this user may fill it", sizes.disk),
    ):
        if value is not None:
            yield _gauge(name, what, value)
