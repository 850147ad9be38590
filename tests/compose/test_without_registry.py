"""The operator's scripts while no registry answers: none stops a part that it cannot start again."""

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.compose.project import Project, clone, project
from tests.waiting import wait_until

BASE = "python:3.13-slim"
FAR = "registry.invalid/python:3.13-slim"
"""The same image of a registry that does not answer. It is here only during the first build, as with BuildKit."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = clone(tmp_path_factory.mktemp("clone"))
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace(f"FROM {BASE}", f"FROM {FAR}"))
    with project(folder) as made:
        made.run("docker", "tag", BASE, FAR)
        try:
            made.compose("build", "--quiet")
            made.up()
        finally:
            made.run("docker", "image", "rm", FAR)
        with pytest.raises(AssertionError):
            made.compose("build")  # a check of this test: without the registry no build works
        made.add_device("jetson_1")
        yield made


def port_of(site: Project) -> str:
    """Return the gate's ports, as docker compose lists them."""
    return site.compose("ps", "--format", "{{.Ports}}", "gate").strip()


def from_env(site: Project) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs a command whose MQTT_PORT comes from .env, as an operator's does."""
    environment = {name: value for name, value in site.environment.items() if name != "MQTT_PORT"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=site.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def test_a_restore_ends_with_a_running_system(site: Project) -> None:
    site.publish("jetson_1", 1.0)
    wait_until(lambda: site.happy("jetson_1") == 1.0, what="the batch is in the summary")
    file = site.run("scripts/backup").strip()
    site.publish("jetson_1", 5.0)
    wait_until(lambda: site.happy("jetson_1") == 5.0, what="the batch is in the summary")

    site.run("scripts/restore", file)

    assert site.happy("jetson_1") == 1.0
    site.publish("jetson_1", 6.0)
    wait_until(lambda: site.happy("jetson_1") == 6.0, what="the batch is in the summary")


def test_a_restore_that_lacks_an_image_stops_nothing(site: Project) -> None:
    file = site.run("scripts/backup").strip()
    compose = site.folder / "docker-compose.yml"
    before = compose.read_text()
    compose.write_text(before.replace("haproxy:3.0", "registry.invalid/haproxy:3.1"))
    try:
        shown = site.run("scripts/restore", file, expect=1)
    finally:
        compose.write_text(before)

    assert "the image registry.invalid/haproxy:3.1 is not on this machine, and nothing was changed" in shown
    site.publish("jetson_1", 7.0)
    wait_until(lambda: site.happy("jetson_1") == 7.0, what="the batch is in the summary")


def test_tls_whose_port_is_taken_changes_nothing(site: Project, tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    environment = site.folder / ".env"
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        environment.write_text(f"MQTT_PORT={taken}\n")
        run = from_env(site)
        before = environment.read_bytes()
        finished = run("scripts/tls", "on", str(made.certificate), str(made.key))

    assert finished.returncode == 1
    assert f"port {taken}, for the devices, is taken, and nothing was changed" in finished.stderr
    assert environment.read_bytes() == before
    environment.unlink()
    site.publish("jetson_1", 8.0)
    wait_until(lambda: site.happy("jetson_1") == 8.0, what="the batch is in the summary")


def test_tls_that_cannot_start_goes_back(site: Project, tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    listener = site.folder / "deploy" / "broker" / "tls.conf"
    before = listener.read_text()
    listener.write_text(before + "no_such_option true\n")
    try:
        shown = site.run("scripts/tls", "on", str(made.certificate), str(made.key), expect=1)
    finally:
        listener.write_text(before)

    assert "this goes back to the state before" in shown
    assert "->1883/tcp" in port_of(site)
    site.publish("jetson_1", 9.0)
    wait_until(lambda: site.happy("jetson_1") == 9.0, what="the batch is in the summary")


@pytest.mark.parametrize(
    "line", ["MQTT_PORT=1883\r\n", 'export MQTT_PORT="1883" # devices\n', "\ufeffMQTT_PORT='1883'\r\nAPI_PORT=8000\r\n"]
)
def test_the_port_follows_tls_however_env_is_written(site: Project, tmp_path: Path, line: str) -> None:
    """As docker compose reads the file, so that a promised 8883 is published as 8883."""
    library = ". scripts/lib/setup.sh; . scripts/lib/deployment.sh"
    environment = site.folder / ".env"
    environment.write_bytes(line.encode())
    try:
        from_env(site)("bash", "-euc", f"{library}; publish_listener 8883")
        configured = from_env(site)("docker", "compose", "config", "gate").stdout
        from_env(site)("bash", "-euc", f"{library}; publish_listener 1883")
        again = from_env(site)("docker", "compose", "config", "gate").stdout
    finally:
        environment.unlink()

    assert re.findall(r'(?:target|published): "?(\d+)', configured) == ["8883", "8883"]
    assert re.findall(r'(?:target|published): "?(\d+)', again) == ["1883", "1883"]


def test_a_port_of_the_operator_s_own_stays(site: Project) -> None:
    environment = site.folder / ".env"
    environment.write_text("MQTT_PORT = 18830 # ours\n")
    try:
        from_env(site)("bash", "-euc", ". scripts/lib/setup.sh; . scripts/lib/deployment.sh; publish_listener 8883")
        configured = from_env(site)("docker", "compose", "config", "gate").stdout
    finally:
        environment.unlink()

    assert re.findall(r'(?:target|published): "?(\d+)', configured) == ["8883", "18830"]
