"""The device's package as scripts/build-device builds it, on the Pythons that devices have."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from emotion_admin.snippet import Address
from emotion_device import __version__
from tests.brokers import Broker
from tests.clients import Client
from tests.e2e.test_examples import PAHO, PUBLISHER, Example, batches, last_status
from tests.processes import ROOT
from tests.waiting import wait_until

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
    found = sorted(ROOT.glob("build/device/*/bin/python"))
    assert found, "the machine has none of these Pythons"
    return found


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
