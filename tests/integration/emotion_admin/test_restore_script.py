"""`scripts/restore` that fails or is interrupted. Programs in place of Docker and systemd note their calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT, without_settings

PROGRAMS = ("docker", "systemctl", "systemd-run")
PLAYED = """#!/bin/bash
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
    *" check-backup") cat >/dev/null ;;
    *" restore") cat >/dev/null ;;
esac
[[ "$*" != $AT ]] || eval "$FAULT"
"""
FAULTS = {
    "failure": "exit 1",
    "Ctrl-C": "kill -INT $PPID; kill -INT $$",
    "lost connection": "kill -HUP $PPID",
    "TERM": "kill -TERM $PPID",
}
START = {
    "compose": "docker compose --progress quiet up --detach --wait --no-build --pull never",
    "systemd": "systemctl start emotion-daemon emotion-api",
}


def restore(folder: Path, system: str, *, at: str, fault: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script with a fault in the call that matches `at`, and return its calls of Docker and systemd."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    library = folder / "scripts" / "lib" / "deployment.sh"
    library.write_text(library.read_text().replace("/etc/mosquitto", str(folder)))
    programs = folder / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).write_text(PLAYED)
        (programs / name).chmod(0o755)
    (programs / "id").write_text("#!/bin/sh\necho 0\n")
    (programs / "id").chmod(0o755)
    (folder / "backup.tar").touch()
    calls = folder / "calls"
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls), "AT": at, "FAULT": fault}
    done = subprocess.run(
        [folder / "scripts" / "restore", "--system", system, str(folder / "backup.tar")],
        env=without_settings() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, calls.read_text().splitlines()


@pytest.mark.parametrize("system", START)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("at", ["* restore", "*stop*"])
def test_a_restore_that_ends_early_starts_the_services_again(tmp_path: Path, system: str, at: str, fault: str) -> None:
    done, calls = restore(tmp_path, system, at=at, fault=fault)

    assert done.returncode != 0
    assert done.stderr == "the restore did not finish, see above: the services start again\n"
    assert calls[-1] == START[system]
    assert calls.count(START[system]) == 1


@pytest.mark.parametrize("system", START)
def test_a_service_that_does_not_start_is_said(tmp_path: Path, system: str) -> None:
    done, calls = restore(tmp_path, system, at="* up *" if system == "compose" else "start *", fault="exit 1")

    assert done.returncode == 1
    assert "the backup is restored, but not every service has started: see above. Remove the cause, then" in done.stderr
    assert calls.count(START[system]) == 1


@pytest.mark.parametrize("system", START)
def test_what_the_check_refuses_stops_nothing(tmp_path: Path, system: str) -> None:
    done, calls = restore(tmp_path, system, at="* check-backup", fault="exit 1")

    assert done.returncode == 1
    assert not [call for call in calls if "stop" in call]


@pytest.mark.parametrize("system", START)
def test_a_restore_stops_and_starts_the_services_once(tmp_path: Path, system: str) -> None:
    done, calls = restore(tmp_path, system, at="", fault="")

    assert (done.returncode, done.stderr) == (0, "")
    assert len([call for call in calls if "stop" in call]) == 1
    assert calls[-1] == START[system]
