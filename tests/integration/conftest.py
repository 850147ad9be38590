"""The common part of the API's tests: a database that has its tables."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from shared.database import writer_engine
from tests.databases import disposing, make_tables


@pytest.fixture
def writer(database_url: str) -> Iterator[Engine]:
    """The daemon's side of it."""
    make_tables(database_url)
    with disposing(writer_engine(database_url)) as engine:
        yield engine
