"""A database URL with several PostgreSQL servers: the programs find the one that accepts writes."""

from collections.abc import Callable
from typing import cast

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, text

from shared.database import reader_engine, writer_engine
from shared.settings import check_database_url
from tests.databases import disposing
from tests.postgresql import PostgreSQL

NOTATIONS = ("host=127.0.0.1:{}&host=127.0.0.1:{}", "host=127.0.0.1,127.0.0.1&port={},{}")


def ports(first: PostgreSQL, second: PostgreSQL) -> list[int]:
    """The port of the server that daemon and API find, with either notation."""
    found = []
    for notation in NOTATIONS:
        hosts = notation.format(first.port, second.port)
        url = f"postgresql+psycopg://postgres@/postgres?{hosts}&target_session_attrs=read-write"
        check_database_url(url)
        for make_engine in (writer_engine, reader_engine):
            with disposing(make_engine(url)) as engine, engine.connect() as connection:
                found.append(connection.scalar(text("SELECT inet_server_port()")))
    return found


def test_a_server_that_only_reads_or_is_away_is_left_out(postgresql: PostgreSQL, own_postgresql: PostgreSQL) -> None:
    url = f"postgresql+psycopg://postgres@127.0.0.1:{own_postgresql.port}/postgres"
    with disposing(create_engine(url)) as engine, engine.begin() as connection:
        connection.execute(text("ALTER DATABASE postgres SET default_transaction_read_only = on"))
    assert ports(own_postgresql, postgresql) == [postgresql.port] * 4

    own_postgresql.kill()
    assert ports(own_postgresql, postgresql) == [postgresql.port] * 4


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("make_engine", [writer_engine, reader_engine])
def test_a_server_that_does_not_answer_delays_a_connection_by_two_seconds(
    postgresql: PostgreSQL, make_engine: Callable[[str], Engine], notation: str
) -> None:
    hosts = notation.format(postgresql.port, postgresql.port)
    with (
        disposing(make_engine(f"postgresql+psycopg://postgres@/postgres?{hosts}")) as engine,
        engine.connect() as connection,
    ):
        driver = cast(psycopg.Connection, connection.connection.driver_connection)
        assert driver.info.get_parameters()["connect_timeout"] == "2"
