"""Measure the summaries a second that the API serves, against a Flask view that does nothing."""

import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles

from sqlalchemy import select

from benchmarks.load import load
from benchmarks.people import fill
from benchmarks.report import Report
from emotion_admin.copy_database import prepared
from shared.database import reader_engine
from shared.schema import device_state
from tests.brokers import Broker
from tests.databases import disposing, migrated, raise_revision_of, reading
from tests.postgresql import postgresql_server
from tests.processes import Daemon
from tests.web import HOST, SUMMARY, Api, ask

CLIENTS = 64
COMMITS = 50
"""Batches a second of a busy device, each in a commit of its own."""

POLLED = 100
MANY = 100_000

BARE = "bare Flask view"

# One request after the other for each of the devices, which wrk's threads share.
_ALL_DEVICES = """
local n = 0
request = function()
  n = (n + 1) % {polled}
  return wrk.format("GET", "{path}?device_id=of_{people}_" .. n)
end
"""


def run(
    report: Report,
    *,
    seconds: int,
    rounds: int,
    people: Sequence[int] = (5, 1_000),
    many: int = MANY,
    commits: int = COMMITS,
) -> None:
    """Requests a second with 64 connections, for devices of so many `people` each, and what one of `many` costs.

    Some cases run during so many `commits` a second. Raises AssertionError if the daemon cannot commit as often.
    """
    wrk = _find_wrk()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage = _Stage(folder, people, many, wrk=wrk, seconds=seconds)
        report.progress("starting broker, daemon and three gunicorns")
        with stage:
            for number in people:
                _cached_and_anew(report, stage, number, rounds)
            for number in sorted({5, 1_000} & set(people)):
                _while_the_daemon_commits(report, stage, number, rounds, commits)
            _very_many_people(report, stage, many, rounds)


def compare(report: Report, *, seconds: int, rounds: int, people: Sequence[int] = (5, 1_000)) -> None:
    """Requests a second of the API on PostgreSQL, against the API on SQLite, for a device of so many `people` each."""
    wrk = _find_wrk()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(postgresql_server(durable=True))
        urls = {"SQLite": f"sqlite:///{folder}/emotion.db", "PostgreSQL": server.new_database()}
        with migrated(urls["SQLite"]) as engine:
            for number in people:
                fill(folder / "emotion.db", number, a_device=number, device=f"of_{number}_")
                raise_revision_of(engine, f"of_{number}_0")
        _copy(urls["SQLite"], urls["PostgreSQL"])
        apis = {name: stack.enter_context(Api(url, folder / f"{name}.log")) for name, url in urls.items()}
        for number in people:
            path = f"{SUMMARY}?device_id=of_{number}_0"
            etag = apis["SQLite"].ask(path).headers["etag"]
            assert apis["PostgreSQL"].ask(path).headers["etag"] == etag, "both have the same people"
            for what, headers in {"cached": (), "cached, 304": (f"If-None-Match: {etag}",)}.items():
                costs: dict[str, list[float]] = {name: [] for name in apis}
                cases = {
                    f"{what}, {name}": partial(_rate_and_cost, costs[name], wrk, seconds, api, path, *headers)
                    for name, api in apis.items()
                }
                rates = _rounds(report, f"{number} people", cases, rounds)
                report.add("read", {"people": number}, "requests/s", rates)
                report.add("read", {"people": number}, "µs of the workers' processor time a request", costs)


def _rate_and_cost(costs: list[float], wrk: str, seconds: int, api: Api, path: str, *headers: str) -> float:
    """Requests a second. The processor time of one request goes to `costs`."""
    before = _processor_seconds(api)
    rate = _rate(wrk, seconds, api, path, *headers)
    costs.append((_processor_seconds(api) - before) / (rate * seconds) * 1e6)
    return rate


def _processor_seconds(api: Api) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in api.workers())


def _copy(source_url: str, target_url: str) -> None:
    with disposing(reader_engine(source_url)) as source, prepared(source, source_url, target_url) as copy:
        for table in copy.tables():
            for _ in table.chunks:
                """Using up the chunks copies them."""
        copy.finish()


def _find_wrk() -> str:
    wrk = shutil.which("wrk")
    assert wrk, "the read benchmark needs wrk: apt-get install wrk"
    return wrk


def _rate(wrk: str, seconds: int, server: Api, path: str, *headers: str, script: Path | None = None) -> float:
    """Requests a second. Raises AssertionError if one fails."""
    options = [option for header in headers for option in ("-H", header)]
    if script is not None:
        options += ["-s", str(script)]
    times = f"-d{seconds}s", "--timeout", "30s"
    command = [wrk, "-t1", f"-c{CLIENTS}", *times, *options, f"{server.url}{path}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    assert "Socket errors" not in said, said
    assert "Non-2xx" not in said, said  # wrk counts a 304 as a success
    (rate,) = (line.split()[1] for line in said.splitlines() if line.startswith("Requests/sec"))
    return float(rate)


def _cached_and_anew(report: Report, stage: "_Stage", people: int, rounds: int) -> None:
    path = f"{SUMMARY}?device_id=of_{people}_0"
    stage.check(path, people)
    etag = stage.api.ask(path).headers["etag"]
    assert stage.api.ask(path, If_None_Match=etag).status == 304
    cases: dict[str, Callable[[], float]] = {
        BARE: lambda: stage.rate(stage.bare, "/"),
        "cached": lambda: stage.rate(stage.api, path),
        "cached, gzip": lambda: stage.rate(stage.api, path, "Accept-Encoding: gzip"),
        "cached, 304": lambda: stage.rate(stage.api, path, f"If-None-Match: {etag}"),
        "built for each request": lambda: stage.rate(stage.uncached, path),
    }
    report.add("read", {"people": people}, "requests/s", _rounds(report, f"read, {people} people", cases, rounds))


def _while_the_daemon_commits(report: Report, stage: "_Stage", people: int, rounds: int, commits: int) -> None:
    def busy() -> float:
        with stage.commits(commits):
            return stage.rate_of_all(people)

    cases = {
        BARE: lambda: stage.rate(stage.bare, "/"),
        "nothing is committed": lambda: stage.rate_of_all(people),
        f"{commits} commits/s of another device": busy,
    }
    values = _rounds(report, f"read, {POLLED} devices in turn", cases, rounds)
    report.add("read", {"devices in turn": POLLED, "people": people}, "requests/s", values)


def _very_many_people(report: Report, stage: "_Stage", many: int, rounds: int) -> None:
    path = f"{SUMMARY}?device_id=many_0"
    for _ in range(6):  # each worker has its own cache
        stage.check(path, many)
    totals = f"{path}&fields=totals"
    cases: dict[str, Callable[[], float]] = {
        "totals, cached": lambda: median(stage.milliseconds(stage.api, totals) for _ in range(20)),
        "totals, added up anew": lambda: median(stage.milliseconds(stage.uncached, totals) for _ in range(20)),
        "list, cached": lambda: median(stage.milliseconds(stage.api, path) for _ in range(5)),
        "list, cached, gzip": lambda: median(stage.milliseconds(stage.api, path, "gzip") for _ in range(5)),
        "list, built anew": lambda: median(stage.milliseconds(stage.uncached, path) for _ in range(3)),
        "another device": lambda: median(stage.milliseconds(stage.uncached, stage.small) for _ in range(100)),
        "another device, 99 of 100, while the list is built": lambda: stage.others_wait(path),
    }
    report.add("read", {"people": many}, "ms", _rounds(report, f"read, {many:,} people", cases, rounds))


def _rounds(report: Report, what: str, cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(1, rounds + 1):
        report.progress(f"{what}: round {number}")
        for name, measure in cases.items():
            values[name].append(measure())
    return values


class _Stage:
    """The servers, in front of one database."""

    def __init__(self, folder: Path, people: Sequence[int], many: int, *, wrk: str, seconds: int) -> None:
        self._folder, self._wrk, self._seconds = folder, wrk, seconds
        self._broker = Broker(folder)
        file = folder / "emotion.db"
        self._url = f"sqlite:///{file}"
        with migrated(self._url):
            pass
        for number in people:
            fill(file, number * POLLED, a_device=number, device=f"of_{number}_")
        fill(file, many, a_device=many, device="many_")
        self.small = f"{SUMMARY}?device_id=of_{people[0]}_1"

    def __enter__(self) -> "_Stage":
        with ExitStack() as stack:
            self._broker.start()
            stack.callback(self._broker.kill)
            daemon = stack.enter_context(Daemon(self._broker, self._url, self._folder / "daemon.log"))
            daemon.wait_for_log(" connected to ")
            self.api = stack.enter_context(Api(self._url, self._folder / "api.log"))
            self.uncached = stack.enter_context(
                Api(self._url, self._folder / "uncached.log", application="benchmarks.uncached_api:create_app()")
            )
            self.bare = stack.enter_context(
                Api(self._url, self._folder / "bare.log", application="benchmarks.bare_flask:app")
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def check(self, path: str, people: int) -> None:
        """Raise AssertionError if a summary does not have so many people and their sums."""
        summary = json.loads(self.api.ask(path).body)
        assert len(summary["current_people"]) == people, f"{len(summary['current_people'])} people"
        happy = sum(person["time_happy"] for person in summary["current_people"])
        assert abs(summary["emotion_totals"]["happy"] - happy) < 1e-6 * max(happy, 1)

    def rate(self, server: Api, path: str, *headers: str, script: Path | None = None) -> float:
        """Requests a second. Raises AssertionError if one fails."""
        return _rate(self._wrk, self._seconds, server, path, *headers, script=script)

    def rate_of_all(self, people: int) -> float:
        """Requests a second for POLLED devices in turn."""
        script = self._folder / "all.lua"
        script.write_text(_ALL_DEVICES.format(polled=POLLED, path=SUMMARY, people=people))
        return self.rate(self.api, "/", script=script)

    @contextmanager
    def commits(self, wanted: int) -> Iterator[None]:
        """A device that publishes so many times a second for as long as the block lasts.

        Raises AssertionError if the daemon commits fewer than nine tenths of what is published one by one.
        """
        with load(self._broker, rate=wanted, devices=1, people=1) as published:
            committed, sent = self._committed(), published()
            yield
            sent = published() - sent
            committed = self._committed() - committed
        assert committed > 0.9 * sent - 1, f"only {committed} commits for {sent} batches"

    def _committed(self) -> int:
        with reading(self._url) as connection:
            return sum(connection.scalars(select(device_state.c.revision)))

    def milliseconds(self, server: Api, path: str, encoding: str = "identity") -> float:
        """Of one request, on a connection that is open already."""
        connection = HTTPConnection(HOST, server.port, timeout=60)
        try:
            ask(connection, "/")
            began = time.perf_counter()
            response = ask(connection, path, Accept_Encoding=encoding)
            lasted = time.perf_counter() - began
        finally:
            connection.close()
        assert response.status == 200, response.status
        return lasted * 1e3

    def others_wait(self, path: str) -> float:
        """The 99th percentile of a small device's requests, in milliseconds, while both workers build a long list.

        They come at random instants, on open connections: otherwise each would find its worker idle, because it has
        just responded.
        """
        builder = subprocess.Popen(
            [self._wrk, "-t1", "-c4", "-d60s", f"{self.uncached.url}{path}"], stdout=subprocess.DEVNULL
        )
        clients = [HTTPConnection(HOST, self.uncached.port, timeout=60) for _ in range(8)]  # of either worker
        chance, waited = random.Random(0), []
        try:
            time.sleep(0.5)
            for number in range(400):
                time.sleep(chance.uniform(0, 0.02))
                began = time.perf_counter()
                response = ask(clients[number % len(clients)], self.small)
                waited.append((time.perf_counter() - began) * 1e3)
                assert response.status == 200, response.status
        finally:
            builder.terminate()
            builder.wait()
            for client in clients:
                client.close()
        return quantiles(waited, n=100)[98]
