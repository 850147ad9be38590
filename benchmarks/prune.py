"""Measure how long a batch waits during a large deletion, against the same load without.

The daemon's loop with its real store, file and retention; only the broker is played, by messages that are due at fixed
times: so a wait is that for the loop, the commit and nothing else.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from statistics import quantiles

from benchmarks.backlog import TOPICS
from benchmarks.people import full_database
from benchmarks.report import Report
from emotion_daemon.ingest import Ingest
from emotion_daemon.monitoring.report import Report as LoopReport
from emotion_daemon.mqtt.publish_packet import Message
from emotion_daemon.retention import SETTLE_SECONDS, Retention
from emotion_daemon.storage.store import Store
from shared.batch import encode
from tests.databases import migrated

DAYS = 30.0
PEOPLE_A_BATCH = 5


def run(report: Report, *, stored: int, minutes: int, rate: int, devices: int, seconds: int, rounds: int) -> None:
    """Milliseconds that batches waited, for `seconds` without anything to delete, and during one whole pass."""
    waits: dict[str, list[float]] = {
        f"{when}, {what}": []
        for when in ("nothing to delete", "while deleting")
        for what in ("median", "99th percentile", "longest")
    }
    took: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report.progress(f"storing {stored:,} people and {minutes:,} minutes")
        full = full_database(folder / "full.db", people=stored, minutes=minutes, devices=devices)
        for number in range(1, rounds + 1):
            for when, ends in (("nothing to delete", False), ("while deleting", True)):
                report.progress(f"prune, round {number}: {when}")
                file = Path(shutil.copy(full, folder / "emotion.db"))
                found, lasted = _load(file, rate=rate, devices=devices, seconds=seconds, deletes=ends)
                percentiles = quantiles(found, n=100)
                for what, value in (
                    ("median", percentiles[49]),
                    ("99th percentile", percentiles[98]),
                    ("longest", max(found)),
                ):
                    waits[f"{when}, {what}"].append(value * 1e3)
                if ends:
                    took.append(lasted)
                for each in folder.glob("emotion.db*"):
                    each.unlink()
    parameters = {"people": stored, "minutes": minutes, "messages/s": rate, "devices": devices}
    report.add("prune", parameters, "ms", waits)
    report.add("prune", parameters, "s", {"the pass that deleted all of them": took})


def _load(file: Path, *, rate: int, devices: int, seconds: int, deletes: bool) -> tuple[list[float], float]:
    """The seconds that each message waited, and how long all of it lasted.

    Raises AssertionError where the pass has left something.
    """
    source = _Messages(rate=rate, devices=devices)
    with migrated(f"sqlite:///{file}") as engine:
        store, report = Store(engine), LoopReport()
        clocks = _Clocks()
        retention = Retention(
            store,
            report=report,
            people_days=DAYS,
            history_days=DAYS,
            now=clocks.now,
            monotonic=clocks.monotonic,
        )
        ingest = Ingest(
            source=source, store=store, topics=TOPICS, report=report, retention=retention if deletes else None
        )
        source.begin()
        began = time.perf_counter()
        while time.perf_counter() < began + 1:  # so that a camera's clock agrees
            ingest.step()
        source.waits.clear()
        clocks.lag = 0.0
        began = time.perf_counter()
        while retention.is_due if deletes else time.perf_counter() < began + seconds:
            ingest.step()
        lasted = time.perf_counter() - began
        if deletes:
            with engine.connect() as connection:
                left = connection.exec_driver_sql(
                    "SELECT (SELECT count(*) FROM person_emotion WHERE device_id LIKE 'other%')"
                    " + (SELECT count(*) FROM emotion_minute WHERE device_id LIKE 'other%')"
                ).scalar_one()
            assert left == 0, f"{left:,} rows are left"
    return source.waits, lasted


class _Clocks:
    """Both, which lag by what a daemon waits after its start, until they catch up together."""

    def __init__(self) -> None:
        self.lag = SETTLE_SECONDS

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self.lag)

    def monotonic(self) -> float:
        return time.monotonic() - self.lag


class _Messages:
    """In place of a subscriber: one message is due every 1/`rate` s, of one device after the other."""

    def __init__(self, *, rate: int, devices: int) -> None:
        self._every = 1 / rate
        self._devices = cycle(f"jetson_{number}" for number in range(devices))
        self._due = 0.0
        self._arrivals: list[float] = []
        self.waits: list[float] = []

    def begin(self) -> None:
        self._due = time.perf_counter()

    @property
    def subscribed(self) -> bool:
        return True

    @property
    def waiting(self) -> int:
        return 0

    def receive(self, *, timeout: float) -> list[Message]:
        left = self._due - time.perf_counter()
        if left > 0:
            time.sleep(min(left, timeout))
        messages: list[Message] = []
        while self._due <= time.perf_counter() and len(messages) < 500:
            messages.append(self._message())
            self._arrivals.append(self._due)
            self._due += self._every
        return messages

    def _message(self) -> Message:
        now, device_id = datetime.now(UTC), next(self._devices)
        people = {str(person): {"happy": time.perf_counter()} for person in range(PEOPLE_A_BATCH)}
        payload = encode(device_id, now - timedelta(milliseconds=1), people)
        return Message(TOPICS.batch(device_id), payload, 1, 1, 1, len(payload), None, None, False, False)

    def wait(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        time.sleep(seconds)

    def clear_retained(self, topics: Iterable[str]) -> None:
        """No message is retained."""

    def ack(self, messages: Iterable[Message]) -> int:
        now = time.perf_counter()
        self.waits += [now - due for due in self._arrivals]
        self._arrivals.clear()
        return len(list(messages))

    def reply(self, message: Message, payload: bytes) -> None:
        raise AssertionError("no message asked for a reply")
