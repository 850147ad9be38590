"""scripts/lib/deployment.sh, as far as it needs neither Docker nor systemd."""

import subprocess
from pathlib import Path

import pytest

from tests.processes import ROOT


def call(command: str, folder: Path = ROOT) -> str:
    library = ROOT / "scripts" / "lib"
    script = f". {library}/setup.sh; . {library}/deployment.sh; {command}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


@pytest.mark.parametrize(
    ("bound", "reached"),
    [
        ("127.0.0.1", "localhost"),
        ("::1", "localhost"),
        ("[::1]", "localhost"),
        ("0.0.0.0", "server"),
        ("::", "server"),
        ("[::]", "server"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_client_gets_an_address_that_it_can_reach(bound: str, reached: str) -> None:
    assert call(f"reachable '{bound}' server") == reached


@pytest.mark.parametrize(
    "line",
    [
        "MQTT_PORT=1",
        "MQTT_PORT=1\r",
        " export  MQTT_PORT='1' # ours",
        "MQTT_PORT : 1",
        "\ufeffMQTT_PORT=1\r",
        "MQTT_PORT=1\nMQTT_PORT=2",
    ],
)
def test_a_line_in_env_is_replaced_however_it_is_written(line: str, tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_bytes(f"{line}\nAPI_PORT=8000\r\n# MQTT_PORT=3\nMQTT_PORTS=4".encode())
    call("set_in_env MQTT_PORT 8883", tmp_path)
    changed = env.read_bytes()
    call("set_in_env MQTT_PORT", tmp_path)

    assert changed == b"API_PORT=8000\r\n# MQTT_PORT=3\nMQTT_PORTS=4\nMQTT_PORT=8883\n"
    assert env.read_bytes() == b"API_PORT=8000\r\n# MQTT_PORT=3\nMQTT_PORTS=4\n"


def test_a_link_to_env_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("A=1\n")
    (tmp_path / ".env").symlink_to("real")
    call("set_in_env A 2", tmp_path)

    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "real").read_text() == "A=2\n"
