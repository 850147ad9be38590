"""The live page shows cameras, and shows changes soon."""

import re
from datetime import timedelta
from itertools import pairwise

import pytest
from selenium.webdriver.support.select import Select

from tests.browser.cameras import SMILING, Cameras, Seconds
from tests.browser.chromium import Tab
from tests.browser.serving import Server
from tests.waiting import wait_until
from tests.web import DEVICES, HISTORY, SUMMARY

PAGE = "/dashboard"
HOSTILE = "<img src=x onerror=\"document.title='run'\">"
WRONG_CLOCK = """
const Real = Date;
window.Date = class extends Real {
  constructor(...given) { super(...(given.length ? given : [Date.now()])); }
  static now() { return Real.now() + HOURS * 3600 * 1000; }
};
"""

PUNCTUAL = 1_300
"""Milliseconds. The page polls every second; a longer gap says that this machine was busy."""


def test_a_live_camera_is_shown_with_its_people_and_totals(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(name="Front Door")
    tab.open(api.url + PAGE)

    tab.sees("Live", "#state")
    assert tab.text("h1") == "Front Door"
    assert tab.text("#mood").startswith("2 in view")
    assert tab.texts("#now-list li") == [
        "Person 1 Happy happy 13 s · sad 3 s · angry 0.5 s",
        "Person 2 Sad happy 1 s · sad 42 s · neutral 2 s",
    ]
    assert tab.ask("return document.title") == "Front Door: live"


def test_the_first_line_is_the_mood_of_the_last_seconds(api: Server, cameras: Cameras, tab: Tab) -> None:
    """Each person has been happy or sad for most of the time, and is angry now."""
    cameras.hear(now=(41.0, 0.0, 3.0, 56.0), emotion_now="angry")
    tab.open(api.url + PAGE)

    tab.sees("2 in view: 56 % neutral, 41 % happy, 3 % angry", "#mood")
    assert tab.texts("#now-list li") == [
        "Person 1 Angry happy 13 s · sad 3 s · angry 0.5 s",
        "Person 2 Angry happy 1 s · sad 42 s · neutral 2 s",
    ]
    cameras.hear(now=(10.0, 0.0, 0.0, 0.0), ago=100)
    tab.sees("Who is in view is not known while the camera is not heard.", "#mood")
    tab.click("#before summary")
    tab.sees("Person 1", "#before-list")
    assert tab.texts("#before-list .mood") == ["Happy", "Sad"]


def test_a_change_is_seen_with_the_next_poll(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(ago=15)
    tab.open(api.url + PAGE)
    tab.sees("Person 1")

    with tab.answers("Person new", "#now-list"):
        cameras.hear(people={"1": (1.0, 2.0, 300.0, 4.0), "new": (5.0, 0.0, 0.0, 0.0)})

    assert "Person 1 Angry" in tab.text("#now-list")
    tab.click("#before summary")
    tab.sees("Person 2", "#before-list")
    assert tab.texts("#before-list li .id") == ["Person 2"]


def test_what_has_not_changed_is_not_sent_again(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    tab.open(api.url + PAGE)

    wait_until(lambda: len(tab.asked(SUMMARY)) >= 4, pause=0.1, what="the summary is polled")

    statuses = [each["status"] for each in tab.asked(SUMMARY)]
    assert statuses[0] == 200
    assert set(statuses[1:]) == {304}


def test_the_page_polls_once_a_second(api: Server, cameras: Cameras, tab: Tab) -> None:
    """Each round begins with the list of devices. A busy machine may delay a round, which is no reason for another."""
    cameras.hear()
    tab.open(f"{api.url}{PAGE}?device=jetson_1")

    def punctual() -> list[float]:
        rounds = tab.requests(DEVICES)
        return rounds if len(rounds) > 4 and min(gaps(rounds)) < PUNCTUAL else []

    rounds = wait_until(punctual, pause=0.1, what="a round follows the one before within a second")

    assert (rounds[-1] - rounds[0]) / (len(rounds) - 1) > 900
    assert len([start for start in tab.requests(SUMMARY) if start < rounds[-1]]) < len(rounds)


def test_a_hidden_tab_asks_nothing_and_is_up_to_date_when_it_is_shown_again(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    cameras.hear()
    tab.open(api.url + PAGE)
    tab.sees("Person 1")

    tab.hide()
    hidden_at = tab.ask("return performance.now()")
    cameras.hear(people={"3": (1.0, 0.0, 0.0, 0.0)})
    wait_until(lambda: tab.ask("return performance.now()") > hidden_at + 2_500, pause=0.1, what="polls are left out")
    rounds_while_hidden = [start for start in tab.requests(DEVICES) if start > hidden_at]
    with tab.answers("Person 3", "#now-list"):
        tab.show()

    assert rounds_while_hidden == []


def test_what_came_while_the_tab_was_hidden_does_not_count_as_heard_now(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    cameras.hear(ago=3 * 3600)
    tab.open(api.url + PAGE)
    tab.sees("Silent", "#state")

    tab.hide()
    hidden_at = tab.ask("return performance.now()")
    cameras.hear(people={"3": (1.0, 0.0, 0.0, 0.0)}, ago=10 * 60)
    wait_until(lambda: tab.ask("return performance.now()") > hidden_at + 3_500, pause=0.1, what="a gap begins")
    tab.ask(
        """window.states = [];
        const state = document.querySelector("#state-word");
        new MutationObserver(() => states.push(state.textContent)).observe(state, { childList: true });"""
    )
    tab.show()

    tab.sees("silent for 10 min", "#state-detail")
    assert tab.ask("return states") == []


def test_a_silent_camera_says_since_when(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(ago=14 * 60 + 5)
    tab.open(api.url + PAGE)

    tab.sees("Silent", "#state")
    assert tab.text("#state-detail").startswith("silent for 14 min, since ")
    assert tab.text("#mood") == "Who is in view is not known while the camera is not heard."
    assert tab.text("#before-title") == "Seen before: 2 people"
    tab.click("#before summary")
    tab.sees("14 min ago", "#before-list")
    assert tab.texts("#before-list .when") == ["14 min ago", "14 min ago"]


def test_silence_begins_and_ends_without_a_reload(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    tab.open(api.url + PAGE)
    tab.sees("Live", "#state")
    cameras.hear(ago=27)
    tab.sees("Silent", "#state")

    with tab.answers("Live", "#state"):
        cameras.hear(people={"1": (13.5, 3.0, 0.5, 0.0)})

    tab.sees("Person 1", "#now-list")


def test_a_camera_that_says_offline_is_offline_at_once(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    tab.open(api.url + PAGE)
    tab.sees("Live", "#state")

    cameras.say("jetson_1", "offline")

    tab.sees("Offline", "#state")
    assert "lost the connection" in tab.text("#hints")


def test_a_goodbye_of_before_the_last_batch_is_none(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(ago=100)
    cameras.say("jetson_1", "offline", ago=101)
    tab.open(api.url + PAGE)

    tab.sees("Silent", "#state")
    assert "goodbye" not in tab.text("#hints")


def test_other_cameras_are_followed_with_the_next_poll(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1")
    cameras.hear("jetson_2")
    tab.open(f"{api.url}{PAGE}?device=jetson_1")
    tab.sees("jetson_2 live, 2 people", "#all-list")

    for people in (3, 4, 5):
        with tab.answers(f"jetson_2 live, {people} people", "#all-list", path=DEVICES):
            cameras.hear("jetson_2", people={str(each): (1.0, 0.0, 0.0, 0.0) for each in range(people)})


def test_the_list_of_very_many_cameras_is_asked_for_less_often(api: Server, cameras: Cameras, tab: Tab) -> None:
    for number in range(101):
        cameras.hear(f"jetson_{number}", people={})
    tab.open(f"{api.url}{PAGE}?device=jetson_1")

    first, second = wait_until(lambda: tab.requests(DEVICES)[1:2] and tab.requests(DEVICES)[:2], pause=0.1)

    assert second - first > 2_900
    assert len(tab.requests(SUMMARY)) >= 2


def test_the_chart_follows_with_every_tenth_poll(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    tab.site_at_noon()
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 0.0), ago=timedelta(hours=2))
    tab.open(api.url + PAGE)
    tab.sees("As a table", "#history")

    with tab.answers("angry 7 s, 3 people at most", "#readout", path=HISTORY):
        for quarters in (0, -1):  # the next one may begin before the page asks
            cameras.remember("jetson_1", (0.0, 0.0, 7.0, 0.0), ago=timedelta(minutes=15 * quarters), people=3)

    def apart() -> list[tuple[float, float]]:
        """Two requests for the history with ten seconds between them: at the end of a quarter there are fewer."""
        return [(one, following) for one, following in pairwise(tab.requests(HISTORY)) if following - one > 9_000]

    one, following = wait_until(apart, pause=0.1)[0]
    assert len([start for start in tab.requests(SUMMARY) if one < start < following]) <= 11


def test_a_second_is_drawn_once(api: Server, cameras: Cameras, tab: Tab) -> None:
    """That is said of rounds which come in time: while an answer is late, the page draws how the time passes."""
    cameras.hear()
    tab.open(api.url + PAGE)
    tab.sees("Live", "#state")
    tab.ask(
        """window.drawn = [];
        const title = document.querySelector("title");
        new MutationObserver(() => drawn.push(performance.now())).observe(title, { childList: true });"""
    )

    def drawn_in_four_punctual_rounds() -> int | None:
        rounds, drawn = tab.requests(SUMMARY)[-5:], tab.ask("return drawn")
        if len(rounds) < 5 or not drawn or rounds[0] < drawn[0] or max(gaps(rounds)) > PUNCTUAL:
            return None
        return len([moment for moment in drawn if rounds[0] < moment < rounds[-1]])

    assert wait_until(drawn_in_four_punctual_rounds, pause=0.1) in (3, 4, 5)


def test_cameras_stand_in_natural_order_and_those_that_are_not_live_first(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    for number in (1, 2, 10, 11):
        cameras.hear(f"cam_{number}", ago=100 if number in (2, 11) else 0)
    tab.open(f"{api.url}{PAGE}?device=cam_1")
    tab.sees("Live", "#state")

    assert tab.texts("#all-list .name") == ["cam_2", "cam_11", "cam_1", "cam_10"]
    options = tab.ask("return [...document.querySelectorAll('#picker option')].map((each) => each.value)")
    assert options == ["", "cam_1", "cam_2", "cam_10", "cam_11"]

    tab.ask("document.querySelector('#all-list li:nth-child(3) a').focus()")
    cameras.hear("cam_2")
    wait_until(lambda: tab.texts("#all-list .name")[0] == "cam_11", what="the list is in another order")
    assert tab.ask("return document.activeElement.innerText").startswith("cam_1\n")


def test_the_chosen_camera_is_scrolled_into_view_in_its_list(api: Server, cameras: Cameras, tab: Tab) -> None:
    for number in range(40):
        cameras.hear(f"jetson_{number}", people={})
    tab.open(f"{api.url}{PAGE}?device=jetson_39")
    tab.sees("Live", "#state")

    chosen, shown = tab.ask(
        """return ["#all-list [aria-current]", "#all-list"].map((each) => document.querySelector(each))
          .map((each) => each.getBoundingClientRect()).map(({ top, bottom }) => [top, bottom]);"""
    )
    assert shown[0] - 1 <= chosen[0] < chosen[1] <= shown[1] + 1
    assert tab.ask("return scrollY") == 0


def test_a_wrong_clock_of_the_camera_is_told_and_does_no_harm(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(skew=-312)
    tab.open(api.url + PAGE)

    tab.sees("Live", "#state")
    assert "Its clock is 5 min behind" in tab.text("#hints")
    assert len(tab.texts("#now-list li")) == 2


def test_of_a_silent_camera_nobody_knows_whether_its_last_batch_had_waited(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    cameras.hear(ago=14 * 60, skew=-312)
    tab.open(api.url + PAGE)

    tab.sees("Silent", "#state")
    assert "Its clock" not in tab.text("#hints")


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_wrong_clock_of_the_phone_does_no_harm(hours: int, api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", ago=3 * 3600)
    cameras.hear("jetson_2")
    tab.run_first(WRONG_CLOCK.replace("HOURS", str(hours)))
    tab.open(f"{api.url}{PAGE}?device=jetson_1")

    tab.sees("silent for 3 h", "#state-detail")
    tab.sees("jetson_2 live", "#all-list")


def test_nobody_in_view_is_said(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(people={})
    tab.open(api.url + PAGE)

    tab.sees("No one in view. The camera works and sees no person.", "#mood")
    tab.sees("Nothing was shown.", "#history-note")
    assert tab.texts("#totals-list li")[0] == "Happy 0 s 0 %"


def test_a_crowd_has_twelve_cards_until_all_are_wanted(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(people={f"{number:04}": (1.0, 0.0, 0.0, 0.0) for number in range(1_250)})
    tab.open(api.url + PAGE)

    tab.sees("1,250 in view", "#mood")
    assert len(tab.texts("#now-list li")) == 12
    assert tab.text("#now-more") == ""
    tab.click("#show-all")
    tab.sees("And 250 more in view.", "#now-more")
    assert len(tab.texts("#now-list li")) == 1_000
    tab.click("#show-all")
    wait_until(lambda: len(tab.texts("#now-list li")) == 12, what="twelve are shown again")
    assert tab.text("#show-all") == "Show all 1,250"


def test_the_chart_is_on_the_first_screen_of_a_desktop_also_with_a_crowd(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    cameras.hear(people={str(number): (1.0, 0.0, 0.0, 0.0) for number in range(300)})
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 0.0), ago=timedelta())
    tab.look(1440)
    tab.open(api.url + PAGE)
    tab.sees("As a table", "#history")

    assert tab.driver.find_element("id", "plot").rect["y"] + 200 < 900


def test_no_card_moves_and_a_newcomer_takes_a_free_place(api: Server, cameras: Cameras, tab: Tab) -> None:
    def hear(*people: str, at: int) -> None:
        """A batch at this second of the camera's clock. Who is not in it has left after ten seconds."""
        cameras.hear(people=dict.fromkeys(people, (1.0, 0.0, 0.0, 0.0)), skew=at - 60)

    def are_seen(*people: str) -> None:
        expected = [["Person", person] if person else [] for person in people]
        wait_until(lambda: [text.split()[:2] for text in tab.texts("#now-list li")] == expected, what=f"{expected}")

    hear("1", "10", "2", at=0)
    tab.open(api.url + PAGE)
    are_seen("1", "2", "10")
    hear("1", "10", at=11)
    are_seen("1", "", "10")
    hear("1", "10", "100", "0", at=12)
    are_seen("1", "0", "10", "100")
    hear("1", "0", at=23)
    are_seen("1", "0")


def test_huge_times_and_zeros_stay_legible(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(
        people={"1": (1e308, 1e308, 1e308, 7200.0), "2": (0.0, 0.0, 0.0, 0.0), "3": (400_000.0, 0.0, 0.0, 0.04)}
    )
    tab.open(api.url + PAGE)

    tab.sees("Person 1", "#now-list")
    assert "happy >1,000,000 h" in tab.text("#now-list")
    assert "neutral 2 h" in tab.text("#now-list")
    assert "no time of any emotion yet" in tab.text("#now-list")
    assert "happy 111 h · neutral 0.1 s" in tab.text("#now-list")


def test_names_are_text_and_nothing_else(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(people={HOSTILE: (1.0, 0.0, 0.0, 0.0)}, name=HOSTILE)
    cameras.hear("jetson_2", name=f"{HOSTILE} too")
    tab.open(f"{api.url}{PAGE}?device=jetson_1")

    tab.sees("Live", "#state")
    assert tab.text("h1") == HOSTILE
    assert tab.text("#now-list .id") == f"Person {HOSTILE}"
    assert f"{HOSTILE} too" in tab.text("#all-list")
    assert tab.ask("return document.querySelectorAll('img').length") == 1  # the page's own
    assert tab.ask("return document.title") == f"{HOSTILE}: live"


def test_an_address_leads_to_one_camera_and_the_others_are_listed(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", name="Front Door")
    cameras.hear("jetson_7", ago=3 * 3600 + 20)
    tab.open(f"{api.url}{PAGE}?device=jetson_7")

    tab.sees("Silent", "#state")
    assert tab.text("h1") == "jetson_7"
    assert tab.text("#all-count") == "1 of 2 cameras live"
    assert tab.texts("#all-list li") == ["jetson_7 silent for 3 h", "Front Door live, 2 people"]
    assert tab.ask("return document.querySelector('#all-list [aria-current]').innerText").startswith("jetson_7")


def test_another_camera_is_picked_and_the_way_back_leads_back(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", name="Front Door")
    cameras.hear("jetson_2", name="Lobby", people={"9": (0.0, 0.0, 0.0, 8.0)})
    tab.open(f"{api.url}{PAGE}?device=jetson_1")
    tab.sees("Front Door", "h1")

    Select(tab.driver.find_element("id", "picker")).select_by_value("jetson_2")
    tab.sees("Lobby", "h1")
    assert tab.texts("#now-list .id") == ["Person 9"]
    assert tab.driver.current_url.endswith("?device=jetson_2")

    tab.click("#all-list a")
    tab.sees("Front Door", "h1")
    tab.driver.back()
    tab.sees("Lobby", "h1")
    tab.driver.back()
    tab.sees("Front Door", "h1")
    assert sorted(tab.texts("#now-list .id")) == ["Person 1", "Person 2"]


def test_the_day_is_a_chart_and_a_table(api: Server, cameras: Cameras, tab: Tab) -> None:
    zone = tab.site_at_noon()
    cameras.hear()
    minute = cameras.remember("jetson_1", (60.0, 30.0, 0.0, 5.0), ago=timedelta(hours=3), people=4)
    cameras.remember("jetson_1", (0.0, 0.0, 7.5, 0.0), ago=timedelta(hours=30))  # before this day
    tab.open(api.url + PAGE)

    tab.sees("As a table", "#history")
    bars = tab.ask("return [...document.querySelectorAll('#plot g rect')].map((bar) => bar.classList.value)")
    assert bars == ["happy", "sad", "neutral"]
    tab.click("#history summary")
    assert tab.texts("#table-body tr") == [f"{minute.astimezone(zone):%H}:00 1 min 30 s 0 s 5 s 4 not known"]
    assert tab.texts("#totals-list li") == ["Happy 1 min 63 %", "Sad 30 s 32 %", "Angry 0 s 0 %", "Neutral 5 s 5 %"]


def test_an_hour_of_yesterday_is_told_from_the_same_of_today(api: Server, cameras: Cameras, tab: Tab) -> None:
    zone = tab.site_at_noon()
    cameras.hear()
    minutes = [cameras.remember("jetson_1", (60.0, 0.0, 0.0, 0.0), ago=timedelta(hours=hours)) for hours in (0, 23)]
    tab.open(f"{api.url}{PAGE}?range=7d")
    tab.sees("As a table", "#history")
    tab.click("#history summary")

    today, yesterday = (minute.astimezone(zone) for minute in minutes)
    shown_today, shown_yesterday = tab.texts("#table-body th")
    assert shown_today == f"{today:%H}:00"
    assert re.fullmatch(rf"{yesterday:%a},? {yesterday.day} {yesterday:%b}\w* {yesterday:%H}:00", shown_yesterday)


@pytest.mark.parametrize("people", [{}, SMILING], ids=["nobody", "two people"])
def test_a_new_camera_appears_with_the_next_poll(
    people: dict[str, Seconds], api: Server, cameras: Cameras, tab: Tab
) -> None:
    tab.open(api.url + PAGE)
    tab.sees("No camera has sent anything yet")

    with tab.answers("Live", "#state", path=DEVICES):
        cameras.hear(people=people)

    assert tab.text("#notice") == ""


def test_a_screen_reader_hears_changes_of_state_only(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(name="Front Door")
    tab.run_first(
        """addEventListener("DOMContentLoaded", () => {
          window.spoken = [];
          const region = document.querySelector("[role=status]");
          new MutationObserver(() => spoken.push(region.textContent)).observe(region, { childList: true });
        });"""
    )
    tab.open(api.url + PAGE)
    tab.sees("Live", "#state")
    cameras.hear(name="Front Door", ago=28)
    tab.sees("Silent", "#state")
    detail = tab.text("#state-detail")
    wait_until(lambda: tab.text("#state-detail") != detail, what="it is silent for longer")
    cameras.hear(name="Front Door")
    tab.sees("Live", "#state")
    cameras.hear(name="Front Door", people={"5": (1.0, 0.0, 0.0, 0.0)})
    tab.sees("Person 5", "#now-list")

    spoken = tab.ask("return spoken")
    assert [sentence.partition(", silent for")[0] for sentence in spoken] == [
        *("Front Door: Live", "Front Door: Silent", "Front Door: Live")
    ]
    live = tab.ask("return [...document.querySelectorAll('[role=status], [role=alert], [aria-live]')]")
    assert [region.get_attribute("id") for region in live] == ["spoken", "token-wrong", "found", "csv-problem"]


def test_where_people_are_not_stored_the_page_says_so(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear(now=(15.0, 5.0, 0.0, 0.0))
    cameras.store_only_totals()
    tab.open(api.url + PAGE)

    tab.sees("People are not stored here", "#now-more")
    assert tab.text("#mood") == "2 in view: 75 % happy, 25 % sad"

    cameras.hear(people={})
    tab.sees("No one in view. The camera works and sees no person.", "#mood")


def gaps(moments: list[float]) -> list[float]:
    return [later - each for each, later in pairwise(moments)]
