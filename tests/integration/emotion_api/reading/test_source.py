"""The API's responses while its database cannot be read, or while it builds long responses."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event

import pytest
from sqlalchemy import Engine, text

from emotion_api.bad_request import BadRequest
from emotion_api.history import HistoryRequest
from emotion_api.reading import queries
from emotion_api.reading import source as source_module
from emotion_api.reading.change_detector import BEHIND_SECONDS, PostgresqlChangeDetector
from emotion_api.reading.reader import HistoryReader, SummaryReader
from emotion_api.reading.source import Build, Busy, DatabaseUnavailable, Source
from emotion_api.summary import SummaryRequest
from shared.database import reader_engine, sqlite_path, writer_engine
from tests.databases import disposing, make_tables, migrated, raise_revision_of
from tests.fakes import Clock
from tests.postgresql import PostgreSQL

REQUEST = SummaryRequest("jetson_1")


@pytest.fixture
def source(database_url: str) -> Iterator[Source]:
    with disposing(reader_engine(database_url)) as engine:
        yield Source(engine, file=sqlite_path(database_url))


@pytest.fixture
def writer(database_url: str) -> Iterator[Engine]:
    make_tables(database_url)
    with disposing(writer_engine(database_url)) as engine:
        yield engine


def execute(writer: Engine, statement: str) -> None:
    with writer.begin() as connection:
        connection.execute(text(statement))


def test_an_older_schema_is_an_outage_whose_one_log_line_says_what_to_do(
    writer: Engine, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    reader = SummaryReader(source, device_names={})
    execute(writer, "ALTER TABLE device_state DROP COLUMN revision")
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            reader.read(REQUEST)
        with pytest.raises(DatabaseUnavailable):
            source.check()
    (line,) = caplog.messages
    execute(writer, "ALTER TABLE device_state ADD COLUMN revision BIGINT NOT NULL DEFAULT 0")
    reader.read(REQUEST)

    assert line.startswith("cannot read the database, answering 503 until it can be read: ")
    assert "revision" in line
    assert line.endswith(": start emotion_daemon of the same version, which creates and upgrades the tables")
    assert caplog.messages[1].startswith("the database can be read again")


def test_all_selects_of_a_build_see_the_same_commits(writer: Engine, source: Source) -> None:
    execute(writer, "INSERT INTO device (device_id, device_name) VALUES ('jetson_1', 'before')")

    def read(request: SummaryRequest, build: Build) -> Iterable[bytes]:
        names = []
        for _ in range(2):
            names.append(build.connection.scalar(text("SELECT device_name FROM device")))
            execute(writer, "UPDATE device SET device_name = 'after'")
        return [" ".join(map(str, names)).encode()]

    assert source.respond(REQUEST, read, gzip=False).body == b"before before"


class TestLongBuilds:
    """One is built at a time: its process answers other requests in its pauses."""

    LONG = HistoryRequest("jetson_1", datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC), step=600)

    def test_one_that_waits_too_long_for_its_turn_gives_up(
        self, writer: Engine, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(source_module, "LONGEST_WAIT_SECONDS", 0.05)
        under_way, go_on = Event(), Event()

        def read(request: HistoryRequest, build: Build) -> Iterable[bytes]:
            build.must_be_alone()
            under_way.set()
            assert go_on.wait(60)
            return [b"built"]

        with ThreadPoolExecutor() as pool:
            first = pool.submit(source.respond, self.LONG, read, gzip=False)
            assert under_way.wait(60)
            try:
                with pytest.raises(Busy):
                    HistoryReader(source, device_names={}).read(replace(self.LONG, step=1200))
                short = SummaryReader(source, device_names={}).read(REQUEST)
            finally:
                go_on.set()

            assert first.result().body == b"built"
        assert b"jetson_1" in short.body

    def test_after_it_the_next_one_is_built(self, writer: Engine, source: Source) -> None:
        def broken(request: HistoryRequest, build: Build) -> Iterable[bytes]:
            build.must_be_alone()
            raise BadRequest("broken")

        with pytest.raises(BadRequest):
            source.respond(self.LONG, broken, gzip=False)

        assert b"points" in HistoryReader(source, device_names={}).read(self.LONG).body


class TestSameResponse:
    """Requests for one response share a build, and each sees what was committed before it came."""

    def respond_twice(self, source: Source, during_the_build: Callable[[], None]) -> list[bytes]:
        """Two requests, the second one during the build of the first."""
        bodies = iter([b"first", b"second"])
        under_way, go_on = Event(), Event()

        def read(request: SummaryRequest, build: Build) -> Iterable[bytes]:
            queries.any_device(build.connection)  # the transaction begins
            under_way.set()
            assert go_on.wait(60)
            return [next(bodies)]

        with ThreadPoolExecutor() as pool:
            requests = [pool.submit(source.respond, REQUEST, read, gzip=False)]
            assert under_way.wait(60)
            during_the_build()
            requests.append(pool.submit(source.respond, REQUEST, read, gzip=False))
            go_on.set()
        return [each.result().body for each in requests]

    def test_they_get_the_same_one(self, writer: Engine, source: Source) -> None:
        assert self.respond_twice(source, lambda: None) == [b"first", b"first"]

    def test_a_commit_during_the_build_makes_another_one(self, writer: Engine, source: Source) -> None:
        bodies = self.respond_twice(source, lambda: raise_revision_of(writer, "jetson_1"))

        assert bodies == [b"first", b"second"]

    def test_an_error_is_raised_to_each(self, writer: Engine, source: Source) -> None:
        def broken(request: SummaryRequest, build: Build) -> Iterable[bytes]:
            raise BadRequest("broken")

        for _ in range(2):
            with pytest.raises(BadRequest):
                source.respond(REQUEST, broken, gzip=False)


def test_requests_that_come_at_once_share_a_query(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    with migrated(url) as writer, disposing(reader_engine(url)) as engine:
        devices = [f"jetson_{number}" for number in range(20)]
        for device_id in devices:
            raise_revision_of(writer, device_id)
        changes = PostgresqlChangeDetector(engine)
        with ThreadPoolExecutor(len(devices) + 1) as pool:
            for _ in range(5):
                found = [now.revision() for now in pool.map(changes.now, [*devices, None])]

                assert found == [(1,)] * len(devices) + [(20, 20)]


def test_a_connection_that_the_server_has_closed_is_replaced(postgresql: PostgreSQL) -> None:
    url = postgresql.new_database()
    with migrated(url) as writer, disposing(reader_engine(url)) as engine:
        raise_revision_of(writer, "jetson_1")
        changes = PostgresqlChangeDetector(engine)
        before = changes.now("jetson_1").revision()
        with writer.begin() as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            connection.exec_driver_sql(f"{others} AND pid <> pg_backend_pid()")

        assert changes.now("jetson_1").revision() == before


def test_a_server_that_is_behind_is_refused_for_a_while(postgresql: PostgreSQL) -> None:
    """As after a failover of the API's connections to a standby that has replayed less."""
    url, clock = postgresql.new_database(), Clock()
    with migrated(url) as writer, disposing(reader_engine(url)) as engine:
        for _ in range(3):
            raise_revision_of(writer, "jetson_1")
        summaries = SummaryReader(Source(engine, file=None, monotonic=clock), device_names={})
        summaries.read(REQUEST)
        execute(writer, "UPDATE device_state SET revision = 2")

        for request in (REQUEST, SummaryRequest("jetson_1", limit=1)):
            with pytest.raises(DatabaseUnavailable, match="behind"):
                summaries.read(request)

        clock.seconds += BEHIND_SECONDS
        assert b"jetson_1" in summaries.read(REQUEST).body
