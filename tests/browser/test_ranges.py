"""The live page shows the history of any days, in other views, and compared with others."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.browser.cameras import Cameras
from tests.browser.chromium import Tab
from tests.browser.serving import Server
from tests.waiting import wait_until
from tests.web import HISTORY

PAGE = "/dashboard?device=jetson_1"
DAY = timedelta(days=1)

RIGHT_TO_LEFT = "מצלמה 7"

BARS = "return [...document.querySelectorAll('#plot g rect')].map((bar) => bar.classList.value)"
URL = "return location.search"


@pytest.fixture
def zone(cameras: Cameras, tab: Tab) -> None:
    """A site at which it is noon, and its live camera: a minute of today, five of yesterday, two of last week."""
    tab.site_at_noon()
    cameras.hear(name="Entrance")
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 0.0), ago=timedelta(hours=3), people=2)
    cameras.remember("jetson_1", (0.0, 300.0, 0.0, 0.0), ago=DAY, people=9)
    cameras.remember("jetson_1", (30.0, 0.0, 10.0, 0.0), ago=7 * DAY + timedelta(hours=3), people=1)


@pytest.mark.usefixtures("zone")
def test_the_totals_are_those_of_the_range_and_the_way_back_leads_back(api: Server, tab: Tab) -> None:
    tab.open(api.url + PAGE)
    tab.sees("Happy 1 min 100 %", "#totals-list")

    tab.driver.find_element("link text", "Yesterday").click()
    tab.sees("Sad 5 min 100 %", "#totals-list li:nth-child(2)")
    assert tab.ask(URL) == "?device=jetson_1&range=yesterday"
    tab.driver.find_element("link text", "7 days").click()
    tab.sees("Happy 1 min 17 %", "#totals-list")
    tab.driver.back()
    tab.driver.back()
    tab.sees("Happy 1 min 100 %", "#totals-list")
    assert tab.ask(URL) == "?device=jetson_1"


@pytest.mark.usefixtures("zone")
def test_earlier_and_later_move_by_the_length_of_the_range(api: Server, tab: Tab) -> None:
    tab.open(api.url + PAGE)
    tab.sees("Happy 1 min 100 %", "#totals-list")
    assert not tab.driver.find_element("id", "later").is_enabled()

    tab.click("#earlier")
    tab.sees("Sad 5 min 100 %", "#totals-list li:nth-child(2)")
    assert tab.ask(URL) == "?device=jetson_1&range=yesterday"
    tab.click("#later")
    tab.sees("Happy 1 min 100 %", "#totals-list")


@pytest.mark.usefixtures("zone")
def test_two_dates_are_a_range(api: Server, tab: Tab) -> None:
    tab.open(api.url + PAGE)
    tab.sees("Happy 1 min 100 %", "#totals-list")
    today = datetime.fromisoformat(tab.ask("return document.querySelector('#to').value")).date()

    tab.ask(
        """const from = document.querySelector("#from");
        from.value = arguments[0];
        from.dispatchEvent(new Event("change"));""",
        str(today - 7 * DAY),
    )

    tab.sees("Happy 1 min 30 s 22 %", "#totals-list")
    assert tab.ask(URL) == f"?device=jetson_1&range={today - 7 * DAY}..{today}"


@pytest.mark.usefixtures("zone")
def test_the_cursor_stays_at_its_time_when_the_data_move(api: Server, cameras: Cameras, tab: Tab) -> None:
    tab.open(api.url + PAGE)
    tab.sees("As a table", "#history")
    tab.ask("document.querySelector('#cursor').focus()")
    for _ in range(300):
        if "happy 1 min" in tab.text("#readout"):
            break
        tab.press(Keys.ARROW_LEFT)
    before = tab.text("#readout")
    assert "happy 1 min" in before

    with tab.answers("Angry 7 s", "#totals-list li:nth-child(3)", path=HISTORY):
        cameras.remember("jetson_1", (0.0, 0.0, 7.0, 0.0), ago=timedelta(minutes=20), people=1)

    assert tab.text("#readout").partition(":")[0] == before.partition(":")[0]


@pytest.mark.usefixtures("zone")
def test_the_chart_has_views_of_time_of_shares_and_of_people(api: Server, tab: Tab) -> None:
    tab.open(f"{api.url}{PAGE}&range=7d")
    tab.sees("As a table", "#history")
    assert tab.ask(BARS) == ["sad", "happy"]

    tab.driver.find_element("link text", "People").click()
    wait_until(lambda: tab.ask(BARS) == ["crowd", "crowd"], what="the bars are people")
    assert tab.ask(URL) == "?device=jetson_1&range=7d&view=people"
    tab.driver.find_element("link text", "100 %").click()
    tab.sees("100 %", "#plot")
    heights = tab.ask("return [...document.querySelectorAll('#plot g rect')].map((bar) => +bar.getAttribute('height'))")
    assert heights == [170, 170]


@pytest.mark.usefixtures("zone")
def test_a_day_is_compared_with_the_same_weekday_a_week_before(api: Server, tab: Tab) -> None:
    tab.open(api.url + PAGE)
    tab.sees("Happy 1 min 100 %", "#totals-list")

    Select(tab.driver.find_element("id", "compare")).select_by_value("week")

    tab.sees("50 % more than last ", "#compared")
    assert tab.ask(URL) == "?device=jetson_1&compare=week"
    assert tab.ask("return document.querySelectorAll('#plot .outline').length") == 1


@pytest.mark.usefixtures("zone")
def test_a_camera_is_compared_with_another_one(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_2", name="Entrance")
    cameras.remember("jetson_2", (0.0, 120.0, 0.0, 0.0), ago=timedelta(hours=3))
    tab.open(f"{api.url}{PAGE}&compare=jetson_2")

    tab.sees("50 % less than Entrance (jetson_2)", "#compared")
    Select(tab.driver.find_element("id", "compare")).select_by_value("")
    wait_until(lambda: tab.text("#compared") == "", what="nothing is compared")


@pytest.mark.requests_fail
@pytest.mark.usefixtures("zone")
def test_a_comparison_that_is_none_is_told(api: Server, tab: Tab) -> None:
    tab.open(f"{api.url}{PAGE}&compare=a%20b")

    tab.sees("It cannot be compared. device_id has to be", "#compared")
    assert tab.text("#totals-list li") == "Happy 1 min 100 %"


@pytest.mark.usefixtures("zone")
def test_a_selection_in_the_table_is_not_lost(api: Server, cameras: Cameras, tab: Tab) -> None:
    tab.open(api.url + PAGE)
    tab.sees("As a table", "#history")
    tab.click("#history summary")
    tab.ask("getSelection().selectAllChildren(document.querySelector('#table-body tr'))")
    selected = tab.ask("return getSelection().toString()")
    assert "1 min" in selected

    with tab.answers("angry 7 s", "#readout", path=HISTORY):
        for minutes in (0, 15):
            cameras.remember("jetson_1", (0.0, 0.0, 7.0, 0.0), ago=timedelta(minutes=minutes), people=1)

    assert tab.ask("return getSelection().toString()") == selected


@pytest.mark.usefixtures("zone")
def test_the_shown_history_is_saved_as_csv(api: Server, tab: Tab, tmp_path: Path) -> None:
    behavior = {"behavior": "allow", "downloadPath": str(tmp_path)}
    tab.driver.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
    tab.open(api.url + PAGE)
    tab.sees("Happy 1 min 100 %", "#totals-list")

    tab.click("#csv")

    (file,) = wait_until(lambda: list(tmp_path.glob("*.csv")), what="the file is there")
    day = tab.ask("return document.querySelector('#from').value")
    assert file.name == f"jetson_1_{day}_{day}.csv"
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert sum(float(row["happy"]) for row in rows) == 60
    assert {row["local_time"][:10] for row in rows} == {day}
    assert max(datetime.fromisoformat(row["start"]) for row in rows) <= datetime.now(UTC)


def test_no_people_and_not_measured_are_told_apart(api: Server, cameras: Cameras, tab: Tab) -> None:
    """Of the day before today four minutes were measured, two of them without people."""
    tab.site_at_noon()
    cameras.hear()
    cameras.know_covered("jetson_1", ago=2 * DAY)
    for minutes, seconds in ((0, 60.0), (1, 30.0), (2, 0.0), (3, 0.0)):
        ago = DAY + timedelta(hours=1, minutes=minutes)
        cameras.remember("jetson_1", (seconds, 0.0, 0.0, 0.0), ago=ago, people=int(seconds > 0), covered=60.0)
    tab.open(f"{api.url}{PAGE}&range=yesterday")

    tab.sees("Not measured", "#legend")
    tab.sees("On average 0.4 people in view, measured <1 % of the time", "#totals-measured")
    bars = tab.ask(BARS)
    assert bars.count("unmeasured") in (94, 95)  # the four minutes may be in two quarters of an hour
    assert set(bars) == {"unmeasured", "happy pale"}
    tab.click("#history summary")
    measured = tab.texts("#table-body td:last-child")
    assert measured[0] in ("4 min", "3 min", "2 min", "1 min")  # the four may be in two hours


def test_a_camera_that_was_not_heard_is_not_said_to_have_seen_no_one(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    cameras.know_covered("jetson_1", ago=3 * DAY)
    tab.open(f"{api.url}{PAGE}&range=yesterday")

    tab.sees("The camera was not heard: whether people were there is not known.", "#history-note")


def test_a_comparison_relates_to_the_measured_time(api: Server, cameras: Cameras, tab: Tab) -> None:
    """Last week's same day has half of the time, and was measured for a quarter of it."""
    tab.site_at_noon()
    cameras.hear()
    cameras.know_covered("jetson_1", ago=10 * DAY)
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 0.0), ago=DAY + timedelta(hours=1), covered=60.0)
    cameras.remember("jetson_1", (30.0, 0.0, 0.0, 0.0), ago=8 * DAY + timedelta(hours=1), covered=15.0)
    tab.open(f"{api.url}{PAGE}&range=yesterday&compare=week")

    tab.sees("50 % less than the ", "#compared")
    assert "on average 1.0 instead of 2.0 people" in tab.text("#compared")


def test_steps_that_were_not_measured_are_neither_compared_nor_drawn_as_zero(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    """Of last week's two steps the camera was heard in one again."""
    tab.site_at_noon()
    cameras.hear()
    cameras.know_covered("jetson_1", ago=10 * DAY)
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 0.0), ago=DAY + timedelta(hours=1), covered=60.0)
    cameras.remember("jetson_1", (30.0, 0.0, 0.0, 0.0), ago=8 * DAY + timedelta(hours=1), covered=60.0)
    cameras.remember("jetson_1", (600.0, 0.0, 0.0, 0.0), ago=8 * DAY + timedelta(hours=3), covered=60.0)
    tab.open(f"{api.url}{PAGE}&range=yesterday&compare=week")

    tab.sees("100 % more than the ", "#compared")
    assert tab.ask("return document.querySelector('#plot path.outline').getAttribute('d')").count("M") == 2
    tab.ask("document.querySelector('#cursor').focus()")
    tab.press(Keys.HOME)
    assert tab.text("#readout").count("not measured") == 2


def test_a_wrong_clock_is_named_also_if_the_chart_has_data(api: Server, cameras: Cameras, tab: Tab) -> None:
    tab.site_at_noon()
    cameras.hear(skew=7_300)
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 0.0), ago=timedelta(hours=3))
    tab.open(api.url + PAGE)

    tab.sees("Times are those by this camera's clock, which is 2 h 1 min ahead.", "#history-note")


def test_the_title_counts_the_cameras_that_need_attention(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(name="Entrance")
    cameras.hear("jetson_2", ago=100)
    cameras.say("jetson_3", "online")
    cameras.reject("jetson_4")
    tab.open(api.url + PAGE)

    tab.sees("Live", "#state")
    assert tab.ask("return document.title") == "(2) Entrance: live"


def test_a_name_from_right_to_left_disturbs_nothing_around_it(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(name=RIGHT_TO_LEFT, people={f"{RIGHT_TO_LEFT}3": (1.0, 0.0, 0.0, 0.0)})
    tab.open(api.url + PAGE)

    tab.sees("Live", "#state")
    assert tab.ask("return document.title") == f"\u2068{RIGHT_TO_LEFT}\u2069: live"
    assert tab.ask("return document.querySelectorAll('h1 bdi, #now-list .id bdi').length") == 2


def test_a_camera_that_is_being_loaded_is_busy(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1")
    cameras.hear("jetson_2")
    tab.open(api.url + PAGE)
    tab.sees("Live", "#state")
    tab.ask(
        """window.busy = [];
        const content = document.querySelector("#content");
        new MutationObserver(() => busy.push(content.ariaBusy)).observe(content, { attributeFilter: ["aria-busy"] });"""
    )

    Select(tab.driver.find_element("id", "picker")).select_by_value("jetson_2")
    tab.sees("jetson_2", "h1")

    busy = tab.ask("return busy")
    assert busy[0] == "true"
    assert busy[-1] == "false"
