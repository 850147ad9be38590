"""One valid device login attacks for a minute: others are acknowledged within a second and lose nothing."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.compose.project import SERVICES, Project
from tests.faults.attacks import Attack
from tests.faults.bystanders import BYSTANDERS, DEAD_LETTERS, Bystander, Site, bystanders, each_attack, withstand
from tests.faults.history import PersonKey, Row

ROUNDS = 3
"""With --full; otherwise one."""

FULL_TIMEOUT_SECONDS = 900

TRACES = """
import pathlib, shutil, sqlite3
shutil.copytree("/broker", "/tmp/broker")
for path in pathlib.Path("/tmp/broker").rglob("*"):
    if path.is_file() and not path.name.endswith(("-wal", "-shm")):  # which SQLite reads with the database
        content = path.read_bytes()
        is_database = content.startswith(b"SQLite")
        text = "\\n".join(sqlite3.connect(path).iterdump()) if is_database else content.decode(errors="ignore")
        print(*(line[:200] for line in text.splitlines() if {name!r} in line), sep="\\n")
for path in pathlib.Path("/secrets").rglob("*"):
    if path.is_file() and {name!r} in path.read_text():
        print(path)
"""


class Compose(Site):
    """The project that tests/compose shares, and what its containers say."""

    def __init__(self, project: Project) -> None:
        self.port = project.port
        self._project = project

    def add_device(self, device_id: str) -> str:
        self._project.add_device(device_id)
        return self._project.passwords[device_id]

    def remove_device(self, device_id: str) -> None:
        self._project.run("scripts/device", "remove", device_id)
        self._project.run("scripts/dead-letters", "delete", device_id)

    def traces(self, device_id: str) -> list[str]:
        name = self._project.name
        volumes = (f"--volume={name}_broker:/broker:ro", f"--volume={name}_logins:/secrets:ro")
        docker = ("docker", "run", "--rm", "--network=none", "--user=0", *volumes, name)
        stored = self._project.run(*docker, "python3", "-c", TRACES.format(name=device_id)).splitlines()
        number = int(self.query(DEAD_LETTERS.format(device_id)))
        return [*filter(None, stored), *([f"{number} dead letters"] if number else [])]

    def stop_daemon(self) -> None:
        self._project.compose("stop", "daemon")

    def start_daemon(self) -> None:
        self._project.compose("start", "daemon")

    def processes(self) -> dict[str, object]:
        found = {service: self._project.inspect(service) for service in SERVICES}
        return {service: restarts(each) for service, each in found.items() if each["State"]["Running"]}

    def broker_memory(self) -> int:
        # The processes of a health check may end meanwhile.
        read = "grep -hs VmHWM: /proc/[0-9]*/status || true"
        peaks = self._project.compose("exec", "-T", "mosquitto", "sh", "-c", read)
        return max(int(line.split()[1]) for line in peaks.splitlines()) * 1024

    def broker_disk(self) -> int:
        return self._size("mosquitto", "/mosquitto/data")

    def database_disk(self) -> int:
        return self._size("api", "/data")

    def rows(self) -> dict[PersonKey, Row]:
        return {
            (device_id, person["person_id"]): row(person)
            for device_id in BYSTANDERS
            for person in self._project.summary(device_id)["current_people"]
        }

    def integrity(self) -> str:
        return self.query("PRAGMA integrity_check")

    def _size(self, service: str, folder: str) -> int:
        return int(self._project.compose("exec", "-T", service, "du", "-sk", folder).split()[0]) * 1024

    def query(self, statement: str) -> str:
        connect = "sqlite3.connect('file:/data/emotion.db?mode=ro', uri=True)"
        code = f"import sqlite3; print(*{connect}.execute({statement!r}).fetchone())"
        return self._project.compose("exec", "-T", "api", "python3", "-c", code).strip()


def restarts(container: dict[str, Any]) -> tuple[int, int]:
    return container["State"]["Pid"], container["RestartCount"]


def row(person: dict[str, Any]) -> Row:
    happy, sad, angry, neutral = (float(person[f"time_{emotion}"]) for emotion in ("happy", "sad", "angry", "neutral"))
    return Row(happy, sad, angry, neutral, datetime.fromisoformat(person["last_seen"]))


@pytest.fixture(scope="module")
def attacked(site: Project) -> Site:
    return Compose(site)


@pytest.fixture(scope="module")
def others(attacked: Site) -> Iterator[list[Bystander]]:
    with bystanders(attacked) as others:
        yield others


pytest_generate_tests = each_attack


@pytest.mark.timeout(FULL_TIMEOUT_SECONDS)
def test_one_hostile_device_harms_no_other(
    attacks: list[Attack], attacked: Site, others: list[Bystander], pytestconfig: pytest.Config
) -> None:
    full = pytestconfig.getoption("--full")
    for _ in range(ROUNDS if full else 1):
        withstand(attacks, attacked, others, limited=True, seconds=60 if full else 1)
