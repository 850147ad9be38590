"""The real docker-compose.yml under a real Docker engine. Skipped, saying so, only where no engine answers."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.processes import ROOT
from tests.waiting import free_port, wait_until


def _engine_answers() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


pytestmark = [
    pytest.mark.skipif(not _engine_answers(), reason="no Docker engine answers `docker info` here"),
    pytest.mark.timeout(600),
]


class Project:
    """One `docker compose` project of its own, on free ports."""

    def __init__(self) -> None:
        self.mqtt_port, self.api_port = free_port(), free_port()

    def compose(self, *arguments: str) -> str:
        ports = {"MQTT_PORT": str(self.mqtt_port), "API_PORT": str(self.api_port)}
        finished = subprocess.run(
            ["docker", "compose", "-p", f"emotion-test-{os.getpid()}", *arguments],
            cwd=ROOT,
            env=os.environ | ports,
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def publish(self, device_id: str, happy: float) -> None:
        people = [{"person_id": "1", "cumulative": {"happy": happy}}]
        batch = {"device_id": device_id, "timestamp": "2025-11-14T12:34:56Z", "people": people}
        command = [
            "mosquitto_pub",
            "-V",
            "5",
            "-q",
            "1",
            "-p",
            str(self.mqtt_port),
            "-t",
            f"emotions/{device_id}/batch",
        ]
        subprocess.run([*command, "-m", json.dumps(batch)], check=True)

    def happy(self, device_id: str) -> Any:
        try:
            with urlopen(f"http://127.0.0.1:{self.api_port}/api/dashboard/summary?device_id={device_id}") as response:
                return json.load(response)["emotion_totals"]["happy"]
        except (URLError, ConnectionError):  # the API is starting
            return None


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    project = Project()
    try:
        project.compose("up", "--build", "-d", "--wait")
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "20")


def test_a_published_batch_is_in_the_summary(project: Project) -> None:
    project.publish("jetson_1", 123.5)

    wait_until(lambda: project.happy("jetson_1") == 123.5, seconds=30, what="the batch is in the summary")


def test_what_is_published_while_the_daemon_is_away_survives_a_killed_broker(project: Project) -> None:
    project.compose("stop", "daemon")
    project.publish("jetson_2", 7.0)
    project.compose("kill", "-s", "KILL", "mosquitto")

    project.compose("up", "-d", "--wait")

    wait_until(lambda: project.happy("jetson_2") == 7.0, seconds=60, what="the batch is in the summary")


def test_the_data_survives_down_and_up(project: Project) -> None:
    project.publish("jetson_3", 8.0)
    wait_until(lambda: project.happy("jetson_3") == 8.0, seconds=30, what="the batch is in the summary")

    project.compose("down", "--timeout", "20")
    project.compose("up", "-d", "--wait")

    wait_until(lambda: project.happy("jetson_3") == 8.0, seconds=60, what="the batch is in the summary")


def test_only_loopback_reaches_broker_and_api(project: Project) -> None:
    published = project.compose("ps", "--format", "{{.Ports}}")

    assert f"127.0.0.1:{project.mqtt_port}->1883/tcp" in published
    assert f"127.0.0.1:{project.api_port}->8000/tcp" in published
    assert "0.0.0.0" not in published
