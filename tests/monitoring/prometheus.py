"""A real Prometheus with the shipped configuration and rules, in which time passes faster: a minute in 2.4 seconds."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.monitoring.promtool import CONFIGURATIONS, RULES, Labels, alert
from tests.waiting import free_port, wait_until

FASTER = 25
"""The factor of the shortened time: a scrape every 600 ms, not every 15 s. With 30 the 2 s
that a commit may wait for a lock would look like a loop that hangs."""

_UNIT_MILLISECONDS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def seconds(minutes: float) -> float:
    """Return the seconds that so many minutes of the rules take here."""
    return minutes * 60 / FASTER


def faster(part: Any) -> Any:
    """Rules or a configuration as they were read, with each duration and each `5 * 60` shortened."""
    if isinstance(part, dict):
        return {name: faster(value) for name, value in part.items()}
    if isinstance(part, list):
        return [faster(value) for value in part]
    if isinstance(part, str):
        part = re.sub(r"\b(\d+)([smhd])\b", lambda found: _shorter(int(found[1]), found[2]), part)
        return re.sub(r"\b(\d+) \* 60\b", lambda found: f"{seconds(int(found[1])):g}", part)
    return part


def _shorter(number: int, unit: str) -> str:
    return f"{number * _UNIT_MILLISECONDS[unit] // FASTER}ms"


class RefusedError(Exception):
    """Raised when Prometheus does not take an expression; its text says why."""


class Prometheus:
    """Scrapes daemon and API during the block, under the addresses `targets` by job."""

    def __init__(self, folder: Path, targets: dict[str, str]) -> None:
        self._folder = folder
        self._targets = targets
        self.port = free_port()

    def __enter__(self) -> "Prometheus":
        program = shutil.which("prometheus")
        assert program, "the tests need Prometheus: apt-get install prometheus"
        self._folder.mkdir()
        self._write("rules.yml", faster(yaml.safe_load(RULES.read_text())))
        configuration = faster(yaml.safe_load((CONFIGURATIONS / "host.yml").read_text()))
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [self._targets[job["job_name"]]]}]
        self._write("prometheus.yml", configuration)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--scrape.discovery-reload-interval=100ms",  # instead of 5 s until the first scrape
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, what="Prometheus answers")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait(timeout=30)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series and their values of this moment. Raises RefusedError."""
        address = f"http://127.0.0.1:{self.port}/api/v1/query?{urlencode({'query': expression})}"
        try:
            with urlopen(address, timeout=15) as response:
                result = json.load(response)["data"]["result"]
        except HTTPError as error:
            with error:
                raise RefusedError(error.read().decode()) from error
        assert isinstance(result, list), f"{expression} has no series, but {result}"
        return result

    def firing(self) -> set[Labels]:
        return self._alerts('ALERTS{alertstate="firing"}')

    def fired_since(self, moment: float) -> set[Labels]:
        """All that has fired at any time since `moment` (seconds since the epoch)."""
        milliseconds = 1_000 * (time.time() - moment)
        return self._alerts(f'last_over_time(ALERTS{{alertstate="firing"}}[{milliseconds:.0f}ms])')

    def _alerts(self, expression: str) -> set[Labels]:
        found = self.query(f"count by (alertname, device_id, reason) ({expression})")
        return {alert(**{("name" if k == "alertname" else k): v for k, v in each["metric"].items()}) for each in found}

    def _write(self, name: str, content: Any) -> None:
        (self._folder / name).write_text(json.dumps(content))  # which is YAML, too

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False
