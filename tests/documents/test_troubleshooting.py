"""docs/troubleshooting.md quotes the lines that operators see: in the program's words, or in another program's."""

import ast
import re
from collections.abc import Iterator

import pytest

from emotion_daemon.__main__ import HEADINGS
from emotion_daemon.storage.errors import DatabaseFileError
from tests.integration.test_links import fault
from tests.processes import ROOT

OTHER_PROGRAMS = {
    "port is already allocated": "Docker",
    "failed to resolve source metadata": "Docker",
    "failed to solve": "Docker",
    "Invalid ip address": "Docker",
    "too many colons in address": "Docker",
    "dependency failed to start: container … is unhealthy": "Docker",
    'service "secrets" didn\'t complete successfully': "Docker",
    "unhealthy": "Docker",
    "healthy": "Docker",
    "Unable to open config file": "Mosquitto",
    "bash\\r": "env",
    "set: Illegal option -": "Debian's sh and the broker image's",
    "Table does not exist (do you need to insmod?)": "iptables",
    "podman": "a command",
    "podman-compose": "a command",
    'apparmor="DENIED"': "Linux",
    "avc: denied": "Linux",
    'profile="mosquitto"': "Linux",
    "EMOTION_MQTT_PASSWORD_FILE is '/run/credentials/…', but the file cannot be read": "ours, with values",
    "status=243/CREDENTIALS": "systemd",
    "Failed with result 'watchdog'": "systemd",
    "restart counter is at": "systemd",
    "Result: oom-kill": "systemd",
    "Unrecognised file format": "Mosquitto 2.0",
    "Couldn't open database": "Mosquitto 2.0",
    "Not a directory": "Mosquitto 2.0",
    "file is not a database": "SQLite, in Mosquitto 2.1",
    "database disk image is malformed": "SQLite, in Mosquitto 2.1",
    "Not authorized": "MQTT 5, reason code 0x87",
    "Unspecified error": "MQTT 5, reason code 0x80",
    "identifier rejected": "MQTT 3.1.1, return code 2",
    "certificate has expired": "OpenSSL",
    "Hostname mismatch": "OpenSSL",
    "unable to get local issuer certificate": "OpenSSL",
    "certificate is not yet valid": "OpenSSL",
    "blocked by CORS policy": "Chromium",
    "Cross-Origin Request Blocked": "Firefox",
    "out of memory": "Mosquitto",
    "cannot commit: database is locked": "ours, followed by SQLite's",
    "cannot commit: database or disk is full": "ours, followed by SQLite's",
    "cannot use …: database is locked": "ours, followed by SQLite's",
    "doctor": "a command",
    "chown": "a command",
    "chmod": "a command",
}


def quoted() -> list[str]:
    headings = re.findall(
        r"^### (.+)$", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    return [words for heading in headings for words in re.findall(r"`([^`]+)`", heading)]


def strings() -> Iterator[str]:
    """Yield every string of the programs, and the scripts and configuration as they are."""
    for package in ("shared", "emotion_daemon", "emotion_api", "emotion_admin"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
    files = [*(ROOT / "scripts").iterdir(), *(ROOT / "scripts" / "lib").iterdir(), ROOT / "docker-compose.yml"]
    yield from (file.read_text(encoding="utf-8") for file in files if file.is_file())


SAID = "\n".join(strings())
PAGES = sorted(set(re.findall(r"docs/[\w./-]+\.md(?:#[\w-]+)?", SAID)))


@pytest.mark.parametrize("words", [words for words in quoted() if words not in OTHER_PROGRAMS])
def test_a_heading_quotes_the_program(words: str) -> None:
    assert [part for part in words.split("…") if part.strip(" ,") not in SAID] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_a_program_names_exists_with_its_heading(page: str) -> None:
    assert fault(ROOT / "README.md", page) is None


def test_every_error_that_ends_the_daemon_names_a_heading() -> None:
    assert set(DatabaseFileError.__subclasses__()) <= HEADINGS.keys()
    assert [fault(ROOT / "docs" / "troubleshooting.md", f"#{heading}") for heading in HEADINGS.values()] == [None] * 8


def test_every_line_of_another_program_is_in_a_heading() -> None:
    assert set(OTHER_PROGRAMS) <= set(quoted())
