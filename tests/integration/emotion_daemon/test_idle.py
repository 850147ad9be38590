"""The loop while nothing arrives, on real databases: it notices that the database is gone, and changes nothing."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from sqlalchemy import Engine

from emotion_daemon.ingest import CHECK_SECONDS, LONGEST_RETRY_SECONDS, Ingest
from emotion_daemon.monitoring.heartbeat import OK, STALE_SECONDS, Heartbeat
from emotion_daemon.monitoring.report import Report
from emotion_daemon.storage.errors import DatabaseReplacedError
from emotion_daemon.storage.store import Store
from shared.batch import Topics, encode
from tests.databases import migrated
from tests.fakes import Clock, FakeSource
from tests.postgresql import PostgreSQL
from tests.waiting import wait_until

TOPICS = Topics("emotions")
STAMP = datetime(2025, 11, 14, 12, tzinfo=UTC)


class Loop:
    """The loop, with a broker in memory and a clock of its own."""

    def __init__(self, engine: Engine) -> None:
        self.source, self.clock = FakeSource(), Clock()
        self.heartbeat = Heartbeat(monotonic=self.clock)
        self.heartbeat.ready()
        self.heartbeat.broker(None)
        self.report = Report(self.heartbeat, monotonic=self.clock)
        self._ingest = Ingest(
            source=self.source,
            store=Store(engine),
            topics=TOPICS,
            report=self.report,
            monotonic=self.clock,
        )

    def step(self, *, after: float = CHECK_SECONDS) -> None:
        self.clock.seconds += after
        self._ingest.step()

    def store_a_batch(self) -> None:
        self.source.publish(TOPICS.batch("jetson_1"), encode("jetson_1", STAMP, {"anna": {"happy": 1.0}}))
        self._ingest.step()

    @property
    def failing(self) -> list[str]:
        text = generate_latest(self.report.metrics.registry).decode()
        return [
            line for line in text.splitlines() if line.startswith("emotion_database_failing") and line.endswith("1.0")
        ]


@pytest.fixture
def loop(sqlite_url: str) -> Iterator[Loop]:
    with migrated(sqlite_url) as engine:
        yield Loop(engine)


def statuses(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in folder.iterdir()}


def test_a_server_that_goes_away_while_nothing_arrives_is_an_outage_until_it_is_back(
    own_postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    with migrated(own_postgresql.new_database()) as engine:
        loop = Loop(engine)
        loop.store_a_batch()
        loop.step()
        assert (loop.failing, loop.heartbeat.line) == ([], OK)

        own_postgresql.stop()
        loop.step()
        loop.step()
        assert loop.failing == ['emotion_database_failing{reason="unreachable"} 1.0']
        assert loop.heartbeat.line.startswith("cannot commit: ")

        own_postgresql.start()
        loop.step(after=LONGEST_RETRY_SECONDS)
        assert (loop.failing, loop.heartbeat.line) == ([], OK)
        assert caplog.messages[-1] == f"the database answers again after {CHECK_SECONDS + LONGEST_RETRY_SECONDS} s"


@pytest.mark.parametrize("has_a_batch", [True, False])
def test_a_server_that_hangs_is_what_the_loop_hangs_in(own_postgresql: PostgreSQL, has_a_batch: bool) -> None:
    with migrated(own_postgresql.new_database()) as engine:
        loop = Loop(engine)
        loop.store_a_batch()
        with ThreadPoolExecutor() as pool:
            with own_postgresql.hanging():
                step = pool.submit(loop.store_a_batch if has_a_batch else loop.step)
                loop.clock.seconds += STALE_SECONDS
                wait_until(
                    lambda: loop.heartbeat.alive.endswith("s: it hangs, waiting for the database"), what="it hangs"
                )
                assert not step.done()
            step.result()

        loop.heartbeat.beat(now=loop.clock.seconds)
        assert loop.heartbeat.ready_line == OK


def test_a_batch_that_is_committed_ends_the_outage_too(own_postgresql: PostgreSQL) -> None:
    with migrated(own_postgresql.new_database()) as engine:
        loop = Loop(engine)
        own_postgresql.stop()
        loop.step()
        own_postgresql.start()
        loop.store_a_batch()

        assert (loop.failing, loop.heartbeat.line) == ([], OK)


@pytest.mark.parametrize("after_a_batch", [True, False])
def test_a_file_that_is_deleted_while_nothing_arrives_ends_the_daemon(
    loop: Loop, sqlite_url: str, tmp_path: Path, after_a_batch: bool
) -> None:
    """As if a batch had come: the next start makes a new file, and the broker still has what is not committed."""
    if after_a_batch:
        loop.store_a_batch()
    loop.step()
    (tmp_path / "emotion.db").unlink()

    with pytest.raises(DatabaseReplacedError):
        loop.step()


def test_a_check_writes_nothing_and_waits_for_no_lock(loop: Loop, tmp_path: Path) -> None:
    loop.store_a_batch()
    loop.step()
    before = statuses(tmp_path)
    other = sqlite3.connect(tmp_path / "emotion.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        loop.step()
    other.close()

    assert statuses(tmp_path) == before
    assert loop.failing == []


def test_the_database_is_not_checked_while_batches_arrive(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[float] = []
    monkeypatch.setattr(Store, "ping", lambda store: checks.append(loop.clock.seconds))
    for _ in range(3):
        loop.step(after=CHECK_SECONDS - 1)
        loop.store_a_batch()
    busy_until = loop.clock.seconds
    assert checks == []

    for _ in range(40):
        loop.step(after=1)
    assert checks == [busy_until + CHECK_SECONDS, busy_until + 2 * CHECK_SECONDS]
