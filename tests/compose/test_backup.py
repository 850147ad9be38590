"""A backup that is made under load, and put back after what an operator fears."""

import stat
from pathlib import Path

from tests.compose.project import Project
from tests.waiting import wait_until


def test_a_backup_brings_back_data_logins_and_tokens(site: Project, tmp_path: Path) -> None:
    site.add_device("kept")
    site.publish("kept", 1.0)
    wait_until(lambda: site.happy("kept") == 1.0, what="the batch is in the summary")

    file = Path(site.folder, site.run("scripts/backup").strip())
    site.run("scripts/device", "remove", "kept")
    site.publish("jetson_1", 77.0)
    wait_until(lambda: site.happy("jetson_1") == 77.0, what="the batch is in the summary")
    site.run("scripts/restore", str(file))

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert site.happy("kept") == 1.0
    assert site.happy("jetson_1") != 77.0
    site.publish("kept", 2.0)
    wait_until(lambda: site.happy("kept") == 2.0, what="the login is there again")


def test_what_is_no_backup_changes_nothing(site: Project, tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    other.write_bytes(b"no archive")
    before = site.summary("jetson_1")

    shown = site.run("scripts/restore", str(other), expect=1)
    site.up()

    assert "this is no backup" in shown
    assert site.summary("jetson_1") == before
