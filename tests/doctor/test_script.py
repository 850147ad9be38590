"""`scripts/doctor` beside what scripts/run has left, and what it looks at itself because doctor cannot see it."""

import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emotion_daemon.doctor.api import SUBJECT as API
from tests.brokers import Broker
from tests.certificates import make_certificate
from tests.databases import migrated
from tests.doctor.looking import answering
from tests.processes import ROOT, without_settings
from tests.waiting import free_port


@pytest.fixture
def folder(tmp_path: Path, broker: Broker) -> Path:
    """A folder in which scripts/run of an older version was started once, with the port of a broker that runs."""
    here = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", here / "scripts")
    (here / "data" / "secrets").mkdir(parents=True)
    (here / "data" / "broker.conf").write_text(f"listener {broker.port} 127.0.0.1\n")
    python = here / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with migrated(f"sqlite:///{here}/data/emotion.db"):
        pass
    return here


def doctor(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [folder / "scripts" / "doctor", "--system", "run", "--json"],
        env=without_settings(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    return {found["subject"]: found for found in json.loads(done.stdout)["findings"]}


def test_it_goes_without_the_ports_that_an_older_version_has_not_written_down(folder: Path) -> None:
    found = doctor(folder)

    assert found["broker login"]["level"] == "ok"
    assert API not in found


def test_it_asks_the_api_where_scripts_run_has_started_it(folder: Path) -> None:
    (folder / "data" / "metrics-port").write_text(f"{free_port()}\n")
    (folder / "data" / "api-port").write_text(f"{free_port()}\n")
    away = doctor(folder)[API]
    with answering(200, "ok") as address:
        (folder / "data" / "api-port").write_text(address.rpartition(":")[2])
        there = doctor(folder)[API]

    assert (away["level"], there["level"]) == ("problem", "ok")
    assert "cannot reach http://127.0.0.1:" in away["found"]


def certificate_end(port: int) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". scripts/where.sh; certificate_end localhost:{port}"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_it_sees_when_the_certificate_ends_that_devices_see(
    start_broker: Callable[[str], Broker], tmp_path: Path
) -> None:
    made, port = make_certificate(tmp_path, "localhost"), free_port()
    plain = start_broker(f"listener {port} 127.0.0.1\ncertfile {made.certificate}\nkeyfile {made.key}\n")
    decode: Callable[[Path], dict[str, Any]] = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]

    assert certificate_end(port) == decode(made.certificate)["notAfter"]
    assert certificate_end(plain.port) == ""
    assert certificate_end(free_port()) == ""
