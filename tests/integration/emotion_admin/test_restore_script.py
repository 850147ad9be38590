"""`scripts/restore` that fails or is interrupted. Programs in place of Docker and systemd note their calls."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.emotion_admin.played import run_script

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
    (folder / "backup.tar").touch()
    return run_script(folder, "restore", "--system", system, str(folder / "backup.tar"), at=at, fault=fault)


@pytest.mark.parametrize("system", START)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("at", ["* restore", "?(* )stop?( *)"])
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
    assert not [call for call in calls if " stop" in call]


@pytest.mark.parametrize("system", START)
def test_a_restore_stops_and_starts_the_services_once(tmp_path: Path, system: str) -> None:
    done, calls = restore(tmp_path, system, at="", fault="")

    assert (done.returncode, done.stderr) == (0, "")
    assert len([call for call in calls if " stop" in call]) == 1
    assert calls[-1] == START[system]
