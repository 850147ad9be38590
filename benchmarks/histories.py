"""The waits of other requests while clients request long histories in parallel, and without those clients."""

import multiprocessing
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from itertools import count
from multiprocessing.sharedctypes import RawArray
from pathlib import Path

from benchmarks.people import fill
from benchmarks.report import Report, Waits
from tests.databases import migrated
from tests.waiting import wait_until
from tests.web import HOST, SUMMARY, Api

HISTORY = "/api/dashboard/history"
BUSY, SMALL = "busy", "small_0"
START = datetime(2025, 11, 1, tzinfo=UTC)
PEOPLE = 5
PAUSE_SECONDS = 0.01  # between two requests of one kind

MORE_MINUTES = 10_000
"""The number of histories with different spans."""

BUILT, REFUSED, FAILED = range(3)

_INSERT = """
INSERT INTO emotion_minute (device_id, minute, time_happy, time_sad, time_angry, time_neutral, most_people, covered)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def run(report: Report, *, clients: int, points: int, seconds: int, rounds: int) -> None:
    """The waits of other requests, without and with `clients` that request a history of `points` minutes each.

    Each history is another one, so that none comes from the cache. The other requests are a summary of 5 people, cached
    and built anew. Raises AssertionError if the API answers anything but 200, or 503 for a history.
    """
    waits = Waits(without="alone")
    limits = count(PEOPLE)
    answers: dict[str, list[float]] = {"histories built": [], "histories refused with 503": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = _database(folder, points + MORE_MINUTES)
        with Api(url, folder / "log") as api:
            for number in range(1, rounds + 1):
                report.progress(f"histories: round {number}")
                _measure(waits, "alone", api, seconds, limits)
                with _histories(api, clients, points) as counts:
                    before, began = list(counts), time.monotonic()
                    _measure(waits, "with histories", api, seconds, limits)
                    lasted = time.monotonic() - began
                    built, refused, failed = (now - then for now, then in zip(counts, before, strict=True))
                assert not failed, f"{failed} requests for a history failed"
                answers["histories built"].append(built / lasted)
                answers["histories refused with 503"].append(refused / lasted)
    parameters = {"clients": clients, "points": points}
    waits.report(report, "histories", parameters)
    report.add("histories", parameters, "a second", answers)


def _database(folder: Path, minutes: int) -> str:
    """A device with so many minutes of history, and another with 5 people."""
    file = folder / "emotion.db"
    with migrated(f"sqlite:///{file}"):
        pass
    fill(file, PEOPLE, device=SMALL.removesuffix("0"))
    rows = (
        (BUSY, f"{START + timedelta(minutes=n):%Y-%m-%d %H:%M:%S}.000000", n, 1, 2, 3, 4, 60) for n in range(minutes)
    )
    connection = sqlite3.connect(file)
    with connection:
        connection.executemany(_INSERT, rows)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return f"sqlite:///{file}"


def _measure(waits: Waits, when: str, api: Api, seconds: int, limits: Iterator[int]) -> None:
    """Request summaries in turn for so long, and add how long each took.

    Those that are built anew have a limit of their own each, from `limits`.
    """
    paths: dict[str, Callable[[], str]] = {
        "cached summary": lambda: f"{SUMMARY}?device_id={SMALL}",
        "summary built anew": lambda: f"{SUMMARY}?device_id={SMALL}&limit={next(limits) % 10_000 + 1}",
    }
    measured: dict[str, list[float]] = {what: [] for what in paths}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for what, path in paths.items():
            began = time.perf_counter()
            answer = api.ask(path())  # on a connection of its own, so that both workers answer
            measured[what].append(time.perf_counter() - began)
            assert answer.status == 200, answer
            time.sleep(PAUSE_SECONDS)
    for what, values in measured.items():
        waits.add(when, what, values)


@contextmanager
def _histories(api: Api, clients: int, points: int) -> Iterator[MutableSequence[int]]:
    """A process of `clients` that request histories during the block. Gives how many were BUILT, REFUSED, FAILED."""
    counts: MutableSequence[int] = RawArray("i", 3)
    process = multiprocessing.Process(target=_request, args=(api.port, clients, points, counts))
    process.start()
    try:
        wait_until(lambda: counts[BUILT] > 0, seconds=60, what="a history is built")
        yield counts
    finally:
        process.terminate()
        process.join()


def _request(port: int, clients: int, points: int, counts: MutableSequence[int]) -> None:
    numbers, lock = count(), threading.Lock()

    def client() -> None:
        connection = HTTPConnection(HOST, port, timeout=60)
        while True:
            with lock:
                start = START + timedelta(minutes=next(numbers) % MORE_MINUTES)
            end = start + timedelta(minutes=points)
            path = f"{HISTORY}?device_id={BUSY}&step=60&start={start:%Y-%m-%dT%H:%M:%SZ}&end={end:%Y-%m-%dT%H:%M:%SZ}"
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                kind = {200: BUILT, 503: REFUSED}.get(response.status, FAILED)
            except (OSError, HTTPException):
                connection.close()
                kind = FAILED
            with lock:
                counts[kind] += 1

    for _ in range(clients):
        threading.Thread(target=client).start()
