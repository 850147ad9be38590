"""axe-core finds no violation of WCAG 2.2 AA in any state of the live page."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest

from tests.browser.cameras import Cameras
from tests.browser.chromium import DESKTOP, PHONE, Tab
from tests.browser.serving import Server

PAGE = "/dashboard"
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
RUN = """
const only = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] };
return axe.run(document, only).then(({ passes, violations }) => [
  passes.length,
  violations.map(({ id, nodes }) => [id, ...nodes.map((node) => `${node.html} ${node.failureSummary}`)]),
]);
"""
Theme: TypeAlias = Literal["light", "dark"]


class State(NamedTuple):
    """A state of the page: who sends what, the view in the address, a text that shows it, and what is opened then."""

    write: Callable[[Cameras], None]
    query: str
    text: str
    opens: tuple[str, ...] = ()


def no_camera(cameras: Cameras) -> None:
    """Write nothing."""


def shop(cameras: Cameras) -> None:
    """A live camera with people, a history and a wrong clock, a silent one of the same name, and a crowd."""
    cameras.hear(people={"gone": (1.0, 2.0, 3.0, 4.0)}, ago=20)
    cameras.hear(people={"1": (4_000.0, 30.0, 20.0, 10.0), "מצלמה 2": (0.0, 9.0, 0.0, 0.0)}, name="Entrance", skew=90)
    cameras.hear("silent", ago=7_000, name="Entrance")
    cameras.hear("crowd", people={str(number): (1.0, 0.0, 2.0, 0.0) for number in range(30)})
    cameras.say("waiting", "online")
    cameras.reject("rubbish", times=3)
    for device in ("jetson_1", "crowd"):
        for hours in range(1, 200, 7):
            cameras.remember(device, (600.0, 90.0, 70.0, 300.0), ago=timedelta(hours=hours), people=3)


STATES = {
    "no camera": State(no_camera, "", "mosquitto_pub"),
    "all cameras": State(shop, "", "cameras live"),
    "wall": State(shop, "?wall=overview", "in view"),
    "live": State(shop, "?device=jetson_1&range=7d", "Most people", ("#history summary", "#before summary")),
    "silent": State(shop, "?device=silent", "Silent"),
    "waiting": State(shop, "?device=waiting", "This camera has not sent a batch yet"),
    "rubbish": State(shop, "?device=rubbish", "are no valid batches"),
    "unknown": State(shop, "?device=unknown", "has been heard yet"),
    "crowd": State(shop, "?device=crowd&view=people&range=28d&compare=jetson_1", "As a table", ("#show-all",)),
    "shares": State(shop, "?device=crowd&view=share&range=7d&compare=week&week=sad", "Saddest"),
}


@pytest.mark.parametrize(("width", "theme"), [(PHONE, "dark"), (DESKTOP, "light")])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(state: str, width: int, theme: Theme, api: Server, cameras: Cameras, tab: Tab) -> None:
    write, query, text, opens = STATES[state]
    write(cameras)
    tab.look(width, theme, motion="reduce")
    tab.open(api.url + PAGE + query)
    tab.sees(text)
    for selector in opens:
        tab.click(selector)

    passed, violations = check(tab)

    assert violations == []
    assert passed > 10


@pytest.mark.requests_fail
def test_axe_finds_nothing_in_the_token_form(cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab) -> None:
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN="0123456789abcdef") as api:
        tab.open(api.url + PAGE)
        tab.sees("Token", "#token-form")
        tab.press("short\n")
        tab.sees("A token has 16 to 4,096 of", "#token-form")

        assert check(tab)[1] == []


def check(tab: Tab) -> tuple[int, list[Any]]:
    """Return the number of rules that hold, and the rules that do not with their elements."""
    assert AXE.exists(), "the tests need the packages of tests/browser: run npm ci there, or scripts/test"
    tab.ask(AXE.read_text(encoding="utf-8"))
    passed, violations = tab.ask(RUN)
    return passed, violations
