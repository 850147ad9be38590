"""A backlog that waits in the broker: how fast the daemon stores it, against a subscriber that does nothing."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
from sqlalchemy import func, select

from benchmarks.backlog import SHOWN_A_TURN, batches, is_last_stored, last_batch, open_session, publish, seconds
from benchmarks.people import OTHERS, fill
from benchmarks.report import Report
from shared.schema import emotion_minute, person_emotion
from tests.brokers import Broker
from tests.databases import migrated, reading
from tests.postgresql import postgresql_server
from tests.processes import ROOT, Daemon
from tests.waiting import wait_until

NOOP, DRIVER = "no-op subscriber", "bare SQLite driver"
SQLITE, POSTGRESQL, SERVER = "daemon on SQLite", "daemon on PostgreSQL", "PostgreSQL's server"


def run(report: Report, *, messages: int, devices: int, people: int, rounds: int, stored: Iterable[int] = (0,)) -> None:
    """Messages a second of the subscriber that does nothing, the bare driver, and the daemon.

    The daemon's for each of `stored` people of other devices that are in the table already. Raises AssertionError where
    a value is not stored exactly.
    """
    names = {count: "daemon" if not count else f"daemon, {count:,} others stored" for count in stored}
    rates: dict[str, list[float]] = {name: [] for name in (NOOP, DRIVER, *names.values())}
    with tempfile.TemporaryDirectory() as folder:
        databases = {count: _database(Path(folder), count, report) for count in names}
        for number in range(1, rounds + 1):
            report.progress(f"ingest, {messages:,} messages of {devices:,} devices, {people} people: round {number}")
            with tempfile.TemporaryDirectory() as name:
                this_round = _Round(Path(name), messages=messages, devices=devices, people=people)
                took = this_round.run({name: databases[count] for count, name in names.items()})
            for what, lasted in took.items():
                rates[what].append(messages / lasted)
    report.add("ingest", {"devices": devices, "people a batch": people}, "messages/s", rates)


def compare(report: Report, *, messages: int, devices: int, people: int, rounds: int) -> None:
    """Messages a second of the daemon on PostgreSQL, against the daemon on SQLite, and the processor time of a message.

    Raises AssertionError where a value is not stored exactly.
    """
    rates: dict[str, list[float]] = {SQLITE: [], POSTGRESQL: []}
    costs: dict[str, list[float]] = {SQLITE: [], POSTGRESQL: [], SERVER: []}
    with postgresql_server(durable=True) as server:
        for number in range(1, rounds + 1):
            report.progress(f"ingest, {messages:,} messages of {devices:,} devices, {people} people: round {number}")
            with tempfile.TemporaryDirectory() as name:
                this_round = _Round(Path(name), messages=messages, devices=devices, people=people)
                urls = {SQLITE: f"sqlite:///{name}/emotion.db", POSTGRESQL: server.new_database()}
                for what, (lasted, processor) in this_round.daemons(urls, server.pid).items():
                    rates[what].append(messages / lasted)
                    for process, seconds in processor.items():
                        costs[process].append(seconds / messages * 1e6)
    parameters = {"devices": devices, "people a batch": people}
    report.add("ingest", parameters, "messages/s", rates)
    report.add("ingest", parameters, "µs of processor time a message", costs)


def _database(folder: Path, stored: int, report: Report) -> Path:
    """A database with the schema, and so many people in it."""
    file = folder / f"{stored}.db"
    with migrated(f"sqlite:///{file}"):
        pass
    if stored:
        report.progress(f"storing {stored:,} people")
        fill(file, stored)
    return file


class _Round:
    """A broker with one backlog for each of those who take it."""

    def __init__(self, folder: Path, *, messages: int, devices: int, people: int) -> None:
        self._folder = folder
        self._messages, self._devices, self._people = messages, devices, people
        self._broker = Broker(folder)

    def run(self, databases: dict[str, Path]) -> dict[str, float]:
        """The seconds of each. `databases` are what the daemon starts from, by what that is called."""
        self._broker.start()
        try:
            for name in (NOOP, *databases):
                open_session(self._broker, _client_id(name))
            publish(self._broker, batches(self._messages, devices=self._devices, people=self._people))
            publish(self._broker, last_batch())
            took = {NOOP: self._noop(), DRIVER: self._driver(next(iter(databases.values())))}
            for name, database in databases.items():
                took[name] = self._daemon(name, database)
        finally:
            self._broker.kill()
        return took

    def daemons(self, urls: dict[str, str], server: int) -> dict[str, tuple[float, dict[str, float]]]:
        """The seconds of a daemon on each empty database, and the processor time of the processes that store.

        `server` is the id of PostgreSQL's first process.
        """
        self._broker.start()
        try:
            for name in urls:
                open_session(self._broker, _client_id(name))
            publish(self._broker, batches(self._messages, devices=self._devices, people=self._people))
            publish(self._broker, last_batch())
            took = {}
            for name, url in urls.items():
                with migrated(url):
                    pass
                took[name] = self._measured(name, url, {SERVER: server} if name == POSTGRESQL else {})
        finally:
            self._broker.kill()
        return took

    def _noop(self) -> float:
        expected = str(self._messages + 1)
        return _seconds_of("noop", self._broker.host, str(self._broker.port), _client_id(NOOP), expected)

    def _driver(self, database: Path) -> float:
        file = shutil.copy(database, self._folder / "driver.db")
        return _seconds_of("bare_driver", str(file), *map(str, (self._messages, self._devices, self._people)))

    def _daemon(self, name: str, database: Path) -> float:
        file = shutil.copy(database, self._folder / f"{_client_id(name)}.db")
        return self._measured(name, f"sqlite:///{file}", {})[0]

    def _measured(self, name: str, url: str, others: dict[str, int]) -> tuple[float, dict[str, float]]:
        """The seconds that the daemon takes, and the processor time of the daemon and of `others`, by process id."""
        log = self._folder / f"{_client_id(name)}.log"
        with Daemon(self._broker, url, log, EMOTION_MQTT_CLIENT_ID=_client_id(name)) as daemon:
            daemon.wait_for_log(" connected to ")
            processes = {name: daemon.pid, **others}
            began, spent = time.perf_counter(), {each: processor_seconds(pid) for each, pid in processes.items()}
            with reading(url) as connection:
                wait_until(lambda: is_last_stored(connection), seconds=600, what="the last batch is stored")
            ended = time.perf_counter()
            spent = {each: processor_seconds(pid) - spent[each] for each, pid in processes.items()}
            daemon.stop()
        self._check(url)
        return ended - began, spent

    def _check(self, url: str) -> None:
        of_others = person_emotion.c.device_id.startswith(OTHERS, autoescape=True)
        with reading(url) as connection:
            rows = connection.execute(select(person_emotion).where(~of_others)).all()
            shown = connection.scalar(select(func.sum(emotion_minute.c.time_happy + emotion_minute.c.time_sad)))
        stored = {(row.device_id, row.person_id): (row.time_happy, row.time_sad, row.time_angry) for row in rows}
        expected = {}
        for number in range(max(0, self._messages - self._devices), self._messages):
            for n in range(self._people):
                key = f"camera_{number % self._devices}", str(n)
                expected[key] = tuple(seconds(number // self._devices, n).values())
        assert stored == expected, "what is stored is not what was published"
        turns = max(0, self._messages - self._devices)  # the first batch of each device only says where it begins
        assert shown == turns * self._people * SHOWN_A_TURN, "the history is not what was shown"


def _client_id(name: str) -> str:
    return name.replace(" ", "_").replace(",", "")


def processor_seconds(pid: int) -> float:
    """The processor time of a process and of its children, those included that have ended."""
    process = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:4]) for each in (process, *process.children(recursive=True)))


def _seconds_of(module: str, *arguments: str) -> float:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600).stdout)
