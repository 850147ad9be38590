"""The real docker-compose.yml under a real Docker engine. Skipped, saying so, only where no engine answers."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.project import Project, clone, project


def _engine_answers() -> bool:
    return (
        shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    answers = not here or _engine_answers()
    for item in here:
        item.add_marker(pytest.mark.timeout(300))
        if not answers:
            item.add_marker(pytest.mark.skip(reason="no Docker engine answers `docker info` here"))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that is up, built from a clone, with one device; shared by the tests of a package."""
    with project(clone(tmp_path_factory.mktemp("clone"))) as made:
        made.compose("build", "--quiet")
        made.up()
        made.add_device("jetson_1", "--name", "Entrance Camera")
        yield made
