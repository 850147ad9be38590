"""scripts/images pins the images by digest, as far as a registry has them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.compose.project import clone

REGISTRY = """#!/bin/sh
case "$1 $2" in
    "pull "*) exit 0 ;;
    "image inspect") for image; do :; done; printf 'other/name@sha256:0\\n%s@sha256:{digest}\\n' "${{image%:*}}" ;;
    *) exec {docker} "$@" ;;
esac
"""
"""A docker whose registry has one digest for every image."""


class Clone:
    """A clone of the repository, and a `docker` with a registry of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = clone(folder)
        self._programs = folder / "programs"
        self._programs.mkdir()
        self._path = os.environ["PATH"]

    def publish(self, digest: str) -> None:
        """From now on the registry has `digest`."""
        docker = self._programs / "docker"
        docker.write_text(REGISTRY.format(digest=digest, docker=shutil.which("docker")))
        docker.chmod(0o755)

    def run(self, *command: str) -> str:
        environment = os.environ | {"PATH": f"{self._programs}:{self._path}", "COMPOSE_PROJECT_NAME": "images"}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, check=True, timeout=120
        ).stdout.decode()


@pytest.fixture
def site(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_compose_uses_the_digests_and_the_command_prints_what_changed(site: Clone) -> None:
    site.publish("1" * 64)
    first = site.run("scripts/images")
    again = site.run("scripts/images")
    site.publish("2" * 64)
    later = site.run("scripts/images")

    assert f"haproxy:3.0: no digest -> @sha256:{'1' * 64}" in first
    assert {line.split(": ")[1] for line in again.splitlines()} == {"unchanged"}
    assert f"haproxy:3.0: @sha256:{'1' * 64} -> @sha256:{'2' * 64}" in later
    configured = site.run("docker", "compose", "config")
    assert configured.count(f"@sha256:{'2' * 64}") == 3, "Mosquitto, HAProxy and Python"


def test_off_uses_the_tags_again(site: Clone) -> None:
    site.publish("1" * 64)
    site.run("scripts/images")
    site.run("scripts/images", "off")

    assert "@sha256" not in site.run("docker", "compose", "config")
