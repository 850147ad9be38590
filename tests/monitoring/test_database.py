"""The database locked, or its disk full: the alert that names it fires, and no other until all is well again."""

import sys
import tempfile
from pathlib import Path

from tests.faults.rig import locked
from tests.faults.small_disk import filled, nearly_filled, on_small_disk
from tests.monitoring.promtool import alert
from tests.monitoring.system import System, watched

LOCKED = alert("EmotionDatabaseLocked", reason="locked")
FULL = alert("EmotionDiskFull", reason="full")
NEARLY_FULL = alert("EmotionDiskNearlyFull")

DISK = 64 * 2**20
"""Bytes. What the daemon writes while it is nearly full has to fit into the little that is left."""


def test_a_database_that_another_writer_has_locked_is_named_alone(system: System) -> None:
    with system.names_alone(LOCKED), locked(system.url):
        system.last(LOCKED)


def test_a_disk_that_fills_up_is_named_alone(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    on_small_disk(folder, __name__, size=DISK)


def fill_up(folder: Path) -> None:
    """Nearly, which is a warning; then altogether, and nothing more is said of nearly."""
    with (
        tempfile.TemporaryDirectory() as elsewhere,
        watched(Path(elsewhere), database=folder) as system,
        system.names_alone(NEARLY_FULL, FULL),
    ):
        with nearly_filled(folder, left=0.08):
            system.wait_for(NEARLY_FULL)
        with filled(folder):
            system.last(FULL)


if __name__ == "__main__":
    fill_up(Path(sys.argv[1]))
