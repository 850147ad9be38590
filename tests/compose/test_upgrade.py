"""The version before, with its data and with messages waiting, is replaced by this one."""

import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.compose.project import Project, clone, project
from tests.processes import ROOT
from tests.waiting import wait_until

PREVIOUS = "4adfc39d00f8a0f2b1e8197c17d4878f56772a19"
"""The last commit whose broker let every client in."""

ITS_IMAGE = "emotion-analytics"
"""The name of its image, independent of the project's name."""


def test_what_was_stored_and_what_was_waiting_is_there_after_the_upgrade(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    archive = subprocess.run(["git", "archive", PREVIOUS], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=before, input=archive, check=True)
    with without_image(ITS_IMAGE), project(before) as upgraded:
        upgraded.compose("up", "--build", "--detach", "--wait")
        publish_anonymously(upgraded, "jetson_1", 1.0)
        wait_until(lambda: upgraded.happy("jetson_1") == 1.0, what="the batch is in the summary")
        upgraded.compose("stop", "daemon")
        publish_anonymously(upgraded, "jetson_2", 2.0)

        upgraded.folder = clone(after)
        upgraded.compose("build", "--quiet")
        backup = upgraded.folder / upgraded.run("scripts/backup").strip()
        upgraded.compose("up", "--force-recreate", "--detach", "--wait")

        wait_until(lambda: upgraded.happy("jetson_2") == 2.0, what="what was waiting is in the summary")
        with tarfile.open(backup) as saved:
            assert "emotion.db" in saved.getnames(), "of a version that had no scripts/backup"
        assert upgraded.happy("jetson_1") == 1.0
        upgraded.add_device("jetson_1")
        upgraded.publish("jetson_1", 3.0)
        wait_until(lambda: upgraded.happy("jetson_1") == 3.0, what="the batch is in the summary")


@contextmanager
def without_image(name: str) -> Iterator[None]:
    """The image `name` is there after the block only if it was there before."""
    found = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False)
    yield
    if found.returncode != 0:
        subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)


def publish_anonymously(site: Project, device_id: str, happy: float) -> None:
    people = f'[{{"person_id": "1", "cumulative": {{"happy": {happy}}}}}]'
    batch = f'{{"device_id": "{device_id}", "timestamp": "2025-11-14T12:34:56Z", "people": {people}}}'
    topic = f"emotions/{device_id}/batch"
    site.run("mosquitto_pub", "-V", "5", "-q", "1", "-p", str(site.port), "-t", topic, "-m", batch)
