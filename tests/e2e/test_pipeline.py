"""From a device's PUBLISH to the dashboard's JSON: the broker, the daemon and the API as an operator runs them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.brokers import Broker
from tests.examples import README_PAYLOAD, README_SUMMARY
from tests.processes import Daemon
from tests.waiting import wait_until
from tests.web import Api


def publish(broker: Broker, device_id: str, payload: str) -> None:
    program = shutil.which("mosquitto_pub")
    assert program, "the tests need mosquitto_pub: apt-get install mosquitto-clients"
    address = ["-h", broker.host, "-p", str(broker.port)]
    subprocess.run([program, *address, "-q", "1", "-t", f"emotions/{device_id}/batch", "-m", payload], check=True)


def changed_summary(api: Api, before: Any) -> Any:
    """The summary, once it is another than `before`."""
    wait_until(lambda: api.summary() != before, what="the summary changes")
    return api.summary()


def test_what_a_device_publishes_is_what_the_dashboard_shows(broker: Broker, sqlite_url: str, tmp_path: Path) -> None:
    with (
        Daemon(broker, sqlite_url, tmp_path / "daemon.log") as daemon,
        Api(sqlite_url, tmp_path / "api.log") as api,
    ):
        daemon.wait_for_log("subscribed to")
        before = api.summary()
        publish(broker, "jetson_1", README_PAYLOAD)
        after = changed_summary(api, before)
        other = api.summary("jetson_2")

    assert before["current_people"] == []
    assert after == README_SUMMARY
    assert other["current_people"] == []


def test_a_later_batch_replaces_the_earlier_one_on_the_dashboard(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    later = README_PAYLOAD.replace("12:34:56", "12:34:57").replace("20.0", "200.0")
    with (
        Daemon(broker, sqlite_url, tmp_path / "daemon.log") as daemon,
        Api(sqlite_url, tmp_path / "api.log") as api,
    ):
        daemon.wait_for_log("subscribed to")
        publish(broker, "jetson_1", README_PAYLOAD)
        wait_until(lambda: api.summary() == README_SUMMARY, what="the first batch is shown")
        publish(broker, "jetson_1", later)
        publish(broker, "jetson_1", README_PAYLOAD)  # late: changes nothing
        shown = changed_summary(api, README_SUMMARY)

    assert shown["updated_at"] == "2025-11-14T12:34:57Z"
    assert shown["emotion_totals"]["sad"] == 200.0
    assert [person["current_emotion"] for person in shown["current_people"]] == ["sad"]
