"""The code in the README and in the guides, run as it stands there; only the ports are those of the test."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.brokers import Broker
from tests.examples import README_SUMMARY
from tests.nextjs import APP, NODE
from tests.processes import ROOT, Daemon
from tests.waiting import wait_until
from tests.web import Api

README, START, DEVICES = ROOT / "README.md", ROOT / "docs" / "getting-started.md", ROOT / "docs" / "devices.md"
WEB, MQTT, HTTP = (ROOT / "docs" / name for name in ("web-dashboard.md", "reference/mqtt.md", "reference/http-api.md"))
INVALID = "Expected `float` >= 0.0 - at `$.people[0].cumulative.happy`"


class System(NamedTuple):
    """Broker, daemon and API, as a reader has them."""

    broker: Broker
    api: Api

    def summary(self) -> Any:
        return self.api.summary("jetson_1")


@pytest.fixture
def system(broker: Broker, sqlite_url: str, tmp_path: Path) -> Iterator[System]:
    log = tmp_path / "log"
    with Daemon(broker, sqlite_url, log) as daemon, Api(sqlite_url, log) as api:
        daemon.wait_for_log(" connected to ")
        yield System(broker, api)
        daemon.stop()


def blocks(document: Path, language: str) -> list[str]:
    text = document.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in found if name == language]


def code(document: Path, language: str, containing: str) -> str:
    """Return the one block of the document in `language` that has `containing` in it."""
    (block,) = [block for block in blocks(document, language) if containing in block]
    return block


def run_shell(block: str, system: System) -> str:
    block = re.sub(r"^(mosquitto_\w+)", rf"\1 -p {system.broker.port}", block, flags=re.MULTILINE)
    block = re.sub(r"^curl", "curl -sSf", block, flags=re.MULTILINE)
    return run(["bash", "-ec", block.replace("http://127.0.0.1:8000", system.api.url)])


def run(command: list[str]) -> str:
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_first_batch_that_is_published_is_in_the_summary_that_is_read_back(system: System) -> None:
    publish, curl = code(README, "sh", "mosquitto_pub").split("curl", 1)
    assert publish == code(START, "sh", "mosquitto_pub")
    began = datetime.now(UTC).replace(microsecond=0)  # the command's timestamp has whole seconds

    run_shell(publish, system)

    wait_until(lambda: system.summary()["current_people"], what="the batch is in the summary")
    read_back = json.loads(run_shell(f"curl{curl}", system))
    timestamp = read_back["updated_at"]
    assert began <= datetime.fromisoformat(timestamp) <= datetime.now(UTC)
    person = {**README_SUMMARY["current_people"][0], "last_seen": timestamp, "active_at": timestamp}
    assert read_back == {**README_SUMMARY, "updated_at": timestamp, "current_people": [person]}


def test_the_simulator_plays_the_cameras_of_the_guide(system: System) -> None:
    command = code(START, "sh", "simulate").strip().replace(".venv/bin/python", sys.executable)

    run(["bash", "-ec", f"{command} --duration 3 --port {system.broker.port}"])

    listed = json.loads(system.api.ask("/api/devices").body)["devices"]
    assert [each["device_id"] for each in listed] == ["jetson_1", "jetson_2", "jetson_3"]


def test_the_request_of_the_mqtt_reference_gets_the_reply_that_stands_there(system: System) -> None:
    reply = run_shell(code(MQTT, "sh", "mosquitto_rr"), system)

    assert json.loads(reply) == json.loads(code(MQTT, "json", '"error"')) == {"status": "error", "error": INVALID}


def test_the_line_that_validates_a_batch_prints_what_stands_there() -> None:
    block = code(DEVICES, "sh", "emotion_device validate").replace(".venv/bin/python", sys.executable)

    printed = run(["bash", "-c", f"{block}\nexit $(($? - 1))"])

    assert printed == code(DEVICES, "", INVALID)


def test_the_device_guide_shows_lines_of_the_programs_in_examples() -> None:
    publisher = (ROOT / "examples/publisher/device.py").read_text(encoding="utf-8")

    assert code(DEVICES, "python", "DEVICE_ID = ") in publisher
    assert code(DEVICES, "python", "people_in_frame()") in publisher


@pytest.mark.parametrize("file", ["lib/api.ts", "app/api/emotions/route.ts"])
def test_the_web_guide_shows_the_files_of_the_example(file: str) -> None:
    text = (APP / file).read_text(encoding="utf-8")

    assert code(WEB, "ts", text.splitlines()[0]) == text


def test_the_function_for_a_browser_fetches_the_summary(system: System, tmp_path: Path) -> None:
    run_shell(code(START, "sh", "mosquitto_pub"), system)
    wait_until(lambda: system.summary()["current_people"], what="the batch is in the summary")

    expected = system.summary()
    del expected["current_people"]
    assert json.loads(run_javascript("JSON.stringify(await getSummary('jetson_1', url))", system, tmp_path)) == expected


def test_the_function_for_a_browser_throws_the_sentence_of_the_api(system: System, tmp_path: Path) -> None:
    printed = run_javascript("await getSummary('a/b', url).catch((error) => error.message)", system, tmp_path)

    assert printed == "Bad Request: device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -\n"


def run_javascript(expression: str, system: System, folder: Path) -> str:
    """Return what Node.js prints for an expression about the module of the guide."""
    (folder / "emotions.mjs").write_text(code(WEB, "js", "export async function getSummary"))
    script = f"import {{ getSummary }} from './emotions.mjs'; const url = '{system.api.url}'; console.log({expression})"
    (folder / "main.mjs").write_text(script)
    return run([os.fspath(NODE), str(folder / "main.mjs")])


def test_the_requests_of_the_http_reference_are_answered(system: System) -> None:
    summaries, csv = code(HTTP, "sh", "active_within"), code(HTTP, "sh", "csv")

    assert '"current_people":[]' in run_shell(summaries, system)
    assert run_shell(csv, system).startswith("start,happy,sad,angry,neutral,most_people,covered\n")


def test_the_error_of_the_http_reference_is_what_the_api_answers(system: System) -> None:
    answer = system.api.ask("/api/dashboard/summary?device_id=a/b")

    assert json.loads(answer.body) == json.loads(code(HTTP, "json", "about:blank"))
