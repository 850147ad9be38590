"""The sentences of the scripts on a machine that cannot run the system, before pip or apt fails."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

AS_ON_32_BIT = f"""#!/bin/sh
[ "$1" = -c ] || exit 1
exec {sys.executable} -c 'import sys; sys.maxsize = 2**31 - 1; exec(sys.argv[1])' "$2"
"""


@pytest.fixture
def on_32_bit(tmp_path: Path) -> dict[str, str]:
    """An environment whose python3 is one for a 32-bit processor."""
    python = tmp_path / "python3"
    python.write_text(AS_ON_32_BIT)
    python.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin"}


def run(command: str, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_a_32_bit_system_is_named_before_pip_fails(on_32_bit: dict[str, str]) -> None:
    code, said = run(". scripts/lib/setup.sh; python=$(find_python); echo not reached >&2", on_32_bit)

    assert code == 1
    assert "needs a 64-bit system" in said
    assert "not reached" not in said
    assert run(". scripts/lib/setup.sh; find_python", {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"})[0] == 0


def test_the_image_names_it_too(on_32_bit: dict[str, str]) -> None:
    (line,) = re.findall(r"^RUN (python3 -c .*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    code, said = run(line, on_32_bit)

    assert code == 1
    assert said.startswith("needs a 64-bit system")
    assert run(line, {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}) == (0, "")
