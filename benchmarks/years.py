"""The duration of a history of years, against SQLite that adds up its minutes."""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from benchmarks.people import OTHERS, fill_history
from benchmarks.report import Report
from shared.settings import Settings
from tests.databases import migrated
from tests.web import HISTORY, served

DEVICE = f"{OTHERS}0"
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
A_YEAR = timedelta(days=365)

_MINUTES_A_DAY = """
SELECT substr(minute, 1, 10), max(most_people), sum(time_happy), sum(time_sad), sum(time_angry), sum(time_neutral)
FROM emotion_minute WHERE device_id = ? GROUP BY 1
"""


def run(report: Report, *, years: int, rounds: int) -> None:
    """Milliseconds of a history that begins so many years ago and ends now, built anew each time."""
    times: dict[str, list[float]] = {"SQLite adds up the minutes": [], "history": []}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "emotion.db")
        url = f"sqlite:///{file}"
        with migrated(url):
            fill_history(file, devices=1, minutes=years * A_YEAR // timedelta(minutes=1))
        end = BEGIN + years * A_YEAR
        seconds: Iterator[int] = count(1)  # another start each time, as an equal request is answered from the cache
        with served(Settings(database_url=url), now=lambda: end) as client:

            def history() -> None:
                start = BEGIN + timedelta(seconds=next(seconds))
                answer = client.get(f"{HISTORY}?device_id={DEVICE}&start={start:%Y-%m-%dT%H:%M:%SZ}")
                assert answer.status_code == 200, answer.text

            connection = sqlite3.connect(file)
            for _ in range(rounds):
                times["SQLite adds up the minutes"].append(
                    _milliseconds(lambda: connection.execute(_MINUTES_A_DAY, (DEVICE,)).fetchall())
                )
                times["history"].append(_milliseconds(history))
            connection.close()
    report.add("years", {"years": years}, "ms", times)


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3
