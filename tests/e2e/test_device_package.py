"""The device's package as scripts/build-device builds it, on the Pythons that devices have."""

import json
import re
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest

from emotion_admin.snippet import Address
from emotion_device import __version__
from tests.brokers import Broker
from tests.clients import Client
from tests.e2e.test_bridge import post
from tests.e2e.test_examples import PAHO, PUBLISHER, Example, batches, last_status
from tests.examples import README_PAYLOAD
from tests.processes import ROOT, without_settings
from tests.waiting import DEADLINE_SECONDS, accepts_connections, free_port, wait_until

pytestmark = pytest.mark.program  # a broker, and a registry of packages


@pytest.fixture(scope="module")
def pythons() -> list[Path]:
    """The interpreters in whose empty environments the wheel is installed."""
    built = subprocess.run(
        ["scripts/build-device", "3.8", "3.10", "3.13"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return sorted(ROOT.glob("build/device/*/bin/python"))


def test_the_wheel_has_one_package_and_the_servers_version(pythons: list[Path]) -> None:
    (wheel,) = ROOT.glob("dist/emotion_device-*.whl")

    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names} == {"emotion_device", f"emotion_device-{__version__}.dist-info"}
    assert not [name for name in names if "workbench" in name]


def test_a_command_of_the_workbench_names_where_it_runs(pythons: list[Path], tmp_path: Path) -> None:
    command = [str(pythons[0]), "-m", "emotion_device", "validate", "batch.json"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert re.fullmatch(r"python -m emotion_device: validate needs the server's packages: .*\n", done.stderr)


@pytest.mark.parametrize("source", [PAHO, PUBLISHER], ids=["paho", "publisher"])
def test_the_examples_run_on_each_python(source: Path, pythons: list[Path], broker: Broker, tmp_path: Path) -> None:
    for python in pythons:
        address = Address(broker.host, broker.port, tls=False)
        with Client(broker) as client, Example(source, tmp_path, address, python=str(python)) as device:
            client.listen("emotions/#")
            wait_until(lambda client=client: batches(client) >= 2, what=f"batches arrive from {python}")  # type: ignore[misc]
            assert device.stop() == 0
        assert last_status(broker) == b"offline"


def test_the_bridge_runs_on_each_python(pythons: list[Path], broker: Broker, tmp_path: Path) -> None:
    for python in pythons:
        port = free_port()
        options = ["--listen", f"127.0.0.1:{port}", "--host", broker.host, "--port", str(broker.port), "--timeout", "1"]
        command = [str(python), "-W", "error", "-m", "emotion_device", "bridge", *options]
        with Client(broker) as client, subprocess.Popen(command, cwd=tmp_path, env=without_settings()) as bridge:
            client.listen("emotions/#")
            try:
                wait_until(lambda port=port: accepts_connections("127.0.0.1", port), what=f"{python} listens")  # type: ignore[misc]
                post(port, json.loads(README_PAYLOAD))
                wait_until(lambda client=client: batches(client) >= 1, what=f"{python} publishes")  # type: ignore[misc]
                bridge.send_signal(signal.SIGTERM)
                assert bridge.wait(timeout=DEADLINE_SECONDS) == 0
            finally:
                bridge.kill()


def test_a_python_that_is_named_and_missing_ends_the_build() -> None:
    build = ["scripts/build-device", "2.1"]

    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "this machine has no Python 2.1" in done.stderr
