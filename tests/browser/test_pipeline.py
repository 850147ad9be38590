"""From mosquitto_pub to the live page: broker, daemon, API and browser as people have them."""

import os
import subprocess
from pathlib import Path

from tests.brokers import Broker
from tests.browser.chromium import Tab
from tests.browser.serving import Server
from tests.processes import Daemon

PAGE = "/dashboard"
SILENT_AFTER = "3"


def run(command: str, broker: Broker, folder: Path) -> None:
    """A command line as the page shows it; the broker's name stands in a file, as it may for mosquitto_pub."""
    (folder / "mosquitto_pub").write_text(f"-h {broker.host}\n")
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder)}
    subprocess.run(["sh", "-c", command], env=environment, check=True, timeout=30)


def test_the_line_that_the_page_shows_makes_a_camera_appear_change_fall_silent_and_recover(
    broker: Broker, sqlite_url: str, tmp_path: Path, tab: Tab
) -> None:
    with (
        Daemon(broker, sqlite_url, tmp_path / "daemon.log") as daemon,
        Server(
            sqlite_url,
            tmp_path / "api.log",
            EMOTION_SILENT_AFTER_SECONDS=SILENT_AFTER,
            EMOTION_MQTT_PORT=str(broker.port),
        ) as api,
    ):
        daemon.wait_for_log("subscribed to")
        tab.open(api.url + PAGE)
        tab.sees("No camera has sent anything yet")
        command = tab.text("pre")

        run(command, broker, tmp_path)
        tab.sees("Live", "#state", seconds=2)
        assert tab.text("#now-list li") == "Person 1 Happy happy 13 s · sad 3 s · angry 0.5 s"

        tab.sees("Silent", "#state")
        tab.sees("Seen before")

        run(command.replace('"sad":3', '"sad":77'), broker, tmp_path)
        tab.sees("Person 1 Sad happy 13 s · sad 1 min 17 s", "#now-list", seconds=2)
        tab.sees("Live", "#state")
        tab.open("about:blank")
