"""scripts/lib/deployment.sh, as far as it needs neither Docker nor systemd."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from emotion_admin.addresses import api_urls
from tests.brokers import Broker
from tests.certificates import make_certificate
from tests.processes import ROOT
from tests.waiting import free_port


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


def test_the_pages_of_the_api_have_addresses_that_a_browser_opens() -> None:
    assert "http://127.0.0.1:8000/dashboard" in call("page_addresses http://127.0.0.1:8000")

    (url,) = api_urls("--bind='unix:/run/emotion api/50%.sock'")
    lines = call(f"page_addresses '{url}'")

    assert lines.startswith("API         on the socket /run/emotion api/50%.sock\n")
    assert "/dashboard behind your proxy" in lines
    assert "http" not in lines


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


def broker_options(docker: str, env: dict[str, str], folder: Path) -> list[str]:
    """Return what `device add` gets. `docker` answers `docker compose port gate PORT`; `env` is what is in .env."""
    variables = "".join(f"{name}) echo {value!r} ;; " for name, value in env.items())
    fakes = f"docker() {{ {docker}; }}; value_in_env() {{ case $1 in {variables} *) echo ;; esac; }}"
    command = 'hostname() { echo server; }; SYSTEM=compose; broker_address; echo "${BROKER[@]}"'
    return call(f"{fakes}; {command}", folder).split()


@pytest.mark.parametrize(
    ("docker", "env", "options"),
    [
        ("return 1", {}, "--host localhost --port 1883"),
        ("return 1", {"BIND_ADDRESS": "0.0.0.0", "MQTT_PORT": "1884"}, "--host server --port 1884"),
        (
            "return 1",
            {"BIND_ADDRESS": "127.0.0.2", "MQTT_PORT": "8883", "MQTT_LISTENER": "8883"},
            "--host 127.0.0.2 --port 8883 --tls",
        ),
        ("echo :0", {"BIND_ADDRESS": "[2001:db8::1]"}, "--host 2001:db8::1 --port 1883"),
        ('[ "$4" = 1883 ] && echo 192.0.2.1:1885', {"MQTT_LISTENER": "8883"}, "--host 192.0.2.1 --port 1885"),
    ],
)
def test_a_device_gets_the_address_of_the_gate_or_else_that_in_env(
    docker: str, env: dict[str, str], options: str, tmp_path: Path
) -> None:
    assert broker_options(docker, env, tmp_path) == options.split()


def test_the_name_is_that_in_the_certificate_at_the_address_of_the_gate(
    start_broker: Callable[[str], Broker], tmp_path: Path
) -> None:
    made, port = make_certificate(tmp_path, "broker.example.com"), free_port()
    start_broker(f"listener {port} 127.0.0.3\ncertfile {made.certificate}\nkeyfile {made.key}\n")

    options = broker_options(f"echo 127.0.0.3:{port}", {}, tmp_path)
    assert options == ["--host", "broker.example.com", "--port", str(port), "--tls"]


def test_an_ipv6_address_of_the_devices_port_is_one_for_openssl(tmp_path: Path) -> None:
    openssl = '[ "$2 $3 $4 $5" = "-host 2001:db8::1 -port 8883" ] && echo -----BEGIN CERTIFICATE-----'
    (tmp_path / "openssl").write_text(f"#!/bin/sh\n{openssl}\n")
    (tmp_path / "openssl").chmod(0o755)

    assert call(f"PATH={tmp_path}:$PATH; certificate_chain 2001:db8::1 8883") == "-----BEGIN CERTIFICATE-----"
