"""deploy/device, as far as that can be done without a systemd that runs; `device_in_container` does the rest."""

import os
import re
import sys
from pathlib import Path

import pytest

from emotion_device.bridge import command_parser
from tests.install.test_units import check_exposure, check_understood
from tests.processes import ROOT

SHIPPED = ROOT / "deploy" / "device"
EXPOSURE = {"emotion-device.service": 22, "emotion-bridge.service": 14}
"""In tenths. A camera's program needs cameras, a GPU and compiled models."""

READ_BY_THE_PROGRAM = {"EMOTION_DEVICE_ID", "EMOTION_MQTT_PASSWORD"}
"""Settings of a camera's program that the bridge does not have."""


@pytest.mark.parametrize("unit", EXPOSURE)
def test_a_unit_gives_away_little(unit: str) -> None:
    check_exposure(SHIPPED / unit, EXPOSURE[unit])


@pytest.mark.parametrize("unit", EXPOSURE)
def test_systemd_understands_a_unit(unit: str, tmp_path: Path) -> None:
    text = (SHIPPED / unit).read_text().replace("/opt/emotion-device/venv/bin", os.path.dirname(sys.executable))
    (tmp_path / unit).write_text(text.replace("/opt/emotion-device/", f"{ROOT}/examples/publisher/"))

    check_understood(tmp_path / unit)


def test_every_setting_has_a_reader() -> None:
    names = set(re.findall(r"EMOTION_\w+(?==)", (SHIPPED / "settings").read_text()))
    helps = " ".join(action.help or "" for action in command_parser({})._actions)

    assert names - READ_BY_THE_PROGRAM == {name for name in names if name in helps}
    assert names > READ_BY_THE_PROGRAM


def test_the_example_reads_the_settings_that_are_not_the_bridges() -> None:
    names = set(re.findall(r"EMOTION_\w+(?==)", (SHIPPED / "settings").read_text()))
    example = (ROOT / "examples" / "publisher" / "device.py").read_text()

    assert set(re.findall(r"EMOTION_\w+", example)) == {name for name in names if "BRIDGE" not in name}


def test_the_guide_installs_these_files() -> None:
    guide = (ROOT / "docs" / "unattended.md").read_text()

    assert [name for name in (*EXPOSURE, "settings") if f" device/{name}" not in guide] == []
