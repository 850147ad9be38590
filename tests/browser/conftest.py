"""A browser for all tests of a process, a tab for each, and cameras in a database that the API reads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.cameras import Cameras
from tests.browser.chromium import Chromium, Tab
from tests.browser.serving import Server


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def tab(chromium: Chromium, request: pytest.FixtureRequest) -> Iterator[Tab]:
    """A new tab. At the end its console has to be empty; requests may fail where the test is marked so."""
    tab = chromium.new_tab()
    tab.complaints()
    yield tab
    complaints = tab.complaints()
    chromium.close_tabs()
    if request.node.get_closest_marker("requests_fail"):
        complaints = [each for each in complaints if each["source"] != "network"]
    assert complaints == []


@pytest.fixture(scope="session")
def shown_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database that all tests of a process share: a start of gunicorn takes as long as most of them."""
    return f"sqlite:///{tmp_path_factory.mktemp('shown')}/emotion.db"


@pytest.fixture(scope="session")
def all_cameras(shown_url: str) -> Iterator[Cameras]:
    with Cameras(shown_url) as cameras:
        yield cameras


@pytest.fixture
def cameras(all_cameras: Cameras) -> Cameras:
    """None yet."""
    all_cameras.forget()
    return all_cameras


@pytest.fixture(scope="session")
def api(all_cameras: Cameras, shown_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(shown_url, tmp_path_factory.mktemp("api") / "api.log")
    with server:
        yield server


@pytest.fixture
def own_api(shown_url: str, tmp_path: Path) -> Iterator[Server]:
    """Another one, which a test may stop."""
    server = Server(shown_url, tmp_path / "api.log")
    with server:
        yield server
