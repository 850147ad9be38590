"""`scripts/doctor` beside what scripts/run has left, and what it looks at itself because doctor cannot see it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from emotion_admin.certificates import split
from emotion_admin.doctor.api import SUBJECT as API
from emotion_admin.doctor.broker import STATE
from emotion_admin.doctor.services import SUBJECT as SERVICES
from emotion_admin.doctor.services import Service
from tests.brokers import Broker
from tests.certificates import make_certificate
from tests.databases import migrated
from tests.integration.emotion_admin.doctor.examining import answering, examined
from tests.processes import ADMIN, ROOT, without_settings
from tests.waiting import free_port


def run_bash(command: str, *, programs: Path | None = None) -> str:
    """Return what a command of bash prints in the project's folder. `programs` come before those of /usr."""
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=ROOT,
        env=None if programs is None else {"PATH": f"{programs}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return finished.stdout


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


@pytest.mark.parametrize("command", [("doctor",), ("device", "list")])
def test_without_the_virtual_environment_that_is_the_sentence(command: tuple[str, ...], folder: Path) -> None:
    shutil.rmtree(folder / ".venv")
    script, *arguments = command
    done = subprocess.run(
        [folder / "scripts" / script, "--system", "run", *arguments],
        env=without_settings(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr == f"{script}: there is no .venv in {folder}: run scripts/run once, which creates it\n"


def test_its_usage_needs_nothing_that_is_up(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    usage, own = (
        subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
        for command in ([str(tmp_path / "scripts" / "doctor")], [*ADMIN, "doctor"])
    )

    assert usage.startswith("usage: scripts/doctor ")
    handed_over = {"--api", "--devices-certificate", "--logins", "--service", "--set-aside", "--unread", "--help"}
    assert options(usage) - {"--system"} == options(own) - handed_over


def options(usage: str) -> set[str]:
    return set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", usage, re.MULTILINE))


def certificate_chain(port: int) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". scripts/lib/deployment.sh; certificate_chain localhost {port}"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_it_sees_the_chain_that_devices_see(start_broker: Callable[[str], Broker], tmp_path: Path) -> None:
    made, port = make_certificate(tmp_path, "localhost"), free_port()
    sent = made.certificate.read_text() + made.ca.read_text()
    (tmp_path / "full.crt").write_text(sent)
    plain = start_broker(f"listener {port} 127.0.0.1\ncertfile {tmp_path}/full.crt\nkeyfile {made.key}\n")

    assert split(certificate_chain(port)) == split(sent)
    assert certificate_chain(plain.port) == ""
    assert certificate_chain(free_port()) == ""


def unread_in_env(folder: Path, *lines: str) -> list[str]:
    """Return the findings about docker compose's .env with these lines, next to the files of this project."""
    for name in ("scripts", "docker-compose.yml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / ".env").write_text("".join(f"{line}\n" for line in lines))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", ". scripts/lib/deployment.sh; unread_in_env"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_every_name_of_the_example_is_read(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()

    assert unread_in_env(tmp_path, *example.replace("# API_ADDRESS", "API_ADDRESS").splitlines()) == []
    assert "\nAPI_ADDRESS=" in (tmp_path / ".env").read_text()


def test_names_in_env_that_docker_compose_hands_to_nobody_are_found(tmp_path: Path) -> None:
    lines = (
        "MQTT_PORT=1883",
        "EMOTION_PEOPLE_RETENTON_DAYS=30",
        " export EMOTION_SQL_ECO = true",
        "EMOTION_MQTT_HOST=elsewhere",  # the daemon's is fixed
        "#EMOTION_LOG_LEVL=DEBUG",
        "COMPOSE_PROFILES=monitoring",
        "HOST_IP=10.0.0.1",  # another program's, for this file itself, or docker compose's
        "EMOTION_PASSED_ON=1",
    )
    unread = ["EMOTION_MQTT_HOST", "EMOTION_PEOPLE_RETENTON_DAYS", "EMOTION_SQL_ECO"]

    assert unread_in_env(tmp_path, *lines) == ["EMOTION_MQTT_HOST", "EMOTION_PASSED_ON", *unread[1:]]
    for service in (
        "environment: [EMOTION_PASSED_ON]",
        "environment: {TZ: UTC, EMOTION_PASSED_ON: }",
        'environment:\n      - "EMOTION_PASSED_ON" # handed on',
        "environment:\n      OTHER: $EMOTION_PASSED_ON",
    ):
        (tmp_path / "docker-compose.override.yml").write_text(f"services:\n  api:\n    {service}\n")
        assert unread_in_env(tmp_path, *lines) == unread, service
    (tmp_path / "docker-compose.override.yml").write_text("services:\n  api:\n    env_file: [.env]\n")
    assert unread_in_env(tmp_path, *lines) == []


def test_doctor_says_which_names_nobody_reads(sqlite_url: str) -> None:
    found = examined(None, sqlite_url, unread=["MQTT_PROT"])["settings"]

    assert found.level == "warning"
    assert found.found.startswith("MQTT_PROT in .env does nothing")


def test_under_docker_compose_doctor_has_the_settings_that_it_judges_by() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]

    for service in ("daemon", "api"):
        assert services[service]["environment"]["EMOTION_SILENT_AFTER_SECONDS"] == "${EMOTION_SILENT_AFTER_SECONDS:-}"


@pytest.mark.parametrize(
    ("system", "program", "script", "states"),
    [
        (
            "compose",
            "docker",
            'case $1 in compose) echo 12ab ;; inspect) echo "mosquitto restarting 4 13" ;; esac',
            ["mosquitto restarting 4 13"],
        ),
        ("compose", "docker", "exit 1", []),
        (
            "systemd",
            "systemctl",
            r"printf 'NRestarts=4\nExecMainStatus=3\nActiveState=activating\nSubState=auto-restart\n'",
            [f"{unit}.service activating/auto-restart 4 3" for unit in ("mosquitto", "emotion-daemon", "emotion-api")],
        ),
    ],
)
def test_the_states_of_the_services_are_those_of_docker_or_systemd(
    system: str, program: str, script: str, states: list[str], tmp_path: Path
) -> None:
    (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / program).chmod(0o755)
    printed = run_bash(f". scripts/lib/deployment.sh; SYSTEM={system}; service_states", programs=tmp_path)

    assert printed.splitlines() == states


def test_doctor_names_a_service_that_loops(sqlite_url: str) -> None:
    found = examined(None, sqlite_url, services=[Service.parse("mosquitto restarting 4 13")])[SERVICES]

    assert found.level == "problem"
    assert found.found.startswith("mosquitto ends and starts again and again")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'jetson_1   login   no batch yet   Door'; echo 'jetson_2  no login  no batch yet'", "jetson_1 "),
        ("exit 1", "?"),
    ],
)
def test_the_devices_with_a_login_are_read_or_it_says_that_they_cannot(script: str, said: str) -> None:
    command = f". scripts/lib/deployment.sh; admin() {{ {script}; }}; devices_with_login"
    assert run_bash(command).strip("\n") == said


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ("*' ps '*) echo 12ab ;; *' run '*) echo /mosquitto/data/m.damaged-1Z ;;", "/mosquitto/data/m.damaged-1Z"),
        ("*' ps '*) echo 12ab ;; *' run '*) ;;", ""),
        ("*' ps '*) echo 12ab ;; *) exit 1 ;;", "?"),
        ("*' ps '*) ;;", "?"),
    ],
    ids=["one", "none", "no container starts", "no broker yet"],
)
def test_damaged_files_in_the_volume_are_listed_or_it_says_that_they_cannot(
    answers: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "docker").write_text(f'#!/bin/sh\ncase " $* " in *" config "*) echo mosquitto ;; {answers} esac\n')
    (tmp_path / "docker").chmod(0o755)
    printed = run_bash(". scripts/lib/deployment.sh; SYSTEM=compose; set_aside_by_broker", programs=tmp_path)

    assert printed.strip("\n") == said


def test_damaged_files_of_a_broker_that_scripts_run_has_started_are_warnings(folder: Path) -> None:
    healthy = doctor(folder)
    (folder / "data" / "broker").mkdir()
    (folder / "data" / "broker" / "mosquitto.db.damaged-2026-11-29T12-00-00Z").touch()

    assert STATE not in healthy
    assert doctor(folder)[STATE]["level"] == "warning"


def test_doctor_says_that_it_cannot_look_for_damaged_files(sqlite_url: str) -> None:
    found = examined(None, sqlite_url, set_aside=["?"])[STATE]

    assert (found.level, found.found.partition(":")[0]) == ("ok", "not checked for damaged files")


@pytest.mark.parametrize(
    ("addresses", "asked"),
    [
        ("echo daemon http://a:1; echo api http://a:2; echo api http://a:3", ["http://a:2", "http://a:3"]),
        ("exit 2", [""]),
    ],
)
def test_the_api_is_asked_at_each_of_its_addresses(addresses: str, asked: list[str]) -> None:
    fakes = f"id() {{ echo 0; }}; service_addresses() {{ {addresses}; }}; devices_with_login() {{ :; }}"
    command = f". scripts/lib/setup.sh; . scripts/lib/deployment.sh; {fakes}; SYSTEM=systemd; what_doctor_cannot_see"
    printed = run_bash(f'{command}; printf "%s\\n" "${{LOOK[@]}}"').splitlines()

    assert [printed[place + 1] for place, option in enumerate(printed) if option == "--api"] == asked


@pytest.mark.parametrize(("listener", "is_checked"), [("1883", False), ("8883", True)])
def test_a_devices_port_with_tls_is_checked_also_while_the_gate_is_stopped(
    listener: str, is_checked: bool, tmp_path: Path
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\ncase "$*" in *"config --images"*) echo x:{listener} ;; *) exit 1 ;; esac\n')
    docker.chmod(0o755)
    command = ". scripts/lib/setup.sh; . scripts/lib/deployment.sh; SYSTEM=compose; what_doctor_cannot_see"
    printed = run_bash(f'{command}; printf "%s\\n" "${{LOOK[@]}}"', programs=tmp_path)

    assert ("--devices-certificate" in printed.splitlines()) is is_checked


@pytest.mark.parametrize(
    ("services", "apis"),
    [("mosquitto daemon api", ["api"]), ("daemon-1 daemon-2 api-1 api-2 gate", ["api-1", "api-2"])],
)
def test_every_api_of_a_cluster_is_asked_and_reads_a_new_token(services: str, apis: list[str], tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    answers = f"*' --services '*) printf '%s\\n' {services} ;; *' ps '*) echo 12ab ;; *' exec '*) echo $4 >>{calls} ;;"
    (tmp_path / "docker").write_text(f'#!/bin/sh\ncase " $* " in {answers} *) exit 1 ;; esac\n')
    (tmp_path / "docker").chmod(0o755)
    command = ". scripts/lib/setup.sh; . scripts/lib/deployment.sh; SYSTEM=compose; reload_api; what_doctor_cannot_see"
    printed = run_bash(f'{command}; printf "%s\\n" "${{LOOK[@]}}"', programs=tmp_path).splitlines()

    assert calls.read_text().split() == apis
    asked = [printed[place + 1] for place, option in enumerate(printed) if option == "--api"]
    assert asked == [f"http://{api}:8000" for api in apis]
