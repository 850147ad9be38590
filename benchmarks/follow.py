"""The cost of open live pages for the API: polling with an ETag against server-sent events."""

import asyncio
import re
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.report import Report
from emotion_daemon.rules.fold import fold
from emotion_daemon.storage.store import Store
from shared.batch import Batch, Cumulative
from tests.databases import migrated
from tests.web import HOST, SUMMARY, Api

DEVICE = "camera"
POLL_SECONDS = 1.0
START_SECONDS = 3.0  # all have their first response by then
_ETAG = re.compile(rb"etag: *([^\r]+)\r", re.IGNORECASE)
_LENGTH = re.compile(rb"content-length: *(\d+)\r", re.IGNORECASE)

Follower = Callable[[int, Callable[[], None]], Coroutine[None, None, None]]
"""Follows on a port until it is cancelled, and calls back at each summary that it has not had yet."""


def run(report: Report, *, followers: int, people: int, seconds: int, rounds: int) -> None:
    """Milliseconds of the workers' CPU time for one follower a minute, with new data every second and without."""
    values: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for name, follow in (("polling", _poll), ("events", _listen)):
            for news in (True, False):
                what = f"{name}, {'new data every second' if news else 'nothing new'}"
                report.progress(f"follow, {what}: round {number}")
                milliseconds = _measure(follow, followers=followers, people=people, seconds=seconds, news=news)
                values.setdefault(what, []).append(milliseconds)
    report.add("follow", {"followers": followers, "people": people}, "ms CPU a follower and minute", values)


def _measure(follow: Follower, *, followers: int, people: int, seconds: int, news: bool) -> float:
    with tempfile.TemporaryDirectory() as name:
        url, log = f"sqlite:///{name}/emotion.db", Path(name) / "log"
        with migrated(url) as engine:
            store = Store(engine)
            _commit(store, people)
            with Api(url, log, application="benchmarks.events_api:create_app()") as api:
                heard = [0] * followers
                spent = asyncio.run(
                    _follow(api, follow, heard, seconds, (lambda: _commit(store, people)) if news else (lambda: None))
                )
    expected = seconds - 2 if news else 1
    assert min(heard) >= expected, f"a follower has heard {min(heard)} responses, not {expected}"
    return spent * 1e3 * 60 / seconds / followers


async def _follow(
    api: Api, follow: Follower, heard: list[int], seconds: int, every_second: Callable[[], None]
) -> float:
    """Seconds of CPU time that the workers take in so many seconds."""

    def count(number: int) -> None:
        heard[number] += 1

    tasks = []
    for number in range(len(heard)):
        tasks.append(asyncio.create_task(follow(api.port, partial(count, number))))
        await asyncio.sleep(POLL_SECONDS / len(heard))  # as people do, not all at the same moment
    await asyncio.sleep(START_SECONDS)
    heard[:] = [1 if each else 0 for each in heard]
    before = _cpu_seconds(api)
    for _ in range(seconds):
        every_second()
        await asyncio.sleep(1)
    spent = _cpu_seconds(api) - before
    for task in tasks:
        assert not task.done(), f"a follower was cut off: {task}"
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return spent


async def _poll(port: int, heard: Callable[[], None]) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    etag = b""
    while True:
        known = b"If-None-Match: " + etag + b"\r\n" if etag else b""
        writer.write(f"GET {SUMMARY}?device_id={DEVICE} HTTP/1.1\r\nHost: {HOST}\r\n".encode() + known + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " in head[:20]:
            length, found = _LENGTH.search(head), _ETAG.search(head)
            assert length, head
            assert found, head
            await reader.readexactly(int(length[1]))
            etag = found[1]
            heard()
        else:
            assert b" 304 " in head[:20], head
        await asyncio.sleep(POLL_SECONDS)


async def _listen(port: int, heard: Callable[[], None]) -> None:
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**20)
    writer.write(f"GET /events/{DEVICE} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    while True:
        await reader.readuntil(b"\n\n")
        heard()


def _commit(store: Store, people: int) -> None:
    now = datetime.now(UTC)
    batch = Batch(DEVICE, now, {str(n): Cumulative(happy=now.timestamp()) for n in range(people)}, now)
    with store.transaction() as transaction:
        transaction.write(fold([batch], transaction.read_state([batch])))


def _cpu_seconds(api: Api) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in api.workers())
