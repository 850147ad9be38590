"""kill -9 of the PostgreSQL primary under load, and the promotion of its synchronous standby."""

import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection, func, make_url, select

from benchmarks.load import load
from benchmarks.report import Report
from shared.schema import device_state
from tests.brokers import Broker
from tests.databases import migrated, reading
from tests.postgresql import postgresql_server, standby_of
from tests.processes import Daemon
from tests.waiting import wait_until

POLL_SECONDS = 0.01


def run(report: Report, *, rate: int, devices: int, people: int, rounds: int) -> None:
    """Seconds until the daemon commits on the promoted standby, at `rate` messages a second."""
    values: dict[str, list[float]] = {"from the kill": [], "from the promotion": []}
    for number in range(1, rounds + 1):
        report.progress(f"failover at {rate:,} messages/s: round {number}")
        with tempfile.TemporaryDirectory() as name:
            for series, value in zip(values.values(), _round(Path(name), rate, devices, people), strict=True):
                series.append(value)
    report.add("failover", {"messages/s": rate, "devices": devices, "people a batch": people}, "s", values)


def _round(folder: Path, rate: int, devices: int, people: int) -> tuple[float, float]:
    broker = Broker(folder)
    broker.start()
    try:
        with postgresql_server(durable=True) as primary:
            url = primary.new_database()
            with migrated(url):
                pass
            with standby_of(primary, durable=True) as standby, reading(primary.url_on(standby, url)) as connection:
                primary.configure("synchronous_standby_names", "*")
                hosts = f"host=127.0.0.1:{primary.port}&host=127.0.0.1:{standby.port}&target_session_attrs=read-write"
                both = f"postgresql+psycopg://postgres@/{make_url(url).database}?{hosts}"
                with (
                    Daemon(broker, both, folder / "log") as daemon,
                    load(broker, rate=rate, devices=devices, people=people),
                ):
                    daemon.wait_for_log(" connected to ")
                    wait_until(lambda: _changes(connection) > rate, seconds=60, what="the daemon keeps up")
                    primary.kill()
                    killed, before = time.perf_counter(), _changes(connection)
                    standby.promote()
                    promoted = time.perf_counter()
                    wait_until(lambda: _changes(connection) > before, pause=POLL_SECONDS, what="the daemon commits")
                    committed = time.perf_counter()
    finally:
        broker.kill()
    return committed - killed, committed - promoted


def _changes(connection: Connection) -> int:
    """The number of changes of all devices that are committed."""
    with connection.begin():
        return connection.scalar(select(func.sum(device_state.c.revision))) or 0
