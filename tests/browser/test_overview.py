"""The page's overview of all cameras: it ranks them, moves none by itself, and finds one among many."""

from datetime import timedelta
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.cameras import Cameras, Seconds
from tests.browser.chromium import DESKTOP, PHONE, Tab
from tests.browser.serving import Server
from tests.waiting import wait_until
from tests.web import DEVICES, OVERVIEW, SUMMARY

PAGE = "/dashboard"
LIST = "#overview-list"
MINUS = "\N{MINUS SIGN}"
WEEK = timedelta(days=7)

NAMES = f"""
return [...document.querySelectorAll("{LIST} li:not([hidden]) .name")].map((node) => node.textContent);
"""
TAB_STOPS = """
return [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex]")]
  .filter((node) => node.checkVisibility() && node.tabIndex >= 0).length;
"""
SEARCH = """
const field = document.getElementById("find");
field.value = arguments[0];
field.dispatchEvent(new Event("input"));
"""
WATCH = f"""
window.changes = 0;
new MutationObserver((all) => {{ window.changes += all.length; }})
  .observe(document.querySelector("{LIST}"), {{ subtree: true, childList: true, attributes: true }});
"""
FOCUSED = 'return document.activeElement.querySelector(".name")?.textContent ?? document.activeElement.id;'


def shop(cameras: Cameras) -> None:
    """Three cameras: the first has the most people, the second the most anger, and the third is happy and silent."""
    for device_id, name, people, seconds, ago in (
        ("jetson_1", "Entrance", 3, (500.0, 100.0, 100.0, 300.0), 0),
        ("jetson_2", "Counter", 1, (100.0, 100.0, 700.0, 100.0), 0),
        ("jetson_3", "Stairs", 2, (900.0, 0.0, 0.0, 100.0), 200),
    ):
        cameras.remember(device_id, seconds, ago=timedelta())
        cameras.hear(device_id, people={str(each): (1.0, 0.0, 0.0, 0.0) for each in range(people)}, name=name, ago=ago)


def opened(tab: Tab, api: Server, query: str = "") -> None:
    tab.open(f"{api.url}{PAGE}{query}")
    tab.sees("live", "#overview-count")


def names(tab: Tab) -> list[str]:
    found: list[str] = tab.ask(NAMES)
    return found


def row(tab: Tab, name: str) -> str:
    (text,) = [text for text in tab.texts(f"{LIST} li") if text.startswith(name)]
    return text


def test_with_several_cameras_the_page_begins_with_all_of_them(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    opened(tab, api)

    assert tab.text("#overview-count") == "2 of 3 cameras live, 4 in view"
    assert "Entrance jetson_1 Live 3 in view Happy 50 %" in row(tab, "Entrance")
    assert "16 min 40 s today" in row(tab, "Entrance")
    assert "Silent for 3 min 0 in view" in row(tab, "Stairs")
    assert tab.requests(OVERVIEW)
    assert not tab.requests(DEVICES) + tab.requests(SUMMARY)


def test_with_one_camera_the_page_shows_that_one(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(name="Entrance")
    tab.open(api.url + PAGE)

    tab.sees("Entrance", "#camera-name")
    assert tab.ask("return location.search") == "?device=jetson_1"


@pytest.mark.parametrize(
    ("sort", "order", "shown"),
    [
        ("Busiest", ["Entrance", "Counter", "Stairs"], "Happy 50 %"),
        ("Happiest", ["Stairs", "Entrance", "Counter"], "Happy 50 %"),
        ("Angriest", ["Counter", "Entrance", "Stairs"], "Angry 10 %"),
        ("Name", ["Counter", "Entrance", "Stairs"], "Happy 50 %"),
    ],
)
def test_one_click_ranks_the_cameras(
    sort: str, order: list[str], shown: str, api: Server, cameras: Cameras, tab: Tab
) -> None:
    shop(cameras)
    opened(tab, api)

    tab.driver.find_element("link text", sort).click()
    assert names(tab) == order
    assert shown in row(tab, "Entrance")

    tab.driver.refresh()
    tab.sees("live", "#overview-count")
    assert names(tab) == order


def test_no_camera_moves_by_itself(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    opened(tab, api)

    cameras.hear("jetson_2", people={str(each): (2.0, 0.0, 0.0, 0.0) for each in range(9)}, name="Counter")
    cameras.hear("jetson_0", people={str(each): (2.0, 0.0, 0.0, 0.0) for each in range(20)}, name="A new one")
    tab.sees("32 in view", "#overview-count")
    assert names(tab) == ["Entrance", "Counter", "Stairs", "A new one"]

    tab.driver.find_element("link text", "Busiest").click()
    assert names(tab) == ["A new one", "Counter", "Entrance", "Stairs"]


@pytest.mark.parametrize(
    ("today", "before", "change", "is_pale"),
    [
        (1_200.0, 1_000.0, "+20 %", False),
        (900.0, 1_000.0, f"{MINUS}10 %", False),
        (1_000.0, 1_000.0, "±0 %", False),
        (9_000.0, 601.0, ">+999 %", False),
        (1_200.0, 61.0, ">+999 %", True),
        (100.0, 200.0, f"{MINUS}50 %", True),
        (1_200.0, 59.0, "", True),
    ],
)
def test_today_is_compared_with_the_same_weekday(
    today: float, before: float, change: str, is_pale: bool, api: Server, cameras: Cameras, tab: Tab
) -> None:
    seconds: list[Seconds] = [(value, 0.0, 0.0, 0.0) for value in (today, before)]
    cameras.hear("jetson_2")
    cameras.remember("jetson_1", seconds[0], ago=timedelta())
    cameras.remember("jetson_1", seconds[1], ago=WEEK + timedelta(minutes=1))
    cameras.hear("jetson_1", name="Hall")
    opened(tab, api)

    shown: Any = tab.ask(
        f"""const change = [...document.querySelectorAll("{LIST} li")].find((node) => node.innerText.includes("Hall"))
        .querySelector(".change"); return [change.textContent, change.classList.contains("pale")];"""
    )
    assert shown == [change, is_pale]


def test_a_wrong_clock_and_a_camera_that_never_sent_are_named(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", skew=7_200)
    cameras.hear("jetson_2", ago=500)
    cameras.say("jetson_2", "offline")
    cameras.say("jetson_3", "online")
    opened(tab, api)

    assert "Live, clock 2 h ahead" in row(tab, "jetson_1" if "jetson_1" in names(tab) else "Entrance Camera")
    assert "Offline for 8 min" in row(tab, "jetson_2")
    assert "Never sent a batch" in row(tab, "jetson_3")


def test_two_cameras_of_one_name_are_told_apart_everywhere(api: Server, cameras: Cameras, tab: Tab) -> None:
    for number in (1, 2):
        cameras.hear(f"jetson_{number}", name="Hall")
    opened(tab, api)

    assert [text.split(" Live")[0] for text in tab.texts(f"{LIST} li")] == ["Hall jetson_1", "Hall jetson_2"]
    tab.click(f"{LIST} li:last-child a")
    tab.sees("jetson_2", "#camera-id")
    assert tab.texts("#all-list .id") == ["jetson_1", "jetson_2"]
    assert {"Hall (jetson_1): live", "Hall (jetson_2): live"} < set(
        tab.ask("return [...document.querySelectorAll('#picker option')].map((each) => each.textContent)")
    )
    assert tab.ask("return document.title") == "Hall (jetson_2): live"


def test_a_camera_leads_back_to_all_cameras(api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    opened(tab, api)
    tab.click(f"{LIST} li:first-child a")
    tab.sees("Entrance", "#camera-name")
    assert tab.ask("return location.search") == "?device=jetson_1"

    tab.driver.back()
    tab.sees("3 cameras", "#overview-count")
    tab.driver.forward()
    tab.sees("Entrance", "#camera-name")
    tab.ask("picker.value = ''; picker.dispatchEvent(new Event('change'));")
    tab.sees("3 cameras", "#overview-count")


def test_the_search_finds_names_and_ids(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_17", name="Café Süd")
    cameras.hear("jetson_2", name="Lobby")
    cameras.hear("gate-9", name="Gate")
    opened(tab, api)

    for text, found in {
        "cafe": ["Café Süd"],
        "SÜD caf": ["Café Süd"],
        "jetson": ["Café Süd", "Lobby"],
        "gate-": ["Gate"],
        "nothing": [],
        " ": ["Café Süd", "Gate", "Lobby"],
    }.items():
        tab.ask(SEARCH, text)
        assert sorted(names(tab)) == found
        assert tab.text("#found") == (f"{len(found)} camera{'s' * (len(found) != 1)} found" if text.strip() else "")


def test_a_list_of_cameras_is_one_tab_stop(api: Server, cameras: Cameras, tab: Tab) -> None:
    for number in range(1, 9):
        cameras.hear(f"cam_{number}", name=f"{'Hall' if number % 2 else 'Gate'} {number}")
    opened(tab, api, "?sort=name")
    stops = tab.ask(TAB_STOPS)
    cameras.hear("cam_9", name="Roof")
    tab.sees("9 cameras", "#overview-count")
    assert tab.ask(TAB_STOPS) == stops

    tab.ask("document.getElementById('find').focus()")
    tab.press(Keys.TAB)
    assert tab.ask(FOCUSED) == "Gate 2"
    for keys, name in (
        ((Keys.ARROW_DOWN,), "Gate 4"),
        ((Keys.END,), "Roof"),
        ((Keys.ARROW_UP,), "Hall 7"),
        ((Keys.HOME,), "Gate 2"),
        (("h",), "Hall 1"),
        ((Keys.ARROW_DOWN,), "Hall 3"),
    ):
        tab.press(*keys)
        assert tab.ask(FOCUSED) == name
    tab.press(Keys.ENTER)
    tab.sees("Hall 3", "#camera-name")
    assert tab.ask("return document.querySelectorAll('#all-list [tabindex=\"0\"]').length") == 1


@pytest.mark.parametrize("width", [PHONE, 390, 1024, DESKTOP, 1440, 1920])
def test_nothing_is_wider_than_the_screen(width: int, api: Server, cameras: Cameras, tab: Tab) -> None:
    shop(cameras)
    cameras.hear("jetson_4", name="A very long name that was typed without a thought of phones " * 3)
    cameras.hear("x" * 64)
    tab.look(width)
    opened(tab, api)

    assert tab.ask("return document.documentElement.scrollWidth") <= width


def test_five_hundred_cameras_are_one_list(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear_many(500)
    opened(tab, api)

    assert tab.text("#overview-count").startswith("500 of 500 cameras live")
    assert tab.ask(TAB_STOPS) < 12
    first = tab.ask(f'return document.querySelector("{LIST} li")')
    tab.ask(WATCH)
    before = len(tab.requests(OVERVIEW))
    cameras.hear("cam_7", people={"1": (1.0, 0.0, 0.0, 0.0)})
    wait_until(lambda: len(tab.requests(OVERVIEW)) > before + 1, what="two more overviews")
    assert 0 < tab.ask("return changes") < 50, "only the changed row"
    assert tab.ask(f'return document.querySelector("{LIST} li")') == first
