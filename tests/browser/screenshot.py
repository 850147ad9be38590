"""The picture of the live page in README.md, made anew: `python -m tests.browser.screenshot [FILE]`."""

import base64
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from math import pi, sin
from pathlib import Path

from tests.browser.cameras import Cameras, Seconds
from tests.browser.chromium import DESKTOP, Chromium
from tests.browser.serving import Server
from tests.processes import ROOT

FILE = ROOT / "docs" / "dashboard.png"
HEIGHT = 1_030
QUARTERS = 95

IN_VIEW: dict[str, Seconds] = {"61": (94.0, 6.0, 0.0, 21.0), "62": (8.0, 41.0, 3.5, 12.0), "63": (2.0, 0.0, 26.0, 9.0)}


def write(cameras: Cameras) -> None:
    """A shop in the afternoon: four cameras, one of them silent, and the day behind them."""
    chance = random.Random(7)
    for person in range(60):  # the longer ago, the smaller the number
        happy, sad, angry, neutral = (chance.uniform(0, 1) ** 2 * most for most in (1_500, 500, 250, 1_000))
        cameras.hear(people={f"{person + 1}": (happy, sad, angry, neutral)}, ago=45 + 9 * (60 - person) ** 1.8)
    for quarter in range(QUARTERS):
        busy = max(0.0, sin(pi * (quarter + 3) / 44)) if quarter < 41 else 0.0
        happy, sad, angry, neutral = (busy * chance.uniform(0.3, 1) * most for most in (1_100, 260, 130, 700))
        if busy:
            people = 1 + round(busy * 5) if quarter else len(IN_VIEW)
            then = timedelta(minutes=15 * quarter)
            cameras.remember("jetson_1", (happy, sad, angry, neutral), ago=then, people=people, covered=850.0)
    cameras.hear("jetson_2", people={"3": (5.0, 0.0, 0.0, 2.0)}, name="Lobby")
    cameras.hear("jetson_3", people={}, name="Staircase")
    cameras.hear("jetson_7", ago=14 * 60 + 20, name="Back Door")
    cameras.hear("jetson_1", people=IN_VIEW, name="Entrance Camera", now=(14.0, 6.0, 3.0, 7.0))
    cameras.know_covered("jetson_1", ago=timedelta(days=3))


def main(file: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder}/emotion.db"
        with Cameras(url) as cameras, Chromium(folder / "profile") as chromium, Server(url, folder / "api.log") as api:
            tab = chromium.new_tab()
            tab.look(DESKTOP, motion="reduce")
            hours = max(16 - datetime.now(UTC).hour, -12)  # it is afternoon in the shop
            zone = f"Etc/GMT{-hours:+}"  # where the sign is the other way round
            tab.site_in(zone)
            write(cameras)
            tab.open(f"{api.url}/dashboard?device=jetson_1")
            tab.sees("As a table", "#history")
            area = {"x": 0, "y": 0, "width": DESKTOP, "height": HEIGHT, "scale": 1}
            picture = tab.driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"clip": area, "captureBeyondViewport": True, "optimizeForSpeed": False}
            )
            chromium.close_tabs()
    file.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
