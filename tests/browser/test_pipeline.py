"""From mosquitto_pub to the live page: broker, daemon, API and browser as people have them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.background import repeatedly
from tests.brokers import Broker
from tests.browser.chromium import Tab
from tests.browser.serving import Server
from tests.processes import Daemon

PAGE = "/dashboard"
SILENT_AFTER = "3"


@contextmanager
def publishing(command: str, broker: Broker, folder: Path) -> Iterator[None]:
    """Run a command line as the page shows it, twice a second during the block.

    mosquitto_pub reads the broker's name from a file, as it may for a user.
    """
    (folder / "mosquitto_pub").write_text(f"-h {broker.host}\n")
    environment = os.environ | {"XDG_CONFIG_HOME": str(folder)}

    def publish() -> None:
        subprocess.run(["sh", "-c", command], env=environment, check=True, timeout=30)

    with repeatedly(publish, pause=0.5):
        yield


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

        with publishing(command, broker, tmp_path):
            tab.sees("Live", "#state")
            tab.sees("Person 1 Happy happy 13 s · sad 3 s · angry 0.5 s", "#now-list li")

        tab.sees("Silent", "#state")
        tab.sees("Seen before")

        with publishing(command.replace('"sad":3', '"sad":77'), broker, tmp_path):
            tab.sees("Person 1 Sad happy 13 s · sad 1 min 17 s", "#now-list")
            tab.sees("Live", "#state")
        tab.open("about:blank")
