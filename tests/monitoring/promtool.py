"""Hours in a second: what the shipped rules say of figures that a test makes up, worked out by promtool."""

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes import ROOT

CONFIGURATIONS = ROOT / "deploy" / "prometheus"
RULES = CONFIGURATIONS / "rules.yml"

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

Figure = Callable[[float], float | None]
"""The value of a series at a time in seconds; None where nothing is scraped."""

Labels = frozenset[tuple[str, str]]
"""The labels that identify an alert."""

_SCRAPE_SECONDS = 15
_DAEMON, _API = 'job="emotion-daemon",instance="daemon:9464"', 'job="emotion-api",instance="api:8000"'
_REASONS = ("locked", "full", "unreadable", "unreachable", "other")


def promtool(*arguments: str) -> str:
    """Return the output. Raises AssertionError if promtool refuses something."""
    program = shutil.which("promtool")
    assert program, "the tests need promtool: apt-get install prometheus"
    run = subprocess.run(
        [program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


def alert(name: str, **labels: str) -> Labels:
    """One alert that fires, with what tells it from others of its name."""
    return frozenset({"alertname": name, **labels}.items())


def always(value: float) -> Figure:
    return lambda at: value


def during(start: float, end: float, then: float, *, otherwise: float) -> Figure:
    """`then` from `start` on until before `end`, else `otherwise`."""
    return lambda at: then if start <= at < end else otherwise


@dataclass
class Fired:
    """The alerts that fire at each moment, in seconds."""

    at: dict[float, set[Labels]]

    def between(self, start: float, end: float = math.inf) -> set[Labels]:
        """Return the alerts that fire at any time from `start` to `end`."""
        return set().union(*(alerts for moment, alerts in self.at.items() if start <= moment <= end))

    @property
    def ever(self) -> set[Labels]:
        return self.between(0)


@dataclass
class Timeline:
    """A system that is well, from second 0 until `until`, but for what a test says."""

    until: float
    figures: dict[str, Figure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        well: dict[str, Figure] = {
            f"up{{{_DAEMON}}}": always(1),
            f"up{{{_API}}}": always(1),
            f"emotion_api_database_up{{{_API}}}": always(1),
            f"emotion_start_timestamp_seconds{{{_DAEMON}}}": always(-DAY),
            f"emotion_broker_connected{{{_DAEMON}}}": always(1),
            f"emotion_loop_age_seconds{{{_DAEMON}}}": always(0.1),
            f"emotion_database_wait_seconds{{{_DAEMON}}}": always(0),
            f"emotion_broker_reconnects_total{{{_DAEMON}}}": always(0),
            f"emotion_database_disk_free_bytes{{{_DAEMON}}}": always(50e9),
            f"emotion_database_disk_bytes{{{_DAEMON}}}": always(100e9),
        }
        for reason in _REASONS:
            well[f'emotion_database_failing{{{_DAEMON},reason="{reason}"}}'] = always(0)
        self.figures = well | self.figures
        self.camera("camera_1")

    def daemon(self, name: str, figure: Figure, **labels: str) -> None:
        """A figure of the daemon's is another than it is while all is well."""
        more = "".join(f',{label}="{value}"' for label, value in labels.items())
        series = f"{name}{{{_DAEMON}{more}}}"
        assert labels or series in self.figures, series
        self.figures[series] = figure

    def api(self, name: str, figure: Figure) -> None:
        assert f"{name}{{{_API}}}" in self.figures
        self.figures[f"{name}{{{_API}}}"] = figure

    def camera(self, device_id: str, *, heard: Figure = lambda at: at, skew: Figure = lambda at: -0.1) -> None:
        """Add a device with the time of its last batch, and with the lead of its clock over that."""
        self.daemon("emotion_device_last_batch_timestamp_seconds", heard, device_id=device_id)
        self.daemon("emotion_device_clock_skew_seconds", skew, device_id=device_id)

    def rejected(self, reason: str, figure: Figure) -> None:
        """Add the number of rejected messages of all devices."""
        self.daemon("emotion_rejected_messages_total", figure, reason=reason)

    def another_daemon(self, *cameras: str, knows: str) -> None:
        """On the same database, with a broker of its own, whose `cameras` it hears; `knows` is another's camera."""
        other = {
            series.replace("daemon:9464", "daemon-2:9464"): figure
            for series, figure in self.figures.items()
            if _DAEMON in series and "device_id" not in series
        }
        for camera in (*cameras, knows):
            series = f'emotion_device_last_batch_timestamp_seconds{{{_DAEMON},device_id="{camera}"}}'
            other[series.replace("daemon:9464", "daemon-2:9464")] = always(0) if camera == knows else lambda at: at
        self.figures |= other

    def daemon_is_away(self, start: float, end: float, *, frozen: bool = False) -> None:
        """Killed, and started again at the end; or only frozen, as in a paused virtual machine."""
        if not frozen:
            self.daemon("emotion_start_timestamp_seconds", during(-DAY, end, -DAY, otherwise=end))
        self.daemon_does_not_answer(lambda at: start <= at < end)

    def daemon_does_not_answer(self, when: Callable[[float], bool]) -> None:
        for series, figure in self.figures.items():
            if _DAEMON in series:
                away = 0.0 if series.startswith("up") else None
                self.figures[series] = _unless(when, away, figure)

    def prometheus_is_away(self, start: float, end: float) -> None:
        for series, figure in self.figures.items():
            self.figures[series] = _unless(lambda at: start <= at < end, None, figure)

    def run(self, folder: Path) -> "Fired":
        """Return the results of the shipped rules."""
        moments = range(0, int(self.until) + 1, _SCRAPE_SECONDS)
        test = {
            "rule_files": [str(RULES)],
            "evaluation_interval": f"{_SCRAPE_SECONDS}s",
            "tests": [
                {
                    "interval": f"{_SCRAPE_SECONDS}s",
                    "input_series": [{"series": name, "values": self._values(of)} for name, of in self.figures.items()],
                    "promql_expr_test": [_told(moment) for moment in moments],
                }
            ],
        }
        file = folder / "test.yml"
        file.write_text(json.dumps(test))
        run = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
        answers = (run.stdout + run.stderr).split("got:")[1:]
        assert len(answers) == len(moments), run.stdout[:3_000] + run.stderr[:3_000]
        return Fired({moment: _parse(answer) for moment, answer in zip(moments, answers, strict=True)})

    def _values(self, figure: Figure) -> str:
        moments = range(0, int(self.until) + _SCRAPE_SECONDS, _SCRAPE_SECONDS)
        return " ".join("stale" if (value := figure(at)) is None else f"{value:.15g}" for at in map(float, moments))


def _told(moment: int) -> dict[str, Any]:
    """promtool compares and does not answer: so it is told what cannot be, and says what it got instead."""
    expression = 'count by (alertname, device_id, reason, shard) (ALERTS{alertstate="firing"}) or vector(0)'
    return {"expr": expression, "eval_time": f"{moment}s", "exp_samples": [{"labels": "impossible", "value": 0}]}


def _unless(when: Callable[[float], bool], value: float | None, figure: Figure) -> Figure:
    return lambda at: value if when(at) else figure(at)


def _parse(got: str) -> set[Labels]:
    """From `{alertname="EmotionBrokerDown"} 1E+00, {} 0E+00` and what follows."""
    found = set()
    for labels in re.findall(r'\{(alertname="[^}]*)\}', got):
        found.add(frozenset(re.findall(r'(\w+)="([^"]*)"', labels)))
    return found
