"""Grafana's dashboard and the rules ask for what there is: no typing error leaves a panel empty or an alert mute."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest
import yaml

from tests.monitoring.prometheus import seconds
from tests.monitoring.promtool import RULES, alert
from tests.monitoring.system import System
from tests.processes import ROOT
from tests.waiting import wait_until

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "emotion.json").read_text())

PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
RULES_READ = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def as_grafana_asks(expression: str) -> str:
    """With durations in the place of Grafana's variables."""
    return expression.replace("$__rate_interval", f"{1_000 * seconds(4):.0f}ms").replace("$__range", "10m")


def metrics(expression: str) -> set[str]:
    """The names of metrics in it: what is no function, label, keyword or duration."""
    without = re.sub(r'"[^"]*"|\b(by|without|on|ignoring) \([^)]*\)|\{[^}]*\}|\[[^]]*\]', "", expression)
    return set(re.findall(r"\b(?:emotion|process)[\w:]+|\bup\b|\bALERTS\b", without))


@pytest.fixture(scope="module")
def busy(system: System) -> Iterator[System]:
    """A system whose cameras do all that a panel shows: one is rejected, one has a wrong clock, and one floods.

    Only the flood lasts so long that an alert fires.
    """
    system.cameras["camera_4"].times = 10
    for wrong in (True, False, True, False):
        system.cameras["camera_2"].rubbish = wrong
        system.cameras["camera_3"].clock_skew = timedelta(hours=wrong)
        system.pass_time(seconds(0.4))
    system.wait_for(alert("EmotionDeviceFloods", device_id="camera_4"))
    yield system
    system.cameras["camera_4"].times = 1
    system.wait_until_well()


@pytest.mark.parametrize(
    ("title", "expression"), PANELS, ids=[f"{title}: {expression:.40}" for title, expression in PANELS]
)
def test_a_panel_shows_something(title: str, expression: str, busy: System) -> None:
    asked = as_grafana_asks(expression)

    def values() -> list[str]:
        if "api_request" in expression:
            busy.api.ask("/")
        return [each["value"][1] for each in busy.prometheus.query(asked) if each["value"][1] != "NaN"]

    wait_until(values, pause=0.2, what=f"{title} shows something for {asked}")


@pytest.mark.parametrize("rule", RULES_READ, ids=lambda rule: rule.get("alert", rule.get("record")))
def test_prometheus_takes_each_rule(rule: dict[str, Any], busy: System) -> None:
    """And every metric in it is one that daemon or API have."""
    busy.prometheus.query(rule["expr"])

    assert metrics(rule["expr"])
    for name in metrics(rule["expr"]) - {"ALERTS"}:  # some are there ten minutes after the start of the daemon
        wait_until(partial(busy.prometheus.query, name), pause=0.2, what=f"there is {name}")


def test_every_metric_of_the_dashboard_exists(busy: System) -> None:
    names = {name for _, expression in PANELS for name in metrics(expression)}

    assert len(names) > 20
    assert {name for name in names - {"ALERTS"} if not busy.prometheus.query(name)} == set()


def test_every_metric_of_the_daemon_is_shown_somewhere(busy: System) -> None:
    """So that none is forgotten when one is added."""
    host, port = busy.daemon_http_address.split(":")
    connection = HTTPConnection(host, int(port), timeout=15)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    expressions = [expression for _, expression in PANELS] + [rule["expr"] for rule in RULES_READ]
    used = {re.sub(r"_(bucket|count|sum)$", "", name) for each in expressions for name in metrics(each)}
    exposed = set(re.findall(r"^# TYPE (emotion_\w+) (?:counter|gauge|histogram)$", text, re.MULTILINE))

    assert {name for name in exposed if not name.endswith("_created")} - used == set()


def test_panels_do_not_lie_over_one_another() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
