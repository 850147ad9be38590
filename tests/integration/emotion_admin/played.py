"""Run an operator's script with programs in place of Docker and systemd, which note their calls."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.processes import ROOT, without_settings

_PROGRAM = """#!/bin/bash
echo "$(basename "$0") $*" >>"$CALLS"
case "$*" in
    *" check-backup" | *" restore") cat >/dev/null ;;
    *"--file - config --images") # how scripts/lib/deployment.sh reads a name in .env
        name=$(sed -E 's/.*[{]([A-Z_]+):-.*/\\1/')
        echo "x:$(sed -n "s/^$name=//p" .env)" ;;
    *" port gate "*) echo 127.0.0.1:1883 ;;
esac
[[ "$*" != $AT ]] || eval "$FAULT"
"""


def run_script(
    folder: Path, name: str, *arguments: str, at: str = "", fault: str = ""
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run `scripts/name` in a copy, as root would, and return the calls of Docker and systemd.

    The calls that match the pattern `at` have a fault. /etc/mosquitto and /etc/emotion-analytics are in `folder`.
    """
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / "deploy" / "systemd", folder / "deploy" / "systemd")
    library = folder / "scripts" / "lib" / "deployment.sh"
    library.write_text(library.read_text().replace(" /etc/", f" {folder}/etc/").replace("=/etc/", f"={folder}/etc/"))
    (folder / "etc" / "mosquitto" / "conf.d").mkdir(parents=True, exist_ok=True)
    programs = folder / "programs"
    programs.mkdir()
    for program, text in (*((each, _PROGRAM) for each in ("docker", "systemctl", "systemd-run")), ("id", _ROOTS_ID)):
        (programs / program).write_text(text)
        (programs / program).chmod(0o755)
    calls = folder / "calls"
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "CALLS": str(calls), "AT": at, "FAULT": fault}
    done = subprocess.run(
        # A program that was started in the background ignores SIGINT, and so would the script.
        ["env", "--default-signal=INT", folder / "scripts" / name, *arguments],
        env=without_settings() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, calls.read_text().splitlines()


_ROOTS_ID = "#!/bin/sh\necho 0\n"
