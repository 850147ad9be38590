"""The daemon's metrics as Prometheus reads them: the present state, the counters, and their bounds."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from prometheus_client import generate_latest

from emotion_daemon.monitoring import disk
from emotion_daemon.monitoring import metrics as module
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from shared.batch import Batch, Cumulative
from tests.groups import committed, rejection
from tests.waiting import wait_until

NOON = datetime(2025, 11, 14, 12, tzinfo=UTC)


def samples(metrics: Metrics) -> dict[str, float]:
    """Each series with its value, and without emotion_ before its name."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    pairs = (line.removeprefix("emotion_").rsplit(" ", 1) for line in lines if line.startswith("emotion_"))
    return {name: float(value) for name, value in pairs}


def batch(device_id: str, *, late: float = 0.5, clock_skew: timedelta | None = None) -> Batch:
    return Batch(device_id, NOON, {"anna": Cumulative()}, NOON + timedelta(seconds=late), clock_skew)


def told(metrics: Metrics, *batches: Batch) -> dict[str, float]:
    metrics.committed(committed(*batches))
    return samples(metrics)


class TestBroker:
    def test_nothing_is_said_before_the_broker_was_asked(self) -> None:
        assert "broker_connected" not in samples(Metrics(Heartbeat()))

    @pytest.mark.parametrize(("outage", "connected"), [(None, 1), ("lost the broker", 0)])
    def test_then_whether_it_is_connected(self, outage: str | None, connected: int) -> None:
        heartbeat = Heartbeat()
        heartbeat.broker(outage)

        assert samples(Metrics(heartbeat))["broker_connected"] == connected

    def test_and_how_often_it_was_lost_and_found(self) -> None:
        heartbeat = Heartbeat()
        for outage in (None, "lost", None, "lost", "lost", None):
            heartbeat.broker(outage)

        assert samples(Metrics(heartbeat))["broker_reconnects_total"] == 2

    def test_and_what_it_said_of_its_limits(self) -> None:
        heartbeat = Heartbeat()
        before = {name for name in samples(Metrics(heartbeat)) if name.startswith("broker_")}
        heartbeat.limits = {"maximum_qos": 1, "receive_maximum_messages": 20}
        found = samples(Metrics(heartbeat))

        assert before == {"broker_reconnects_total"}
        assert (found["broker_maximum_qos"], found["broker_receive_maximum_messages"]) == (1, 20)


class TestLoop:
    def test_its_last_turn_has_an_age_and_the_start_a_time(self) -> None:
        """The age does not depend on the clock, and neither comes from /proc, which may be closed."""
        heartbeat = Heartbeat()
        heartbeat.beat(now=time.monotonic() - 100)
        found = samples(Metrics(heartbeat))

        assert found["loop_age_seconds"] == pytest.approx(100, abs=5)
        assert found["start_timestamp_seconds"] == pytest.approx(time.time(), abs=5)

    def test_messages_that_the_subscriber_holds_are_counted(self) -> None:
        assert samples(Metrics(Heartbeat(), waiting=lambda: 7))["waiting_messages"] == 7


class TestDatabase:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "emotion.db"

    def test_sizes_are_those_of_the_files(self, file: Path) -> None:
        file.write_bytes(bytes(4096))
        Path(f"{file}-wal").write_bytes(bytes(32))
        found = samples(Metrics(Heartbeat(), database=file))

        assert (found["database_bytes"], found["database_wal_bytes"]) == (4096, 32)

    def test_a_link_is_followed_as_sqlite_does(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        real = tmp_path / "there" / "real.db"
        real.write_bytes(bytes(4096))
        Path(f"{real}-wal").write_bytes(bytes(32))
        file.symlink_to(real)

        assert samples(Metrics(Heartbeat(), database=file))["database_wal_bytes"] == 32

    def test_a_file_that_is_not_there_has_no_size_and_its_disk_is_there(self, file: Path) -> None:
        found = samples(Metrics(Heartbeat(), database=file))

        assert "database_bytes" not in found
        assert found["database_disk_free_bytes"] > 0

    def test_the_disk_is_as_df_shows_it(self, file: Path) -> None:
        room = os.statvfs(file.parent)
        found = samples(Metrics(Heartbeat(), database=file))

        assert found["database_disk_free_bytes"] == pytest.approx(room.f_bavail * room.f_frsize, rel=0.1)
        assert found["database_disk_free_bytes"] < found["database_disk_bytes"] <= room.f_blocks * room.f_frsize

    def test_a_disk_that_hangs_holds_up_nobody_and_has_no_figures(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(disk, "PATIENCE_SECONDS", 0.05)
        goes_on, real = Event(), os.statvfs
        monkeypatch.setattr(os, "statvfs", lambda folder: goes_on.wait(60) and real(folder))
        metrics = Metrics(Heartbeat(), database=file)
        threads = threading.active_count()

        for _ in range(3):
            found = samples(metrics)
            assert found["loop_age_seconds"] < 5
            assert not [name for name in found if name.startswith("database_disk")]
        assert threading.active_count() == threads + 1

        goes_on.set()
        wait_until(lambda: "database_disk_bytes" in samples(metrics), what="the disk has its figures again")

    def test_a_folder_that_is_gone_is_no_error(self, tmp_path: Path) -> None:
        found = samples(Metrics(Heartbeat(), database=tmp_path / "gone" / "emotion.db"))

        assert not [name for name in found if name.startswith("database_disk")]

    def test_a_database_elsewhere_has_none_of_these(self) -> None:
        assert not [name for name in samples(Metrics(Heartbeat())) if "bytes" in name]

    def test_only_the_newest_kind_of_outage_counts(self) -> None:
        metrics = Metrics(Heartbeat())
        metrics.database_failed("locked")
        metrics.database_failed("full")
        failing = {name for name, value in samples(metrics).items() if name.startswith("database_failing") and value}
        metrics.database_answers()

        assert failing == {'database_failing{reason="full"}'}
        assert samples(metrics)['database_failing{reason="full"}'] == 0


class TestDevices:
    def test_a_device_has_the_time_of_its_arrival_and_its_skew(self) -> None:
        found = told(Metrics(Heartbeat()), batch("jetson_1", late=0.5))

        assert found['device_last_batch_timestamp_seconds{device_id="jetson_1"}'] == NOON.timestamp() + 0.5
        assert found['device_clock_skew_seconds{device_id="jetson_1"}'] == -0.5

    def test_what_was_known_before_counts_until_something_newer_comes(self) -> None:
        metrics = Metrics(Heartbeat())
        metrics.heard_before({"old": (NOON, timedelta(0)), "jetson_1": (NOON, timedelta(0))})
        told(metrics, batch("jetson_1", late=9))
        metrics.heard_before({"jetson_1": (NOON, timedelta(0))})
        found = samples(metrics)

        assert found['device_last_batch_timestamp_seconds{device_id="old"}'] == NOON.timestamp()
        assert found['device_last_batch_timestamp_seconds{device_id="jetson_1"}'] == NOON.timestamp() + 9

    def test_whose_stamps_are_impossible_is_counted(self) -> None:
        year = timedelta(days=-365)
        found = told(Metrics(Heartbeat()), batch("jetson_1", clock_skew=year), batch("jetson_1"), batch("jetson_2"))

        assert found['device_restamped_batches_total{device_id="jetson_1"}'] == 1
        assert 'device_restamped_batches_total{device_id="jetson_2"}' not in found

    def test_there_are_only_so_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_DEVICES", 3)
        metrics = Metrics(Heartbeat())
        metrics.heard_before({f"before_{number}": (NOON, timedelta(0)) for number in range(2)})
        found = told(metrics, *(batch(f"jetson_{number}") for number in range(4)))
        for number in range(5):
            metrics.committed(committed(rejections=[rejection("a topic", device_id=f"jetson_{number}")]))
            told(metrics, batch(f"jetson_{number}", clock_skew=timedelta(days=-365)))
        found = told(metrics, batch("jetson_0", late=7)) | samples(metrics)

        assert sum("device_last_batch" in name for name in found) == 3
        assert sum("device_rejected" in name for name in found) == 3
        assert sum("device_restamped" in name for name in found) == 3
        assert found['device_last_batch_timestamp_seconds{device_id="jetson_0"}'] == NOON.timestamp() + 7
        assert found['rejected_messages_total{reason="json"}'] == 5


def test_every_counter_is_zero_from_the_start() -> None:
    found = samples(Metrics(Heartbeat()))

    assert {name for name in found if name.startswith(("messages_total", "pruned_rows_total", "database_failing"))} == {
        *(f'messages_total{{result="{result}"}}' for result in ("batch", "status", "rejected")),
        *(f'pruned_rows_total{{table="{table}"}}' for table in module.PRUNED),
        *(f'database_failing{{reason="{reason}"}}' for reason in module.OUTAGE_KINDS),
    }


def test_what_rounding_leaves_is_no_implausible_second() -> None:
    metrics = Metrics(Heartbeat())
    metrics.committed(committed(capped={"jetson_1": 5e-15, "jetson_2": 2.5}))

    assert samples(metrics)["implausible_seconds_total"] == 2.5


def test_no_series_says_when_a_counter_was_created() -> None:
    assert not [name for name in samples(Metrics(Heartbeat())) if "_created" in name]


def test_deleted_rows_and_suppressed_people_are_counted() -> None:
    metrics = Metrics(Heartbeat())
    metrics.pruned("person_emotion", 3)
    metrics.committed(committed(suppressed=2))
    found = samples(metrics)

    assert (found['pruned_rows_total{table="person_emotion"}'], found["suppressed_people_total"]) == (3, 2)
