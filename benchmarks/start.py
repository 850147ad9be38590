"""The time from the daemon's start to its first commit if much is stored."""

import tempfile
import time
from pathlib import Path

from benchmarks.backlog import is_last_stored, last_batch, open_session, publish
from benchmarks.people import full_database
from benchmarks.report import Report
from tests.brokers import Broker
from tests.databases import migrated, reading
from tests.processes import Daemon
from tests.waiting import wait_until

CLIENT_ID = "start"


def run(report: Report, *, stored: int, minutes: int, devices: int, rounds: int) -> None:
    """Seconds from the start of the process until a batch is stored that waited at the broker."""
    took: dict[str, list[float]] = {"empty": [], "full": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report.progress(f"storing {stored:,} people and {minutes:,} minutes")
        with migrated(_url(folder, "empty")):
            pass
        full_database(folder / "full.db", people=stored, minutes=minutes, devices=devices)
        broker = Broker(folder)
        broker.start()
        try:
            open_session(broker, CLIENT_ID)
            for number in range(1, rounds + 1):
                for which, values in took.items():
                    report.progress(f"start, round {number}: {which}")
                    values.append(_seconds(broker, _url(folder, which), folder, f"{which}_{number}"))
        finally:
            broker.kill()
    report.add("start", {"people": stored, "minutes": minutes}, "s", took)


def _url(folder: Path, which: str) -> str:
    return f"sqlite:///{folder}/{which}.db"


def _seconds(broker: Broker, url: str, folder: Path, device_id: str) -> float:
    publish(broker, last_batch(device_id))
    began = time.perf_counter()
    with Daemon(broker, url, folder / "daemon.log", EMOTION_MQTT_CLIENT_ID=CLIENT_ID) as daemon:
        wait_until(lambda: _is_stored(url, device_id), seconds=600, what="the batch is stored")
        took = time.perf_counter() - began
        daemon.stop()
    return took


def _is_stored(url: str, device_id: str) -> bool:
    """A new connection each time: one that was opened before the daemon's would not see what the daemon writes."""
    with reading(url) as connection:
        return is_last_stored(connection, device_id)
