"""One, two and four daemons on one PostgreSQL, each with its own broker and devices of its own."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import func, select

from benchmarks.backlog import batches, is_last_stored, last_batch, open_session, publish, seconds
from benchmarks.ingest import processor_seconds
from benchmarks.report import Report
from shared.database import writer_engine
from shared.schema import person_emotion
from tests.brokers import Broker
from tests.databases import disposing, migrated, reading
from tests.postgresql import PostgreSQL, postgresql_server
from tests.processes import Daemon
from tests.waiting import wait_until

COUNTS = (1, 2, 4)
SERVER = "PostgreSQL's server"


def run(report: Report, *, messages: int, devices: int, people: int, rounds: int) -> None:
    """Messages a second of all daemons together, against one, and the processor time of a message.

    Messages and devices are dealt out to the daemons evenly. Raises AssertionError if a value is not stored exactly.
    """
    names = {count: f"{count} daemon{'s' * (count > 1)}" for count in COUNTS}
    rates: dict[str, list[float]] = {name: [] for name in names.values()}
    costs: dict[str, list[float]] = {f"{name}: {each}": [] for name in rates for each in ("daemons", SERVER)}
    with postgresql_server(durable=True) as server:
        for number in range(1, rounds + 1):
            for count, name in names.items():
                report.progress(f"shards, {messages:,} messages, {name}: round {number}")
                with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                    shards = [
                        _Shard(stack, Path(folder), part, messages // count, devices // count, people)
                        for part in range(count)
                    ]
                    took, of_daemons, of_server = _measured(stack, server, shards)
                published = messages // count * count
                rates[name].append(published / took)
                costs[f"{name}: daemons"].append(of_daemons / published * 1e6)
                costs[f"{name}: {SERVER}"].append(of_server / published * 1e6)
    parameters = {"devices": devices, "people a batch": people}
    report.add("shards", parameters, "messages/s", rates)
    report.add("shards", parameters, "µs of processor time a message", costs)


class _Shard:
    """A broker in which the batches of some devices wait for their daemon."""

    def __init__(self, stack: ExitStack, folder: Path, number: int, messages: int, devices: int, people: int) -> None:
        self._folder = folder / str(number)
        self._folder.mkdir()
        self.name = f"shard_{number}"
        self.last = f"{self.name}_last"
        self.broker = Broker(self._folder)
        self.broker.start()
        stack.callback(self.broker.kill)
        open_session(self.broker, self.name)
        publish(self.broker, batches(messages, devices=devices, people=people, name=self.name))
        publish(self.broker, last_batch(self.last))
        newest = range(max(0, messages - devices), messages)
        self.happy = sum(seconds(each // devices, person)["happy"] for each in newest for person in range(people))

    def daemon(self, url: str) -> Daemon:
        return Daemon(self.broker, url, self._folder / "daemon.log", EMOTION_MQTT_CLIENT_ID=self.name)


def _measured(stack: ExitStack, server: PostgreSQL, shards: list[_Shard]) -> tuple[float, float, float]:
    """The seconds that the daemons take, and the processor time of all of them and of the server."""
    url = server.new_database()
    with migrated(url):
        pass
    with disposing(writer_engine(url)) as engine, engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE device")  # so that all begin when the last has connected
        daemons = [stack.enter_context(shard.daemon(url)) for shard in shards]
        for daemon in daemons:
            daemon.wait_for_log(" connected to ")
        began, spent = time.perf_counter(), _processor(daemons, server)
    with reading(url) as connection:
        for shard in shards:
            wait_until(lambda: is_last_stored(connection, shard.last), seconds=600, what="all is stored")  # noqa: B023
        took = time.perf_counter() - began
        of_daemons, of_server = (
            after - before for after, before in zip(_processor(daemons, server), spent, strict=True)
        )
        happy = connection.scalar(select(func.sum(person_emotion.c.time_happy)))
    assert happy == sum(shard.happy for shard in shards), "what is stored is not what was published"
    return took, of_daemons, of_server


def _processor(daemons: list[Daemon], server: PostgreSQL) -> tuple[float, float]:
    return sum(processor_seconds(each.pid) for each in daemons), processor_seconds(server.pid)
