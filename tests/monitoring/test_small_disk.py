"""The database's disk fills up, and the broker goes meanwhile: each is named, and nothing else until all is well."""

import sys
import tempfile
from pathlib import Path

from tests.faults.small_disk import filled, nearly_filled, on_small_disk
from tests.monitoring.promtool import alert
from tests.monitoring.system import watched

BROKER_DOWN = alert("EmotionBrokerDown")
FULL = alert("EmotionDiskFull", reason="full")
NEARLY_FULL = alert("EmotionDiskNearlyFull")

DISK = 64 * 2**20
"""Bytes. What the daemon writes while it is nearly full has to fit into the little that is left."""


def test_a_disk_that_fills_up_and_a_broker_that_is_stopped_are_named_alone(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    on_small_disk(folder, __name__, size=DISK)


def fill_up(folder: Path) -> None:
    """Nearly, which is a warning, and a broker has nothing to do with it; then altogether, and nothing more is said of
    nearly."""
    with (
        tempfile.TemporaryDirectory() as elsewhere,
        watched(Path(elsewhere), database=folder) as system,
        system.names_alone(NEARLY_FULL, BROKER_DOWN, FULL),
    ):
        with nearly_filled(folder, left=0.08):
            system.broker.stop()
            system.last(NEARLY_FULL, BROKER_DOWN)
            system.broker.start()
            system.wait_for(NEARLY_FULL)
        with filled(folder):
            system.last(FULL)


if __name__ == "__main__":
    fill_up(Path(sys.argv[1]))
