"""What the API responds while its database cannot be read."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from emotion_api.reading.reader import SummaryReader
from emotion_api.reading.source import DatabaseUnavailable, Source
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
