"""The typical week: which hour counts in which cell, what a cell says, and where it comes from."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from emotion_api.local_time import local_steps
from tests.browser.cameras import Cameras
from tests.browser.chromium import PHONE, Tab
from tests.browser.serving import Server
from tests.waiting import wait_until
from tests.zones import CHANGES

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NOTHING = {"happy": 0, "sad": 0, "angry": 0, "neutral": 0, "most_people": 0, "covered": 0}

WEEK = """
const [module, series] = await Promise.all(["heatmap", "series"].map((name) => import(`/dashboard/assets/${name}.js`)));
const week = module.weekOf(series.stepsOf(arguments[0], Date.parse(arguments[0].end)));
return week.map(({ kind, people, seconds }, place) => [place, kind, people, seconds.happy]);
"""


def week_of(tab: Tab, points: list[dict[str, Any]], end: datetime) -> list[list[Any]]:
    """The cells of a history of hours: place, kind, people on average, and happy seconds."""
    found: list[list[Any]] = tab.ask(
        f"return (async () => {{{WEEK}}})(...arguments)", {"points": points, "end": str(end)}
    )
    return found


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        (zone, change)
        for zone in ("America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
        for change in CHANGES[zone]
    ],
)
def test_each_hour_counts_where_calendar_and_clock_of_the_site_have_it(
    zone: str, change: str, api: Server, tab: Tab
) -> None:
    site, middle = ZoneInfo(zone), int(datetime.fromisoformat(change).timestamp())
    starts, end = local_steps(site, middle - 14 * 86_400, middle + 14 * 86_400, 3_600)
    times = [datetime.fromtimestamp(start, UTC) for start in starts]
    points = [
        NOTHING | {"start": time.isoformat(), "happy": 1 + place % 11, "covered": 3_600}
        for place, time in enumerate(times)
    ]
    tab.site_in(zone)
    tab.open(f"{api.url}/dashboard")

    found = week_of(tab, points, datetime.fromtimestamp(end, UTC))

    model: Counter[int] = Counter()
    for place, time in enumerate(times):
        local = time.astimezone(site)
        model[local.weekday() * 24 + local.hour] += 1 + place % 11
    assert {place: happy for place, _, _, happy in found} == model


def test_a_cell_tells_not_measured_from_nobody_and_from_a_small_sample(api: Server, tab: Tab) -> None:
    monday = datetime(2025, 11, 10, tzinfo=UTC)
    hours: list[dict[str, Any]] = [
        {"covered": 3_600},
        {"covered": 0},
        {"covered": 1_200, "most_people": 3, "happy": 100},
        {"covered": None, "most_people": 2, "happy": 100},
        {"covered": 3_600, "most_people": 6, "happy": 100},
    ]
    points = [NOTHING | hour | {"start": str(monday + timedelta(hours=place))} for place, hour in enumerate(hours)]
    points += [points[-1] | {"start": str(monday + timedelta(days=7, hours=4)), "most_people": 2, "covered": 1_200}]
    tab.site_in("UTC")
    tab.open(f"{api.url}/dashboard")

    found = week_of(tab, points[:5], monday + timedelta(hours=5))
    weeks = week_of(tab, points[4:], monday + timedelta(days=7, hours=5))

    assert [each[1:3] for each in found[:6]] == [
        ["", 0],
        ["unmeasured", 0],
        ["small", 3],
        ["", 2],
        ["", 6],
        ["unmeasured", 0],
    ]
    assert weeks[4][1:3] == ["", 5]  # three quarters of the time were in the first week


def test_the_page_shows_when_most_people_come(api: Server, cameras: Cameras, tab: Tab) -> None:
    zone = tab.site_at_noon()
    cameras.hear(people={})
    seen = cameras.remember("jetson_1", (90.0, 0.0, 30.0, 0.0), ago=timedelta(hours=3), people=8).astimezone(zone)
    tab.open(f"{api.url}/dashboard?device=jetson_1")

    tab.sees(f"Most people: {WEEKDAYS[seen.weekday()]} {seen:%H}:00", "#week-most")
    assert tab.text("#week-most").endswith(f"{seen.hour + 1:02}:00 (2.0).")
    cell = f"#week-body tr:nth-child({seen.weekday() + 1}) td:nth-of-type({seen.hour + 1})"
    assert tab.text(cell) == "2.0"  # in one of four weeks
    assert tab.text("#week-top") == "2.0"
    tab.ask("const of = document.getElementById('week-of'); of.value = 'angry'; of.dispatchEvent(new Event('change'))")
    tab.sees("Angriest:", "#week-most")
    assert tab.text(cell) == "25"
    assert "week=angry" in tab.driver.current_url
    tab.driver.back()
    tab.sees("Most people:", "#week-most")


def test_on_a_phone_the_table_begins_with_the_first_hour_that_has_people(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    tab.site_at_noon()
    tab.look(PHONE)
    cameras.hear(people={})
    cameras.remember("jetson_1", (90.0, 0.0, 30.0, 0.0), ago=timedelta(hours=2), people=8)
    tab.open(f"{api.url}/dashboard?device=jetson_1")

    tab.sees("Most people:", "#week-most")
    wait_until(lambda: tab.ask("return document.getElementById('week-scroll').scrollLeft") > 0, what="it is scrolled")
    assert tab.ask("return document.documentElement.scrollWidth") <= PHONE


def test_without_people_there_is_no_table(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(people={})
    tab.open(f"{api.url}/dashboard?device=jetson_1")

    tab.sees("No people were seen in the last 28 days.", "#week")
    assert not tab.ask("return document.getElementById('week-shown').checkVisibility()")
