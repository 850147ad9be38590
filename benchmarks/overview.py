"""The duration of an overview of many devices, built anew each time."""

import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.people import OTHERS, fill_history
from benchmarks.report import Report
from shared.settings import Settings
from tests.databases import migrated, raise_revision_of
from tests.web import OVERVIEW, served

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)


def run(report: Report, *, devices: int, days: int, rounds: int) -> None:
    """Milliseconds of the overview of so many devices with so many days of history each, every minute of them."""
    now = BEGIN + timedelta(days=days, minutes=-17)  # in the middle of an hour
    times: dict[str, list[float]] = {"time": [], "processor time": []}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "emotion.db")
        url = f"sqlite:///{file}"
        report.progress(f"storing {devices * days * 1_440:,} minutes")
        with migrated(url) as engine, served(Settings(database_url=url), now=lambda: now) as client:
            fill_history(file, devices=devices, minutes=days * 1_440)
            _store_devices(file, devices, now)
            for _ in range(rounds):
                raise_revision_of(engine, f"{OTHERS}0")  # which makes the cached response outdated
                began = time.perf_counter(), time.process_time()
                answer = client.get(OVERVIEW)
                ended = time.perf_counter(), time.process_time()
                for values, start, end in zip(times.values(), began, ended, strict=True):
                    values.append((end - start) * 1e3)
                assert answer.json is not None, answer.text
                assert len(answer.json["cameras"]) == devices
    report.add("overview", {"devices": devices, "days": days}, "ms", times)


def _store_devices(file: Path, devices: int, now: datetime) -> None:
    """Store the devices, which are online."""
    at = f"{now:%Y-%m-%d %H:%M:%S}.000000"
    connection = sqlite3.connect(file)
    with connection:
        for number in range(devices):
            device_id = f"{OTHERS}{number}"
            connection.execute("INSERT INTO device (device_id, updated_at) VALUES (?, ?)", (device_id, at))
            connection.execute(
                "INSERT INTO device_state (device_id, received_at, people) VALUES (?, ?, 3)", (device_id, at)
            )
    connection.close()
