"""A camera that posts to the former backend's address, through the bridge, to the dashboard: real processes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from emotion_admin.logins import Logins
from emotion_admin.roles import DAEMON
from shared.batch import Topics
from tests.brokers import Broker, shipped_rules
from tests.processes import ROOT, Daemon, without_settings
from tests.waiting import DEADLINE_SECONDS, accepts_connections, free_port, wait_until
from tests.web import Api

PEOPLE = ("Anna", "Ben", "Chloé", "Davide", "Emil")
EMOTIONS = ("happy", "sad", "angry", "neutral", "unknown")
STEP = 5.0
STEPS = 12
DEVICES = ("jetson_1", "jetson_2")

pytestmark = pytest.mark.program


@contextmanager
def bridge(broker: Broker, passwords: Path, log: Path) -> Iterator[int]:
    """The command as a gateway runs it, with settings in its environment. Yields its port."""
    port = free_port()
    environment = without_settings() | {
        "EMOTION_BRIDGE_LISTEN": f"127.0.0.1:{port}",
        "EMOTION_BRIDGE_PASSWORD_FILE": str(passwords),
        "EMOTION_MQTT_HOST": broker.host,
        "EMOTION_MQTT_PORT": str(broker.port),
    }
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "emotion_device", "bridge"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stream)
    try:
        wait_until(lambda: accepts_connections("127.0.0.1", port), what="the bridge listens")
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=DEADLINE_SECONDS) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Broker]:
    """The shipped broker, with a login for the daemon and each device; `passwords` is the gateway's file."""
    broker = Broker(tmp_path, shipped_rules(tmp_path))
    logins = Logins(broker.logins, Topics("emotions"))
    lines = [f"{device_id}:{logins.add(device_id)}\n" for device_id in DEVICES]
    (tmp_path / "passwords").write_text("".join(lines))
    (tmp_path / "daemon-password").write_text(logins.renew(DAEMON))
    broker.start()
    yield broker
    broker.kill()


def post(port: int, batch: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    connection.request("POST", "/api/emotions/batch", json.dumps(batch), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body


def batches(device_id: str, end: datetime) -> list[dict[str, Any]]:
    """One minute of a device that names all its registered people in every batch; each shows one emotion."""
    made = []
    for step in range(STEPS + 1):
        people = [
            {"person_id": name, "cumulative": dict.fromkeys(EMOTIONS, 0.0) | {emotion: step * STEP}}
            for name, emotion in zip(PEOPLE, EMOTIONS, strict=True)
        ]
        timestamp = (end - timedelta(seconds=(STEPS - step) * STEP)).isoformat()
        made.append({"device_id": device_id, "timestamp": timestamp, "people": people})
    return made


def test_a_camera_of_the_former_backend_moves_without_a_change(site: Broker, sqlite_url: str, tmp_path: Path) -> None:
    login = {"EMOTION_MQTT_USERNAME": DAEMON, "EMOTION_MQTT_PASSWORD_FILE": str(tmp_path / "daemon-password")}
    with (
        Daemon(site, sqlite_url, tmp_path / "daemon.log", **login) as daemon,
        Api(sqlite_url, tmp_path / "api.log") as api,
        bridge(site, tmp_path / "passwords", tmp_path / "bridge.log") as port,
    ):
        daemon.wait_for_log("subscribed to")
        now = datetime.now(UTC)
        answers = [post(port, batch) for device_id in DEVICES for batch in batches(device_id, now)]
        summaries = [api.summary(device_id) for device_id in DEVICES]
        devices = json.loads(api.ask("/api/devices").body)["devices"]

    assert answers == [(200, {"status": "ok", "updated_count": 5})] * 2 * (STEPS + 1)
    seconds = dict.fromkeys(("happy", "sad", "angry", "neutral"), STEPS * STEP)
    for summary in summaries:
        assert summary["emotion_totals"] == seconds
        assert summary["history_totals"] == seconds
        assert {person["person_id"] for person in summary["current_people"]} == set(PEOPLE)
    assert {device["device_id"]: device["online"] for device in devices} == dict.fromkeys(DEVICES, True)
