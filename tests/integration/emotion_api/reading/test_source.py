"""The API's responses while its database cannot be read, or while it builds long responses."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event

import pytest
from sqlalchemy import Engine, text

from emotion_api.bad_request import BadRequest
from emotion_api.history import HistoryRequest
from emotion_api.reading import source as source_module
from emotion_api.reading.reader import HistoryReader, SummaryReader
from emotion_api.reading.source import Build, Busy, DatabaseUnavailable, Source
from emotion_api.summary import SummaryRequest
from shared.database import reader_engine, sqlite_path, writer_engine
from tests.databases import disposing, make_tables

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
                    HistoryReader(source, device_names={}).read(self.LONG)
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
