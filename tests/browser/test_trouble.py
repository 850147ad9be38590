"""The live page during outages and without data: its sentences, and its recovery."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.browser.cameras import Cameras
from tests.browser.chromium import Tab
from tests.browser.prefixed import PREFIX
from tests.browser.serving import Server
from tests.databases import make_tables
from tests.waiting import wait_until
from tests.web import DEVICES, OVERVIEW, SUMMARY

PAGE = "/dashboard"
FIELD = """
const { activeElement: field } = document;
const said = document.querySelector("#token-wrong");
return [field.id, field.getAttribute("aria-invalid"), said.role];
"""
REFUSED = "The API does not know the one that was entered."
TOKEN = "a-token-of-the-tests-0123"


def test_an_unknown_camera_is_told_how_to_be_heard(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", name="Front Door")
    tab.open(f"{api.url}{PAGE}?device=jetson_99")

    tab.sees("No camera “jetson_99” has been heard yet", "#notice")
    assert "-t emotions/jetson_99/batch" in tab.text("pre")
    assert tab.texts("h1") == ["No camera “jetson_99” has been heard yet"]
    assert tab.text("#all-list li") == "Front Door live, 2 people"

    with tab.answers("Live", "#state", path=DEVICES):
        cameras.hear("jetson_99")
    assert tab.texts("h1") == ["jetson_99"]
    assert tab.text("#notice") == ""


def test_the_api_s_name_for_the_camera_chooses_it_too(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", name="Back Door")  # the one that the page would choose
    cameras.hear("jetson_2", name="Front Door")
    tab.open(f"{api.url}{PAGE}?device_id=jetson_2")

    tab.sees("Front Door", "h1")


@pytest.mark.parametrize("device", ["a b", "<b>x</b>", "x" * 65, "ä", "a/b"])
def test_an_id_that_no_camera_can_have_is_not_asked_for(device: str, api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    tab.open(api.url + PAGE)
    tab.sees("Live", "#state")
    tab.open("about:blank")
    tab.open(f"{api.url}{PAGE}?device={device}")

    tab.sees("no camera can have this one", "#notice")
    assert f"“{device}”" in tab.text("#notice-title")
    assert "Pick another above." in tab.text("#notice")
    assert tab.asked(SUMMARY) == []


def test_without_another_camera_none_is_to_be_picked(api: Server, cameras: Cameras, tab: Tab) -> None:
    tab.open(f"{api.url}{PAGE}?device=a b")

    tab.sees("no camera can have this one.", "#notice")
    assert "Pick another" not in tab.text("#notice")


def test_a_camera_that_sends_only_rubbish_is_told_so(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.reject("jetson_5", times=3)
    tab.open(api.url + PAGE)

    tab.sees("Messages of this camera arrive, and are no valid batches", "#notice-title")
    assert tab.text("#state-detail") == "its messages arrive, and are no valid batches"
    assert "heard" not in tab.text("#notice-title")
    assert "3 messages were no valid batch in the last hour." in tab.text("#hints")
    assert "scripts/dead-letters list" in tab.text("#hints")
    assert "docs/operate/dead-letters.md" in tab.text("#hints")


def test_where_no_camera_is_live_daemon_and_broker_are_asked_for(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("jetson_1", ago=100)
    cameras.hear("jetson_2", ago=200)
    tab.open(f"{api.url}{PAGE}?device=jetson_1")
    tab.sees("do the daemon and the broker run?", "#hints")
    assert "docker compose ps" in tab.text("#hints")

    cameras.hear("jetson_2")
    wait_until(lambda: "docker compose ps" not in tab.text("#hints"), what="the hint goes")
    assert tab.text("#state") == "Silent"


def test_a_camera_that_is_connected_and_has_sent_nothing_is_told_what_to_send(
    api: Server, cameras: Cameras, tab: Tab
) -> None:
    cameras.say("jetson_5", "online")
    tab.open(api.url + PAGE)

    tab.sees("This camera has not sent a batch yet", "#notice")
    assert tab.text("#state") == "Waiting"
    assert tab.text("#state-detail") == "connected, but no batch has come yet"
    assert "-t emotions/jetson_5/batch" in tab.text("pre")


@pytest.mark.requests_fail
def test_an_api_that_stops_and_starts_again_is_told_and_found_again(
    own_api: Server, cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    cameras.hear(name="Front Door")
    cameras.hear("jetson_2")
    tab.open(f"{own_api.url}{PAGE}?device=jetson_1")
    tab.sees("Live", "#state")

    own_api.stop()
    tab.sees("The API does not answer", "#notice")
    assert tab.text("#state") == "Not known"
    assert tab.text("#state-detail").startswith("last heard ")
    assert tab.text("h1") == "Front Door"
    assert "live" not in tab.text("#all").lower()
    assert "The API does not answer" in tab.text("#mood")
    assert sorted(tab.texts("#now-list .id")) == ["Person 1", "Person 2"]
    assert tab.text("#before") == ""

    again = Server(shown_url, tmp_path / "again.log")
    again.port = own_api.port
    with again:
        tab.ask("document.querySelector('#try-now').click()")  # it may have found the API by itself
        cameras.hear(name="Front Door", people={"7": (1.0, 0.0, 0.0, 0.0)})
        tab.sees("Person 7", "#now-list")
        tab.sees("Live", "#state")
        assert tab.text("#notice") == ""


@pytest.mark.requests_fail
def test_failing_requests_become_fewer(own_api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    tab.open(own_api.url + PAGE)
    tab.sees("Live", "#state")

    own_api.stop()
    before = len(tab.requests(DEVICES))
    tried = wait_until(lambda: tab.requests(DEVICES)[before + 2 :] and tab.requests(DEVICES)[before:], pause=0.1)

    apart = [later - each for each, later in pairwise(tried)]
    assert all(gap > 900 * 2**number for number, gap in enumerate(apart)), apart


@pytest.mark.requests_fail
def test_a_database_that_is_not_there_is_told_and_waited_for(sqlite_url: str, tmp_path: Path, tab: Tab) -> None:
    with Server(sqlite_url, tmp_path / "api.log") as api:
        tab.open(api.url + PAGE)
        tab.sees("The API cannot answer now", "#notice")
        said = tab.text("#notice")
        make_tables(sqlite_url)
        tab.sees("No camera has sent anything yet", "#notice")
        asked = tab.asked(OVERVIEW)
        tab.open("about:blank")

    assert "Check that emotion_daemon is running" in said
    assert asked[0]["status"] == 503
    assert asked[-1]["status"] == 200
    assert asked[1]["start"] - asked[0]["start"] > 4_900  # Retry-After: 5


@pytest.mark.requests_fail
def test_a_token_is_asked_for_and_kept_for_this_tab(cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab) -> None:
    cameras.hear(name="Front Door")
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=TOKEN) as api:
        tab.open(api.url + PAGE)
        tab.sees("This API asks for a token", "#notice-title")
        assert "Front Door" not in tab.ask("return document.documentElement.outerHTML")

        tab.press("not-the-right-one-0123\n")  # the field has the focus
        tab.sees(REFUSED, "#token-wrong")
        assert tab.ask(FIELD) == ["token", "true", "alert"]
        tab.press("wrong-for-a-second-time\n")
        wait_until(lambda: tab.text("#token-wrong") == REFUSED and len(tab.asked(OVERVIEW)) >= 3, what="it is refused")
        tab.press(f" {TOKEN} \n")
        tab.sees("Live", "#state")
        assert tab.ask("return document.activeElement.id") == "camera-name"
        assert tab.text("h1") == "Front Door"
        assert tab.text("#notice") == ""

        tab.driver.refresh()
        tab.sees("Live", "#state")
        assert tab.ask("return [localStorage.length, document.cookie]") == [0, ""]
        assert TOKEN not in tab.driver.current_url

        tab.click("#forget")
        tab.sees("This API asks for a token", "#notice-title")
        assert tab.ask("return sessionStorage.length") == 0
        assert "Front Door" not in tab.ask("return document.documentElement.outerHTML")


@pytest.mark.requests_fail
def test_a_token_without_the_history_shows_the_rest(cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab) -> None:
    cameras.hear()
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=f"{TOKEN};views=devices|summary") as api:
        tab.open(f"{api.url}{PAGE}?device=jetson_1#token={TOKEN}")

        tab.sees("The history cannot be read. This token is limited to other views", "#history-note")
        tab.sees("Live", "#state")
        tab.sees("Person 1", "#now-list")
        assert tab.text("#notice") == ""


@pytest.mark.requests_fail
def test_a_camera_that_the_token_does_not_allow_is_not_compared(
    cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    cameras.hear()
    cameras.hear("jetson_2")
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 5.0), ago=timedelta())
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=f"{TOKEN};devices=jetson_1") as api:
        tab.open(f"{api.url}{PAGE}?device=jetson_1&compare=jetson_2#token={TOKEN}")

        tab.sees("It cannot be compared. This token is limited to other devices", "#compared")
        tab.sees("Live", "#state")
        tab.sees("Happy 1 min", "#totals-list")
        assert tab.text("#notice") == ""


@pytest.mark.requests_fail
def test_a_token_for_the_overview_alone_stays_there_with_one_camera(
    cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    cameras.hear()
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=f"{TOKEN};views=overview") as api:
        tab.open(f"{api.url}{PAGE}#token={TOKEN}")

        tab.sees("1 of 1 camera live, 2 in view", "#overview-count")
        wait_until(lambda: len(tab.requests(OVERVIEW)) >= 2, what="it goes on")
        assert tab.text("#overview-count") == "1 of 1 camera live, 2 in view"
        assert len(tab.requests(SUMMARY)) == 1
        assert tab.ask("return location.search") == ""


@pytest.mark.requests_fail
def test_a_token_without_the_list_of_devices_takes_it_from_the_overview(
    cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    cameras.hear()
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=f"{TOKEN};views=overview|summary|history") as api:
        tab.open(f"{api.url}{PAGE}#token={TOKEN}")

        tab.sees("Live", "#state")
        tab.sees("Person 1", "#now-list")
        assert tab.text("#notice") == ""
        assert len(tab.requests(DEVICES)) == 1


@pytest.mark.requests_fail
@pytest.mark.parametrize("token", ["clé", "ein 🔑", "a\tb", "x" * 100_000])
def test_a_token_that_cannot_be_one_is_answered_in_the_form(
    token: str, cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=TOKEN) as api:
        tab.open(api.url + PAGE)
        tab.sees("This API asks for a token", "#notice-title")

        tab.ask("document.querySelector('#token').value = arguments[0]", token)
        tab.press("\n")

        tab.sees("A token has 16 to 4,096 of", "#token-form")
        assert tab.ask("return sessionStorage.length") == 0


def test_it_works_below_the_prefix_of_a_proxy(cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab) -> None:
    cameras.hear()
    with Server(shown_url, tmp_path / "api.log", application="tests.browser.prefixed:create_app()") as api:
        tab.open(f"{api.url}{PREFIX}{PAGE}")
        tab.sees("Live", "#state")
        tab.sees("Person 1", "#now-list")
        links = tab.ask("return [...document.querySelectorAll('a[href*=docs]')].map((link) => link.href)")
        tab.open("about:blank")

    assert set(links) == {f"{api.url}{PREFIX}/docs"}


@pytest.mark.parametrize(
    ("page", "text"), [(PAGE, "Live"), ("/docs", "Summary of one device"), ("/redoc", "Summary of one device")]
)
def test_it_works_with_a_login_in_its_address(page: str, text: str, api: Server, cameras: Cameras, tab: Tab) -> None:
    """Of a proxy in front of the API."""
    cameras.hear()
    tab.open(api.url.replace("http://", "http://user:password@") + page)

    tab.sees(text, "body")
    tab.complaints()  # ReDoc greets in the console


@pytest.mark.requests_fail
@pytest.mark.parametrize(
    ("page", "script"), [(PAGE, "page.js"), ("/docs", "swagger_bundle.js"), ("/redoc", "redoc.js")]
)
def test_a_script_that_does_not_load_is_told(page: str, script: str, api: Server, tab: Tab) -> None:
    tab.driver.execute_cdp_cmd("Network.enable", {})
    tab.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": [f"*/{script}"]})
    tab.open(api.url + page)

    tab.sees("The scripts of this page did not load", "body")
    tab.complaints()  # what needs the missing script fails, too


def test_try_it_out_asks_below_the_prefix_of_a_proxy(
    cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    with Server(shown_url, tmp_path / "api.log", application="tests.browser.prefixed:create_app()") as api:
        tab.open(f"{api.url}{PREFIX}/docs")
        tab.sees("All devices", "body")
        tab.ask("document.querySelector('[id$=-devices] .opblock-summary-control').click()")
        tab.sees("Try it out", ".try-out__btn")
        tab.ask("document.querySelector('.try-out__btn').click()")
        tab.sees("Execute", ".execute")
        tab.ask("document.querySelector('.execute').click()")
        tab.sees("silent_after", ".live-responses-table")
        asked = tab.asked(f"{PREFIX}{DEVICES}")
        tab.open("about:blank")

    assert [request["status"] for request in asked] == [200]


_GUARD = """{
  const original = window.fetch;
  const refused = { status: 401, headers: { "WWW-Authenticate": 'Basic realm="site"' } };
  window.fetch = async (address, options) =>
    new Headers(options?.headers).has("Authorization") ? new Response("", refused) : original(address, options);
}"""


@pytest.mark.requests_fail
def test_a_proxy_with_its_own_login_is_not_taken_for_a_wrong_token(
    cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    tab.run_first(_GUARD)
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN=TOKEN) as api:
        tab.open(api.url + PAGE)
        tab.sees("This API asks for a token", "#notice-title")

        tab.press(f"{TOKEN}\n")

        tab.sees("A proxy in front of the API asks for its own login", "#notice-title")
        assert "have the proxy add one" in tab.text("#notice-body")
        assert tab.text("#token-form") == ""
