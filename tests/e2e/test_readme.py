"""The README's code is run as it stands there; only the ports are those of the test."""

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
from tests.processes import ROOT, Daemon
from tests.waiting import wait_until
from tests.web import Api

README = (ROOT / "README.md").read_text(encoding="utf-8")


class System(NamedTuple):
    """Broker, daemon and API as a reader of the README has them."""

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


def code(language: str, containing: str) -> str:
    """The one block of the README in `language` that has `containing` in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if containing in block]
    return str(block)


def run_python(block: str, broker: Broker) -> str:
    assert "1883" in block
    return run([sys.executable, "-W", "error", "-c", block.replace("1883", str(broker.port))])


def run_shell(block: str, system: System) -> str:
    block = re.sub(r"^(mosquitto_\w+)", rf"\1 -p {system.broker.port}", block, flags=re.MULTILINE)
    return run(["bash", "-ec", block.replace("http://127.0.0.1:8000", system.api.url)])


def run(command: list[str], **environment: str) -> str:
    finished = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_first_batch_that_is_published_is_in_the_answer_that_is_read_back(system: System) -> None:
    publish, curl = code("sh", "mosquitto_pub").split("curl", 1)

    began = datetime.now(UTC).replace(microsecond=0)  # which the command cuts off, too

    run_shell(publish, system)

    wait_until(lambda: system.summary()["current_people"], what="the batch is in the summary")
    read_back = json.loads(run_shell(f"curl -s {curl}", system))
    stamp = read_back["updated_at"]
    assert began <= datetime.fromisoformat(stamp) <= datetime.now(UTC)
    person = {**README_SUMMARY["current_people"][0], "last_seen": stamp}
    assert read_back == {**README_SUMMARY, "updated_at": stamp, "current_people": [person]}


def test_the_device_snippet_without_our_package_publishes_a_batch(system: System) -> None:
    run_python(code("python", "import paho.mqtt.client"), system.broker)

    wait_until(lambda: system.summary()["emotion_totals"]["happy"] == 123.5, what="the batch is in the summary")


def test_the_device_snippet_with_publisher_publishes_batches_and_prints_the_answers(system: System) -> None:
    printed = run_python(code("python", "Publisher("), system.broker)

    assert set(printed.splitlines()) == {"ok 1 None"}
    wait_until(
        lambda: system.summary()["emotion_totals"]["happy"] == 126.5,
        what="the last batch is in the summary",
    )


def test_the_request_from_the_command_line_gets_the_reason_why_it_was_rejected(system: System) -> None:
    answer = json.loads(run_shell(code("sh", "mosquitto_rr"), system))

    assert answer == {"status": "error", "error": "Expected `float` >= 0.0 - at `$.people[0].cumulative.happy`"}


def test_the_line_that_validates_a_batch_says_what_is_wrong() -> None:
    block = code("sh", "emotion_device validate").replace("python -m", f"{sys.executable} -m")

    said = run(["bash", "-c", f"{block}\nexit $(($? - 1))"])

    reason = re.search(r"^says ``(.*?) ``", README, re.MULTILINE)
    assert reason is not None
    assert said == f"standard input: {reason[1]}\n"


def test_the_dashboard_module_fetches_the_summary(system: System, tmp_path: Path) -> None:
    (tmp_path / "emotions.mjs").write_text(code("js", "export async function getSummary"))
    script = "import { getSummary } from './emotions.mjs'; console.log(JSON.stringify(await getSummary('jetson_1')))"
    (tmp_path / "main.mjs").write_text(script)

    printed = run(["node", str(tmp_path / "main.mjs")], NEXT_PUBLIC_EMOTION_API=system.api.url)

    assert json.loads(printed) == system.summary()


def test_the_dashboard_module_throws_the_sentence_of_the_api(system: System, tmp_path: Path) -> None:
    (tmp_path / "emotions.mjs").write_text(code("js", "export async function getSummary"))
    script = "import { getSummary } from './emotions.mjs'; await getSummary('a/b').catch((e) => console.log(e.message))"
    (tmp_path / "main.mjs").write_text(script)

    printed = run(["node", str(tmp_path / "main.mjs")], NEXT_PUBLIC_EMOTION_API=system.api.url)

    assert printed == "Bad Request: device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -\n"


def test_the_settings_table_names_every_setting_with_its_default() -> None:
    table = README.split("### Settings")[1].split("###")[0]

    for default in ("sqlite:///emotion.db", "localhost", "1883", "emotion-daemon", "emotions", "INFO"):
        assert f"`{default}`" in table
    for name in re.findall(r'read\.\w+\("(\w+)"', (ROOT / "shared" / "settings.py").read_text()):
        assert f"`EMOTION_{name}`" in table, name
