"""The example app of examples/nextjs in a browser, and its route, which asks with a token that browsers do not have."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.browser.cameras import SMILING, Cameras
from tests.browser.chromium import Tab
from tests.browser.serving import Server
from tests.nextjs import NextServer, build
from tests.web import HOST, SUMMARY, Answer, ask

TOKEN = "next-0123456789abcdef"


@pytest.fixture(scope="module")
def api(all_cameras: Cameras, shown_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An API that requires a token."""
    log = tmp_path_factory.mktemp("api") / "api.log"
    server = Server(shown_url, log, EMOTION_API_TOKEN=f"other-0123456789abcdef,{TOKEN}")
    with server:
        yield server


@pytest.fixture(scope="module")
def app(api: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NextServer]:
    build()
    with NextServer(api.url, tmp_path_factory.mktemp("next") / "next.log", TOKEN) as server:
        yield server


def get(app: NextServer, search: str, **headers: str) -> Answer:
    connection = HTTPConnection(HOST, app.port, timeout=15)
    try:
        return ask(connection, f"/api/emotions{search}", **headers)
    finally:
        connection.close()


def test_the_page_shows_the_summary_and_the_people_in_view(app: NextServer, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_7", {"gone": (100.0, 0.0, 0.0, 0.0)}, ago=300)
    cameras.hear("jetson_7", SMILING, name="Back door")

    tab.open(f"{app.url}/?device=jetson_7")

    tab.sees("2 people in view")
    assert tab.text("h1") == tab.driver.title == "Back door"
    assert tab.text("#freshness").startswith("Live, updated ")
    assert tab.texts("#totals li") == ["happy: 114 s", "sad: 45 s", "angry: 1 s", "neutral: 2 s"]


def test_the_page_counts_a_crowd_without_loading_all_of_it(app: NextServer, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", {str(number): (1.0, 0.0, 0.0, 0.0) for number in range(150)})

    tab.open(app.url)

    tab.sees("150 people in view")
    assert "current_people" not in json.loads(get(app, "?device_id=jetson_1&limit=10000").body)


def test_an_old_batch_is_shown_as_stale_and_nobody_as_in_view(app: NextServer, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", SMILING, ago=300)

    tab.open(app.url)

    tab.sees("Stale: the newest batch is 30")
    assert "in view" not in tab.text()


def test_a_device_without_a_batch_is_no_error(app: NextServer, cameras: Cameras, tab: Tab) -> None:
    tab.open(f"{app.url}/?device=jetson_9")

    tab.sees("This device has not sent a batch yet.")
    assert tab.text("h1") == "jetson_9"


@pytest.mark.requests_fail
def test_while_the_api_is_down_the_page_says_so_and_its_values_become_stale(
    app: NextServer, own_api: Server, cameras: Cameras, tab: Tab, tmp_path: Path
) -> None:
    cameras.hear("jetson_1", SMILING, ago=20)
    with NextServer(own_api.url, tmp_path / "next.log") as server:
        tab.open(server.url)
        tab.sees("Live, updated 2")

        own_api.stop()

        tab.sees("No new data: The emotion API does not answer.")
        tab.sees("Stale: the newest batch is 3")
        assert tab.texts("#totals li")[0] == "happy: 14 s"


@pytest.mark.requests_fail
def test_the_page_shows_the_apis_reason_for_a_refusal(app: NextServer, tab: Tab) -> None:
    tab.open(f"{app.url}/?device=a%20b")

    tab.sees("No new data: device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -")


def test_the_route_passes_the_summary_on_and_does_not_send_it_twice(
    app: NextServer, api: Server, cameras: Cameras
) -> None:
    cameras.hear("jetson_2", SMILING)
    query = "?device_id=jetson_2&fields=totals"
    expected = api.ask(f"{SUMMARY}{query}", Authorization=f"Bearer {TOKEN}")

    first = get(app, "?device_id=jetson_2")
    second = get(app, "?device_id=jetson_2", If_None_Match=first.headers["etag"])

    assert (first.status, json.loads(first.body)) == (200, json.loads(expected.body))
    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "private, no-cache"
    assert (second.status, second.body) == (304, b"")


def test_the_route_without_the_right_token_gets_nothing(app: NextServer, api: Server, tmp_path: Path) -> None:
    with NextServer(api.url, tmp_path / "next.log", "wrong-0123456789abcdef") as server:
        refused = get(server, "?device_id=jetson_2")

    assert refused.status == 401
    assert "etag" not in refused.headers
    assert b"emotion_totals" not in refused.body
