"""deploy/broker/start with another program in Mosquitto's place: the memory limit, and a damaged stored state."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT

MOSQUITTO = """#!/bin/sh
# Prints its memory limit in KiB, and refuses a damaged file as Mosquitto's plugin does.
ulimit -d
[ ! -s STORE ] || [ "$(head -c 15 STORE)" = "SQLite format 3" ] || { echo "file is not a database" >&2; exit 1; }
"""


def header(page_size: int, pages: int, free: int) -> bytes:
    """Return the first 40 bytes of an SQLite file."""
    numbers = page_size.to_bytes(2), bytes(10), pages.to_bytes(4), bytes(4), free.to_bytes(4)
    return b"SQLite format 3\0" + b"".join(numbers)


def start(folder: Path, content: bytes) -> subprocess.CompletedProcess[str]:
    """Run the script with `content` as the broker's stored state."""
    store = folder / "data" / "mosquitto.sqlite3"
    for name in ("config", "secrets", "data"):
        (folder / name).mkdir()
    (folder / "secrets" / "dynamic-security.json").touch()
    store.write_bytes(content)
    (folder / "mosquitto").write_text(MOSQUITTO.replace("STORE", str(store)))
    (folder / "mosquitto").chmod(0o755)
    script = (ROOT / "deploy" / "broker" / "start").read_text()
    script = script.replace("/mosquitto/", f"{folder}/").replace("/secrets ", f"{folder}/secrets ")
    (folder / "start").write_text(script.replace("/tmp/broker", str(folder / "run")))
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(["sh", folder / "start"], env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("content", "kib"),
    [
        (b"", 524_288),
        (header(4_096, 10_000, 2_000), 524_288 + 32_000),
        (header(4_096, 1_000_000, 0), 917_504),
        (header(4_096, 1, 9_000_000), 524_288),
    ],
    ids=["no state", "a small one", "a large one", "more free pages than pages"],
)
def test_the_memory_limit_grows_with_the_stored_state(content: bytes, kib: int, tmp_path: Path) -> None:
    done = start(tmp_path, content)

    assert (done.returncode, done.stdout) == (0, f"{kib}\n"), done.stderr


@pytest.mark.parametrize(
    "content",
    [b"x", bytes(39), b"\xff" * 28 + bytes(8) + b"\xff" * 64],
    ids=["one byte", "39 bytes", "more free pages than pages"],
)
def test_a_damaged_state_is_set_aside_regardless_of_its_header(content: bytes, tmp_path: Path) -> None:
    done = start(tmp_path, content)

    assert done.returncode == 0, done.stderr
    assert "the broker's stored state was damaged" in done.stderr
    (aside,) = (tmp_path / "data").iterdir()
    assert aside.read_bytes() == content
