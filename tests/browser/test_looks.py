"""Everyone can use the live page: on a phone, in the dark, with a keyboard, with a screen reader."""

import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.cameras import Cameras
from tests.browser.chromium import DESKTOP, PHONE, Tab
from tests.browser.serving import Server
from tests.waiting import wait_until
from tests.web import DEVICES, OVERVIEW

PAGE = "/dashboard"
LONG = "A very long name of a camera that was typed without ever thinking of a phone " * 2
UNBROKEN = "x" * 128
Theme: TypeAlias = Literal["light", "dark"]
Colour: TypeAlias = tuple[float, float, float, float]

WIDE = """
return [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !node.closest(".scroll"))
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".unseen"))
  .map((node) => node.outerHTML.slice(0, 100));
"""

TEXTS = """
const found = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
  if (!own || !node.checkVisibility() || node.closest(".unseen, .skip, option, noscript")) continue;
  const behind = [];
  for (let each = node; each; each = each.parentElement) behind.push(getComputedStyle(each).backgroundColor);
  const style = getComputedStyle(node);
  const colour = node instanceof SVGElement ? style.fill : style.color;
  found.push([node.textContent.trim().slice(0, 60), colour, behind]);
}
return found;
"""

FACES = """
return [...document.querySelectorAll(".face circle:not(.ink), .bar span, #plot g rect:not(.unmeasured), .state-mark")]
  .filter((node) => node.checkVisibility())
  .map((node) => {
    const style = getComputedStyle(node);
    const behind = getComputedStyle(node.closest("section, nav, #before")).backgroundColor;
    const drawn = node.matches(".state-mark") ? style.color : node.matches("span") ? style.backgroundColor : style.fill;
    return [node.getAttribute("class") ?? node.parentElement.getAttribute("class"), drawn, [behind]];
  });
"""

MOUTHS = """
return [...document.querySelectorAll(".face")].filter((face) => face.checkVisibility()).map((face) => {
  return [face.classList[1], face.querySelector("path").getAttribute("d"), face.parentElement.innerText.toLowerCase()];
});
"""

LABELS = """
const box = (node) => node.getBoundingClientRect().toJSON();
return [box(document.querySelector("#plot svg")), [...document.querySelectorAll("#plot text")].map(box)];
"""

FOCUS = """
const node = document.activeElement;
if (node === document.body) return null;
const box = node.getBoundingClientRect();
const style = getComputedStyle(node);
const seen = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0;
const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
return [node.id || node.innerText || node.className, seen && outlined];
"""

FOCUSABLE = """
return [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter((node) => node.checkVisibility() && !node.disabled)
  .map((node) => node.id || node.innerText || node.className);
"""

IN_A_LIST = "return document.activeElement.closest('#all-list') !== null;"


def busy(cameras: Cameras) -> None:
    """A live camera with long names everywhere, a silent one, and a day's history."""
    cameras.hear(people={"old": (1.0, 0.0, 0.0, 0.0)}, ago=20)
    people = {
        "1": (4_000.0, 30.0, 20.0, 10.0),
        "2": (0.0, 9.0, 0.0, 0.0),
        "3": (0.0, 0.0, 4.0, 0.0),
        UNBROKEN: (0, 0, 0, 1),
    }
    cameras.hear(people=people, name=LONG, skew=90)
    cameras.hear("jetson_2", ago=7_000)
    cameras.say("jetson_3" + "x" * 50, "online")
    for hours in range(1, 20):
        cameras.remember("jetson_1", (600.0, 90.0, 70.0, 300.0), ago=timedelta(hours=hours), people=3)


def empty(cameras: Cameras) -> None:
    """No camera at all."""


STATES = {"busy": busy, "empty": empty}


def opened(tab: Tab, api: Server, state: str) -> None:
    tab.open(api.url + PAGE + ("?device=jetson_1" if state == "busy" else ""))
    tab.sees({"busy": "As a table", "empty": "mosquitto_pub"}[state])
    if state == "busy":
        tab.sees("Most people", "#week")
        tab.click("#history summary")
        tab.click("#before summary")


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_wider_than_a_phone(state: str, api: Server, cameras: Cameras, tab: Tab) -> None:
    STATES[state](cameras)
    tab.look(PHONE)
    opened(tab, api, state)

    assert tab.ask("return document.documentElement.scrollWidth") <= PHONE
    assert tab.ask(WIDE) == []


def test_on_a_desktop_the_totals_stand_beside_the_chart(api: Server, cameras: Cameras, tab: Tab) -> None:
    busy(cameras)
    tab.look(DESKTOP)
    opened(tab, api, "busy")

    chart, totals = (tab.driver.find_element("id", name).rect for name in ("history", "totals"))
    assert chart["y"] == totals["y"]
    assert chart["x"] + chart["width"] < totals["x"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_every_text_has_the_contrast_of_level_aa(
    state: str, theme: Theme, api: Server, cameras: Cameras, tab: Tab
) -> None:
    STATES[state](cameras)
    tab.look(DESKTOP, theme, motion="reduce")
    opened(tab, api, state)

    texts = tab.ask(TEXTS)
    weak = [(text, colour) for text, colour, behind in texts if contrast(colour, behind) < 4.5]
    assert len(texts) > (40 if state == "busy" else 8)
    assert weak == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_emotion_stands_out_from_what_is_behind_it(theme: Theme, api: Server, cameras: Cameras, tab: Tab) -> None:
    busy(cameras)
    tab.look(DESKTOP, theme, motion="reduce")
    opened(tab, api, "busy")

    drawn = tab.ask(FACES)
    weak = [(name, colour) for name, colour, behind in drawn if contrast(colour, behind) < 3]
    assert {"happy", "sad", "angry", "neutral"} <= {name.rpartition(" ")[2] for name, _, _ in drawn}
    assert weak == []


def test_the_dark_theme_has_other_colours(api: Server, cameras: Cameras, tab: Tab) -> None:
    busy(cameras)
    colours: dict[str, Any] = {}
    for theme in ("light", "dark"):
        tab.look(DESKTOP, theme)
        opened(tab, api, "busy")
        colours[theme] = tab.ask(
            "return [document.body, document.querySelector('#now')].map((each) => getComputedStyle(each))"
            ".flatMap((style) => [style.backgroundColor, style.color])"
        )

    for light, dark in zip(colours["light"], colours["dark"], strict=True):
        assert light != dark
    assert luminance(parsed(colours["dark"][0])) < 0.05 < 0.8 < luminance(parsed(colours["light"][0]))


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("state", STATES)
def test_a_keyboard_reaches_everything_and_shows_where_it_is(
    state: str, width: int, api: Server, cameras: Cameras, tab: Tab
) -> None:
    STATES[state](cameras)
    tab.look(width)
    opened(tab, api, state)
    expected = tab.ask(FOCUSABLE)
    tab.ask("document.activeElement.blur()")
    tab.ask("const top = document.querySelector('.skip'); top.focus(); top.blur()")

    # Tab stops at day, month, year and button of each date.
    reached = [where for where in walk(tab, len(expected) + 9) if where is not None]

    assert sorted({name for name, _ in reached}) == sorted(set(expected))
    assert [name for name, seen in reached if not seen] == []


SKIP = """
document.querySelector(".skip").focus();
window.states = [];
const content = document.querySelector("#content");
new MutationObserver(() => states.push(content.dataset.camera)).observe(content, { attributeFilter: ["data-camera"] });
"""
SKIPPED = """
const { activeElement: node } = document;
return [node.closest("main") !== null, node.checkVisibility(), states.filter((each) => each === "loading")];
"""


@pytest.mark.parametrize("state", STATES)
def test_the_skip_link_leads_to_what_is_shown_and_nothing_starts_again(
    state: str, api: Server, cameras: Cameras, tab: Tab
) -> None:
    STATES[state](cameras)
    opened(tab, api, state)
    tab.ask(SKIP)
    path = DEVICES if state == "busy" else OVERVIEW
    asked = len(tab.asked(path))

    tab.press(Keys.ENTER)
    wait_until(lambda: len(tab.asked(path)) >= asked + 2, pause=0.1, what="it goes on")

    assert tab.driver.current_url.endswith(tab.ask("return document.querySelector('.skip').hash"))
    assert tab.ask(SKIPPED) == [True, True, []]


@pytest.mark.requests_fail
def test_the_skip_link_leads_to_the_token_form(cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab) -> None:
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN="0123456789abcdef") as api:
        tab.open(api.url + PAGE)
        tab.sees("Token", "#token-form")
        tab.ask(SKIP)

        tab.press(Keys.ENTER)
        assert tab.ask(SKIPPED) == [True, True, []]
        tab.press(Keys.TAB)
        assert tab.ask("return document.activeElement.id") == "token"


def walk(tab: Tab, steps: int) -> list[tuple[str, bool] | None]:
    """Return the element with the focus after each press of Tab, and of the arrow down in a list of one tab stop."""
    found = []
    for _ in range(steps):
        tab.press(Keys.TAB)
        found.append(tab.ask(FOCUS))
        if tab.ask(IN_A_LIST):
            tab.press(Keys.HOME)
            found += arrows(tab)
    return found


def arrows(tab: Tab) -> list[tuple[str, bool] | None]:
    """Return the elements of a list from the one with the focus to the last."""
    found = [tab.ask(FOCUS)]
    while True:
        tab.press(Keys.ARROW_DOWN)
        where = tab.ask(FOCUS)
        if where == found[-1]:
            return found
        found.append(where)


def test_arrow_keys_read_the_chart(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    zone = tab.site_at_noon()
    minute = cameras.remember("jetson_1", (60.0, 0.0, 0.0, 5.0), ago=timedelta(minutes=31), people=2).astimezone(zone)
    tab.open(api.url + PAGE)
    tab.sees("As a table", "#history")

    tab.ask("document.querySelector('#cursor').focus()")
    seen = [tab.text("#readout")]
    for _ in range(4):
        tab.press(Keys.ARROW_LEFT)
        seen.append(tab.text("#readout"))

    quarter = minute.replace(minute=minute.minute // 15 * 15)
    (found,) = {text for text in seen if "happy" in text}
    assert f"{quarter:%H:%M}" in found
    assert found.endswith(": happy 1 min · neutral 5 s, 2 people at most")
    assert tab.ask("return document.querySelector('#cursor').getAttribute('aria-valuetext')") == seen[-1]


@pytest.mark.parametrize("state", STATES)
def test_everything_that_can_be_used_has_a_name_for_screen_readers(
    state: str, api: Server, cameras: Cameras, tab: Tab
) -> None:
    STATES[state](cameras)
    opened(tab, api, state)

    nodes = tab.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    used = {"button", "link", "combobox", "slider", "textbox", "region", "navigation", "table", "DisclosureTriangle"}
    shown = [node for node in nodes if not node["ignored"]]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in shown]
    assert [role for role, name in named if role in used and not name] == []
    assert [name for role, name in named if role == "image" and not name] == []
    headings = tab.ask(
        "return [...document.querySelectorAll('h1, h2')].filter((each) => each.checkVisibility()).length"
    )
    assert len([role for role, _ in named if role == "heading"]) == headings
    assert {"main", "banner", "contentinfo", "navigation"} <= {role for role, _ in named}


def test_no_emotion_is_told_by_colour_alone(api: Server, cameras: Cameras, tab: Tab) -> None:
    """Each face has a mouth of its own, and its name beside it."""
    busy(cameras)
    opened(tab, api, "busy")

    faces = tab.ask(MOUTHS)
    mouths = {emotion: mouth for emotion, mouth, _ in faces}
    assert len(set(mouths.values())) == 4
    assert all(mouths[emotion] == mouth and emotion in beside for emotion, mouth, beside in faces)


def test_nothing_moves(api: Server, cameras: Cameras, tab: Tab) -> None:
    """A bar that moves has the browser lay out each frame; a mark that breathes takes half of the processor time."""
    cameras.hear()
    tab.look(DESKTOP, motion="")
    tab.open(api.url + PAGE)
    tab.sees("Live", "#state")
    with tab.answers("Person new", "#now-list"):
        cameras.hear(people={"new": (5.0, 0.0, 0.0, 0.0)})

    assert tab.ask("return document.getAnimations().length") == 0


def test_in_forced_colours_a_live_camera_looks_other_than_a_silent_one(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear("live")
    cameras.hear("silent", ago=100)
    forced = {"features": [{"name": "forced-colors", "value": "active"}]}
    tab.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", forced)
    grounds = []
    for device in ("live", "silent"):
        tab.open(f"{api.url}{PAGE}?device={device}")
        tab.sees(device.title(), "#state")
        grounds.append(tab.ask("return getComputedStyle(document.querySelector('#state-mark')).backgroundColor"))

    live, silent = (parsed(ground) for ground in grounds)
    assert live[3] == 1
    assert silent[3] == 0 or silent != live


@pytest.mark.parametrize("width", [PHONE, 390, 1024, DESKTOP, 1440, 1920])
def test_no_label_of_the_chart_is_cut_off_or_lies_over_another(
    width: int, api: Server, cameras: Cameras, tab: Tab
) -> None:
    cameras.hear()
    cameras.remember("jetson_1", (60.0, 0.0, 0.0, 5.0), ago=timedelta(), people=2)
    tab.look(width)
    for range_ in ("today", "7d", "28d"):
        tab.open(f"{api.url}{PAGE}?range={range_}")
        tab.sees("As a table", "#history")
        plot, labels = tab.ask(LABELS)
        below = [label for label in labels if label["top"] > plot["bottom"] - 22]

        assert len(below) >= 2
        assert [label for label in labels if label["left"] < plot["left"] or label["right"] > plot["right"]] == []
        assert all(one["right"] < other["left"] for one, other in pairwise(below))


def test_a_browser_of_another_language_and_zone_shows_the_same(api: Server, cameras: Cameras, tab: Tab) -> None:
    cameras.hear()
    tab.site_in("Asia/Kathmandu")
    tab.driver.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "de-DE"})
    tab.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "America/New_York"})
    tab.open(f"{api.url}{PAGE}?range=2026-03-02..2026-03-02")

    tab.sees("Monday 2 March 2026", "#history-title")
    asked = tab.ask(
        "return performance.getEntriesByType('resource').map(({ name }) => name).find((name) => /history/.test(name))"
    )
    assert "start=2026-03-01T18%3A15%3A00.000Z" in asked


@pytest.mark.requests_fail
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_token_form_fits_a_phone_and_is_legible(
    theme: Theme, cameras: Cameras, shown_url: str, tmp_path: Path, tab: Tab
) -> None:
    with Server(shown_url, tmp_path / "api.log", EMOTION_API_TOKEN="0123456789abcdef") as api:
        tab.look(PHONE, theme)
        tab.open(api.url + PAGE)
        tab.sees("Token", "#token-form")

        assert tab.ask(WIDE) == []
        assert [text for text, colour, behind in tab.ask(TEXTS) if contrast(colour, behind) < 4.5] == []
        assert tab.ask("return document.activeElement.id") == "token"


def contrast(colour: str, behind: list[str]) -> float:
    """WCAG's contrast of a colour with what lies behind it, from the top down."""
    ground: Colour = (255, 255, 255, 1)
    for layer in reversed(behind):
        ground = over(parsed(layer), ground)
    first, second = luminance(over(parsed(colour), ground)), luminance(ground)
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def parsed(colour: str) -> Colour:
    """rgb(…), rgba(…) or color(srgb …), as computed styles have it."""
    red, green, blue, *alpha = (float(number) for number in re.findall(r"[\d.]+", colour))
    most = 255 if colour.startswith("color(srgb ") else 1
    return red * most, green * most, blue * most, alpha[0] if alpha else 1.0


def over(colour: Colour, ground: Colour) -> Colour:
    opacity = colour[3]
    red, green, blue = (ours * opacity + ground[place] * (1 - opacity) for place, ours in enumerate(colour[:3]))
    return red, green, blue, 1.0


def luminance(colour: Colour) -> float:
    red, green, blue = (_linear(part / 255) for part in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)
