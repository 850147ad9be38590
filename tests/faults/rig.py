"""Broker, daemon, devices and database together: what a fault is done to, and the check that follows it."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest
from sqlalchemy import create_engine, func, select, text

from shared.batch import encode
from shared.database import sqlite_path
from shared.schema import person_emotion, rejected_message
from tests.brokers import Broker
from tests.clients import Client
from tests.databases import disposing, reading
from tests.faults.history import (
    DEVICES,
    START,
    TOPICS,
    Fleet,
    PersonKey,
    expected_neutral,
    expected_rows,
    stored_neutral,
    stored_rows,
)
from tests.processes import Daemon
from tests.proxies import Proxy
from tests.waiting import wait_until

SUBSCRIBED = "subscribed to emotions/+/batch"

RECEIVING_AGAIN_SECONDS = 10.0
"""Seconds after a fault's end that the daemon may take to store a new batch, on a machine that has the time for it."""

MAX_RESIDENT_BYTES = 200 * 2**20
"""The daemon's memory stays below this, whatever arrives."""

PROBE = "probe"
"""The device whose batches only test if the daemon receives; its rows belong to no model."""

LAST_MOMENT_SECONDS = 3.0
"""Seconds of batches that a killed broker may lose: Mosquitto 2.0 saves every one or two (`autosave_interval 1`)."""

Moment = tuple[float, float]
"""From and until, monotonic seconds."""


class Difference(NamedTuple):
    """The disagreements of model and database, of so many `rows`; `excused` were lost as they may be."""

    rows: int
    lost: list[PersonKey]
    wrong: list[PersonKey]
    excused: int

    @property
    def is_none(self) -> bool:
        return not self.lost and not self.wrong

    def summary(self) -> str:
        return (
            f"{self.rows} rows: {len(self.lost)} lost, {len(self.wrong)} wrong, {self.excused} missing as they may be"
        )


class Rig:
    """A daemon between a broker and a database. `fleet` publishes from the start of `running` to its end."""

    def __init__(self, broker: Broker, daemon: Daemon, url: str, fleet: Fleet) -> None:
        self.broker = broker
        self.daemon = daemon
        self.url = url
        self.fleet = fleet
        self._probes = count(1)

    def check_receiving(self) -> float:
        """A batch that is published now is stored within RECEIVING_AGAIN_SECONDS; returns how many it took.

        Call it when the fault is over.
        """
        number = next(self._probes)
        began, person = monotonic(), f"probe {number}"
        with Client(self.broker, "probe") as client:
            client.send(TOPICS.batch(PROBE), encode(PROBE, START + timedelta(seconds=number), {person: {}}))
            wait_until(
                lambda: person_is_stored(self.url, PROBE, person),
                seconds=RECEIVING_AGAIN_SECONDS,
                what=f"the daemon is receiving again; its log ends:\n{self.daemon.log()[-3_000:]}",
            )
        return monotonic() - began

    def check(self) -> None:
        """End the publishing, then: what was acknowledged is stored, equals the model, and nothing else is there."""
        difference = self.settle()
        assert (difference.lost[:5], difference.wrong[:5]) == ([], []), difference.summary()
        assert rejected_count(self.url) == 0
        assert integrity(self.url) == "ok"
        assert self.daemon.peak_memory() < MAX_RESIDENT_BYTES
        print(difference.summary())

    def check_history(self) -> None:
        """After `check`: whatever came twice, and whatever was committed and not acknowledged, counts once."""
        expected = expected_neutral(self.fleet.history)
        stored = stored_neutral(self.url)
        assert {device_id: stored.get(device_id) for device_id in expected} == pytest.approx(expected)

    def settle(self, *, lost_moments: Collection[Moment] = ()) -> Difference:
        """End the publishing, wait until all is stored or nothing more is to be expected, and compare.

        `lost_moments` are those just before a crash of the broker, whose batches may be missing, never wrong.
        """
        self.fleet.finish()
        self.check_receiving()
        history = self.fleet.history
        wanted = expected_rows(history)
        excusable = {
            key
            for moment in lost_moments
            for key in expected_rows(entry for entry in history if moment[0] <= entry.at <= moment[1])
        }

        def compare() -> Difference:
            stored = {key: row for key, row in stored_rows(self.url).items() if key[0] != PROBE}
            missing = wanted.keys() - stored.keys()
            wrong = [key for key, row in stored.items() if wanted.get(key) != row]
            return Difference(len(wanted), sorted(missing - excusable), sorted(wrong), len(missing & excusable))

        with suppress(AssertionError):
            wait_until(lambda: compare().is_none, pause=0.1)
        return compare()


@contextmanager
def running(
    broker: Broker,
    url: str,
    log: Path,
    *,
    pace: float | None = 0.002,
    asking: bool = False,
    devices: Sequence[str] = DEVICES,
    through: Proxy | None = None,
    **settings: str,
) -> Iterator[Rig]:
    """A rig whose daemon is subscribed, `through` a proxy if there is one, and whose devices publish."""
    with Daemon(through or broker, url, log, **settings) as daemon:
        daemon.wait_for_log(SUBSCRIBED)
        with Fleet(broker, pace=pace, asking=asking, devices=devices) as fleet:
            yield Rig(broker, daemon, url, fleet)


def person_is_stored(url: str, device_id: str, person_id: str) -> bool:
    table = person_emotion.c
    query = select(table.id).where(table.device_id == device_id, table.person_id == person_id)
    with reading(url) as connection:
        return connection.scalar(query) is not None


def rejected_count(url: str) -> int:
    with reading(url) as connection:
        return connection.scalars(select(func.count()).select_from(rejected_message)).one()


def integrity(url: str) -> str:
    """Return the result of SQLite's own check, "ok" if all is well; PostgreSQL has none."""
    path = sqlite_path(url)
    if path is None:
        return "ok"
    with closing(sqlite3.connect(path, timeout=15)) as connection:
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    return str(answer)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another writer holds SQLite's write lock for the block, or on PostgreSQL the people's table."""
    path = sqlite_path(url)
    if path is None:
        with disposing(create_engine(url)) as engine, engine.begin() as other:
            other.execute(text("LOCK TABLE person_emotion"))
            yield
        return
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def reader(url: str) -> Iterator[None]:
    """A transaction that has read for the block, and keeps what it has seen."""
    with reading(url) as connection:
        connection.execute(text("SELECT count(*) FROM person_emotion")).one()
        yield
