"""The wall: a screen that no visitor attends. All that it needs is in its address."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.browser.cameras import Cameras
from tests.browser.chromium import Tab
from tests.browser.serving import Server
from tests.web import OVERVIEW

WALL = "/dashboard?wall="

WAKE_LOCK = """
window.locks = 0;
Object.defineProperty(navigator, "wakeLock", { value: { request: async () => { window.locks += 1; return {}; } } });
"""

TOKEN, WALL_TOKEN = "dashboard-0123456789+/", "wall-0123456789abcdef"


@pytest.fixture
def locked_api(shown_url: str, tmp_path: Path) -> Iterator[Server]:
    """The API with a token for everything, and one for the overview alone."""
    tokens = f"{TOKEN},{WALL_TOKEN};views=overview"
    server = Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=tokens)
    with server:
        yield server


def shop(cameras: Cameras) -> None:
    for number, name in enumerate(["Entrance", "Counter", "Stairs"], 1):
        cameras.remember(f"jetson_{number}", (600.0, 0.0, 0.0, 300.0), ago=timedelta())
        cameras.hear(f"jetson_{number}", name=name, people={f"person-{number}": (1.0, 0.0, 0.0, 0.0)})


def test_the_wall_has_all_cameras_and_nothing_else(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    tab.open(f"{api.url}{WALL}overview")

    tab.sees("3 in view", "#wall-title")
    assert tab.texts("#wall-tiles li") == [
        f"{name} jetson_{number} Live 1 in view Happy 67 % 15 min today"
        for name, number in (("Counter", 2), ("Entrance", 1), ("Stairs", 3))
    ]
    assert tab.texts("header, footer, #content, #overview, #notice") == []
    assert "person-" not in tab.driver.page_source


def test_a_camera_has_a_wall_of_its_own(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    tab.open(f"{api.url}{WALL}jetson_2")

    tab.sees("Counter jetson_2 Live 1 in view", "#wall-tiles")
    assert len(tab.texts("#wall-tiles li")) == 1


def test_an_unknown_camera_is_named(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    tab.open(f"{api.url}{WALL}jetson_9")

    tab.sees("No camera jetson_9 is known", "#wall-title")


def test_the_wall_decides_of_which_cameras_it_is(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    tab.open(f"{api.url}/dashboard?device=jetson_1&wall=overview")

    tab.sees("3 in view", "#wall-title")


def test_a_wall_without_cameras_says_so(api: Server, cameras: Cameras, tab: Tab) -> None:
    tab.open(f"{api.url}{WALL}overview")

    tab.sees("No camera has sent anything yet", "#wall-title")


@pytest.mark.parametrize("count", [1, 3, 8, 24, 48])
@pytest.mark.parametrize("width", [390, 1024, 1440, 1920])
def test_the_wall_fits_the_screen(width: int, count: int, api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear_many(count)
    tab.look(width)
    tab.open(f"{api.url}{WALL}overview")
    tab.sees("in view", "#wall-tiles")

    assert len(tab.texts("#wall-tiles li")) == min(count, 24)
    assert tab.ask(
        "return [document.documentElement.scrollWidth <= innerWidth, document.body.scrollHeight <= innerHeight]"
    ) == [
        True,
        True,
    ]


def test_the_screen_stays_on(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    tab.run_first(WAKE_LOCK)
    tab.open(f"{api.url}{WALL}overview")
    tab.sees("in view", "#wall-title")
    assert tab.ask("return locks") == 1

    tab.hide()
    tab.show()
    tab.ask("document.dispatchEvent(new Event('visibilitychange'))")
    assert tab.ask("return locks") >= 2


@pytest.mark.requests_fail
def test_the_wall_outlives_a_restart_of_the_api(
    own_api: Server, cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    shop(cameras)
    tab.open(f"{own_api.url}{WALL}overview")
    tab.sees("3 in view", "#wall-title")

    own_api.stop()
    tab.sees("No answer for", "#wall-title")
    assert len(tab.texts("#wall-tiles li")) == 3
    assert tab.texts("#notice") == []
    again = Server(shown_url, tmp_path / "again.log")
    again.port = own_api.port
    with again:
        cameras.hear("jetson_1", name="Entrance", people={})
        tab.sees("2 in view", "#wall-title", seconds=60)


@pytest.mark.requests_fail
def test_a_token_in_the_address_stays_for_the_wall_and_moves_for_the_page(
    locked_api: Server, cameras: Cameras, tab: Tab
) -> None:
    shop(cameras)
    tab.open(f"{locked_api.url}{WALL}overview#token={WALL_TOKEN}")
    tab.sees("3 in view", "#wall-title")
    assert tab.ask("return [location.hash, sessionStorage.length]") == [f"#token={WALL_TOKEN}", 0]
    tab.driver.refresh()
    tab.sees("3 in view", "#wall-title")

    tab.open("about:blank")
    tab.open(f"{locked_api.url}/dashboard#token={TOKEN}")
    tab.sees("3 of 3 cameras live", "#overview-count")
    assert tab.ask("return [location.hash, sessionStorage.length]") == ["", 1]
    assert tab.requests(OVERVIEW)


@pytest.mark.requests_fail
def test_a_token_without_the_view_is_told_so(locked_api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    tab.open(f"{locked_api.url}/dashboard?device=jetson_1#token={WALL_TOKEN}")

    tab.sees("The token does not allow this view", "#notice")
    tab.sees("limited to other views: overview", "#notice")
