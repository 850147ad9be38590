"""A damaged mosquitto.db is recognised as Mosquitto would, set aside, and no other file is."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emotion_admin.broker_state import is_damaged, set_aside
from tests.brokers import Broker, find_mosquitto
from tests.processes import ROOT

NOW = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)


def run(program: str, broker: Broker, *arguments: str) -> None:
    command = [program, "-V", "5", "-q", "1", "-p", str(broker.port), *arguments]
    subprocess.run(command, capture_output=True, timeout=30, check=True)


@pytest.fixture
def state(broker: Broker) -> Path:
    """The file of a stopped broker with a session, queued messages, a subscription and a retained message."""
    run("mosquitto_sub", broker, "-c", "-x", "3600", "-i", "daemon", "-t", "emotions/#", "-E")
    run("mosquitto_pub", broker, "-r", "-t", "emotions/jetson_1/status", "-m", "online")
    for number in range(3):
        run("mosquitto_pub", broker, "-t", f"emotions/jetson_{number}/batch", "-m", "x" * 300)
    broker.stop()
    return broker.folder / "mosquitto.db"


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def cut_early(content: bytes) -> bytes:
    return content[:19]


def cut_in_the_middle(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_at_the_end(content: bytes) -> bytes:
    return content[:-1]


def zeros_in_a_message(content: bytes) -> bytes:
    """A message whose texts have the length 0, which ends Mosquitto with a segmentation fault."""
    return content[:63] + bytes(24) + content[87:]


@pytest.mark.parametrize("damage", [zeros, cut_early, cut_in_the_middle, cut_at_the_end, zeros_in_a_message])
def test_the_broker_starts_without_a_damaged_file_and_not_with_it(
    damage: Callable[[bytes], bytes], broker: Broker, state: Path
) -> None:
    damaged = damage(state.read_bytes())
    state.write_bytes(damaged)
    refused = subprocess.run(
        [find_mosquitto(), "-c", broker.folder / "mosquitto.conf"], capture_output=True, timeout=30
    )

    aside = set_aside(state, NOW)
    broker.start()

    assert refused.returncode != 0
    assert aside == state.with_name("mosquitto.db.damaged-2025-11-14T12-34-56Z")
    assert aside.read_bytes() == damaged


def test_what_the_broker_can_read_stays(broker: Broker, state: Path) -> None:
    content = state.read_bytes()
    for kept in (content, content + bytes(7)):  # the last header is cut: Mosquitto reads what is before it
        state.write_bytes(kept)
        assert set_aside(state, NOW) is None
    broker.start()

    session = ("mosquitto_sub", "-V", "5", "-p", str(broker.port), "-q", "1", "-c", "-x", "3600", "-i", "daemon")
    queued = subprocess.run([*session, "-t", "emotions/#", "-C", "5", "-W", "20"], capture_output=True, timeout=30)
    assert sorted(queued.stdout.split()) == [b"online", b"online", *[b"x" * 300] * 3]


def test_a_cut_is_recognised_at_every_byte_of_a_body(state: Path) -> None:
    """Between two chunks, and in the eight bytes of a header, Mosquitto takes the cut for the end of the file."""
    content = state.read_bytes()
    harmless = {len(content)}
    position = 23
    while position < len(content):
        harmless |= set(range(position, position + 8))
        position += 8 + int.from_bytes(content[position + 4 : position + 8])

    assert {length for length in range(1, len(content) + 1) if not is_damaged(content[:length])} == harmless


def test_a_format_of_another_mosquitto_is_not_judged(state: Path) -> None:
    content = state.read_bytes()

    assert not is_damaged(content[:22] + b"\7" + content[23:40])
    assert is_damaged(content[:22] + b"\0" + content[23:])


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "link"])
def test_only_a_file_of_the_broker_is_renamed(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / "mosquitto.db", tmp_path / "other"
    other.write_bytes(b"someone's")
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(other)
    before = sorted(tmp_path.iterdir())

    done = subprocess.run(
        [sys.executable, "-I", ROOT / "emotion_admin" / "broker_state.py", path], capture_output=True, text=True
    )

    assert sorted(tmp_path.iterdir()) == before
    assert done.returncode == (1 if kind == "link" else 0)


def test_the_command_says_it_in_one_sentence(tmp_path: Path) -> None:
    """As the systemd unit and scripts/run start it: without the project's packages."""
    path = tmp_path / "mosquitto.db"
    path.write_bytes(bytes(100))

    command = [sys.executable, "-I", str(ROOT / "emotion_admin" / "broker_state.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (aside,) = tmp_path.iterdir()

    assert done.stderr.count("\n") == 1
    assert (
        f"the broker's stored state was damaged: sessions and queued messages are lost, and the file is now {aside}."
        in done.stderr
    )
