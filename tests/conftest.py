"""Fixtures that every kind of test may ask for: a real broker, and an empty real database of either kind."""

import os
import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from tests.brokers import Broker
from tests.postgresql import PostgreSQL, postgresql_server

# The machine may be busy. And a unit test may open no file, not even to store the example that fails.
settings.register_profile("tests", deadline=None, database=None)
settings.load_profile("tests")

PROGRAMS = {"start_broker", "broker", "postgresql", "own_postgresql"}
"""Fixtures that start one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="tests/faults with the full counts: takes an hour")
    parser.addoption("--seed", type=int, default=random.randrange(10**6), help="repeat what tests/faults did by chance")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for a broker or for PostgreSQL."""
    for item in items:
        if PROGRAMS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.program)


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """A command sets the umask of its process, which here is that of other tests, too."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def start_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Broker]]:
    """Start a broker with extra lines for its configuration."""
    brokers = []

    def start(extra: str = "") -> Broker:
        broker = Broker(tmp_path_factory.mktemp("broker"), extra)
        brokers.append(broker)
        broker.start()
        return broker

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture
def broker(start_broker: Callable[[str], Broker]) -> Broker:
    return start_broker("")


@pytest.fixture
def topic_prefix() -> str:
    return "emotions"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with postgresql_server() as server:
        yield server


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server of this test's own, which it may end."""
    with postgresql_server() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/emotion.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.program)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: every test of a store or a query runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        url: str = request.getfixturevalue("sqlite_url")
        return url
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.program)])
def new_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Like `database_url`, for a test that needs several: each call gives another empty database."""
    if request.param == "sqlite":
        numbers = count(1)
        return lambda: f"sqlite:///{tmp_path}/emotion_{next(numbers)}.db"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.new_database
