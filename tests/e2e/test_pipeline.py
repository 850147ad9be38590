"""From a device's PUBLISH to the dashboard's JSON: the broker, the daemon and the API as an operator runs them."""

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from tests.brokers import Broker
from tests.processes import Daemon, api
from tests.waiting import wait_until

PAYLOAD = (
    '{"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z",\n'
    ' "people": [{"person_id": "1", "cumulative": {"happy": 123.5, "sad": 20.0, "angry": 10.0}}]}'
)
SUMMARY = {
    "device_id": "jetson_1",
    "device_name": "Entrance Camera",
    "updated_at": "2025-11-14T12:34:56Z",
    "emotion_totals": {"happy": 123.5, "sad": 20.0, "angry": 10.0, "neutral": 0.0},
    "current_people": [
        {
            "person_id": "1",
            "current_emotion": "happy",
            "time_happy": 123.5,
            "time_sad": 20.0,
            "time_angry": 10.0,
            "time_neutral": 0.0,
            "last_seen": "2025-11-14T12:34:56Z",
        }
    ],
}


def publish(broker: Broker, device_id: str, payload: str) -> None:
    program = shutil.which("mosquitto_pub")
    assert program, "the tests need mosquitto_pub: apt-get install mosquitto-clients"
    address = ["-h", broker.host, "-p", str(broker.port)]
    subprocess.run([program, *address, "-q", "1", "-t", f"emotions/{device_id}/batch", "-m", payload], check=True)


def summary(base_url: str, device_id: str | None = None) -> Any:
    query = "" if device_id is None else f"?device_id={device_id}"
    with urllib.request.urlopen(f"{base_url}/api/dashboard/summary{query}", timeout=15) as answer:
        return json.load(answer)


def changed_summary(base_url: str, before: Any) -> Any:
    """The summary, once it is another than `before`."""
    wait_until(lambda: summary(base_url) != before, what="the summary changes")
    return summary(base_url)


def test_what_a_device_publishes_is_what_the_dashboard_shows(broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
    with (
        Daemon(broker, sqlite_url, tmp_path / "daemon.log") as daemon,
        api(broker, sqlite_url, tmp_path / "api.log") as base_url,
    ):
        daemon.wait_for_log("subscribed to")
        before = summary(base_url)
        publish(broker, "jetson_1", PAYLOAD)
        after = changed_summary(base_url, before)
        other = summary(base_url, "jetson_2")

    assert before["current_people"] == []
    assert after == SUMMARY
    assert other["current_people"] == []


def test_a_later_batch_replaces_the_earlier_one_on_the_dashboard(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    later = PAYLOAD.replace("12:34:56", "12:34:57").replace("20.0", "200.0")
    with (
        Daemon(broker, sqlite_url, tmp_path / "daemon.log") as daemon,
        api(broker, sqlite_url, tmp_path / "api.log") as base_url,
    ):
        daemon.wait_for_log("subscribed to")
        publish(broker, "jetson_1", PAYLOAD)
        wait_until(lambda: summary(base_url) == SUMMARY, what="the first batch is shown")
        publish(broker, "jetson_1", later)
        publish(broker, "jetson_1", PAYLOAD)  # late: changes nothing
        shown = changed_summary(base_url, SUMMARY)

    assert shown["updated_at"] == "2025-11-14T12:34:57Z"
    assert shown["emotion_totals"]["sad"] == 200.0
    assert [person["current_emotion"] for person in shown["current_people"]] == ["sad"]
