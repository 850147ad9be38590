"""Requests made up from the OpenAPI document: every answer is one that the document describes, and none is a 5xx."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import insert

from shared.database import writer_engine
from shared.schema import device, device_state, person_emotion
from tests.databases import add_minutes, disposing, make_tables
from tests.processes import ROOT
from tests.web import DEVICES, HISTORY, SUMMARY, Api

pytestmark = pytest.mark.timeout(300)  # a whole run of schemathesis, beside other tests

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")

STAMP = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)

EXAMPLE = datetime(2025, 11, 14, 12, 30, tzinfo=UTC)
"""A minute within the example of the document's history."""

SHORT_IDS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._:-"
"""One device each, beside the default one: short ids are what a fuzzer asks for most."""

PEOPLE = ("1", "Zoë", "日本", "👋", "'; DROP TABLE person_emotion; --", "<script>", "x" * 128)


class Call(NamedTuple):
    """A request that was made, and its response."""

    method: str
    path: str
    status: int
    headers: dict[str, str]
    body: str


def test_every_answer_to_a_fuzzer_is_documented_and_no_5xx(
    sqlite_url: str, tmp_path: Path, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    count = 10_000 if pytestconfig.getoption("--full") else 100
    fill(sqlite_url)

    with Api(sqlite_url, tmp_path / "api.log") as api:
        calls = fuzz(api, tmp_path, "--max-examples", str(count), seed=pytestconfig.getoption("--seed"))
        log = api.log()

    statuses = Counter(call.status for call in calls)
    print(statuses)
    record_property("rounds", len(calls))
    assert len(calls) >= count
    assert max(statuses) < 500
    assert statuses[200] > count / 4
    assert statuses[400] > count / 50
    assert any(len(json.loads(call.body).get("current_people", ())) == len(PEOPLE) for call in answered(calls, SUMMARY))
    assert any(max(seconds_of(call)) >= 1e300 for call in answered(calls, HISTORY))
    assert any(len(json.loads(call.body)["devices"]) > len(SHORT_IDS) for call in answered(calls, DEVICES))
    assert "Traceback" not in log


def test_without_a_database_every_answer_about_devices_is_a_documented_503(
    sqlite_url: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    with Api(sqlite_url, tmp_path / "api.log") as api:
        # The document says that there may be a 503; all else is checked as before.
        options = ("--exclude-checks", "not_a_server_error", "--phases", "examples,fuzzing", "--max-examples", "40")
        calls = fuzz(api, tmp_path, *options, seed=pytestconfig.getoption("--seed"))
        log = api.log()

    unavailable = [call for call in calls if call.status == 503]
    assert {call.status for call in calls if call.path == "/"} == {200}
    assert {call.status for call in calls} <= {200, 400, 414, 503}
    assert [answered(calls, path) for path in (SUMMARY, HISTORY, DEVICES)] == [[], [], []]
    assert len(unavailable) >= 20
    assert all(int(call.headers["retry-after"]) > 0 for call in unavailable)
    assert "Traceback" not in log


def fill(database_url: str) -> None:
    """Devices with people whose names are awkward."""
    ids = ["jetson_1", *SHORT_IDS]
    seconds = {"time_happy": 1e308, "time_sad": 0.1, "time_angry": 0.0, "time_neutral": 5e-324}
    make_tables(database_url)
    with disposing(writer_engine(database_url)) as engine, engine.begin() as connection:
        connection.execute(insert(device), [{"device_id": device_id, "updated_at": STAMP} for device_id in ids])
        minutes = [{"device_id": device_id, "minute": minute} for device_id in ids for minute in (STAMP, EXAMPLE)]
        add_minutes(connection, [row | seconds | {"most_people": 7} for row in minutes])
        connection.execute(insert(device_state), [{"device_id": device_id, "received_at": STAMP} for device_id in ids])
        rows = [{"device_id": device_id, "person_id": person} for device_id in ids for person in PEOPLE]
        connection.execute(insert(person_emotion), [row | seconds | {"last_seen": STAMP} for row in rows])


def fuzz(api: Api, folder: Path, *options: str, seed: int) -> list[Call]:
    """Let schemathesis check the API against its own document, and tell what it called. Fails where it does."""
    archive = folder / "calls.json"
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(CONFIGURATION),
        "run",
        f"{api.url}/openapi.json",
        "--no-color",
    ]
    command += ["--seed", str(seed), "--checks", "all", "--suppress-health-check", "all"]
    command += ["--generation-database", "none", "--report", "har", "--report-har-path", str(archive), *options]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.faults.fuzz_hooks", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=folder, env=os.environ | hooks, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (
        f"schemathesis --seed {seed} says:\n{result.stdout[-10_000:]}{result.stderr[-3_000:]}"
    )
    entries = json.loads(archive.read_text())["log"]["entries"]
    return [call(entry["request"], entry["response"], base=api.url) for entry in entries]


def call(request: dict[str, Any], response: dict[str, Any], *, base: str) -> Call:
    path = request["url"].removeprefix(base).partition("?")[0]
    headers = {header["name"].lower(): header["value"] for header in response["headers"]}
    return Call(request["method"], path, response["status"], headers, response["content"].get("text", ""))


def seconds_of(call: Call) -> list[float]:
    """The happy seconds of a history, and 0 for one that has no points."""
    return [0.0, *(point["happy"] for point in json.loads(call.body)["points"])]


def answered(calls: list[Call], path: str) -> list[Call]:
    """The calls of that address that were answered with what they asked for."""
    return [call for call in calls if (call.method, call.path, call.status) == ("GET", path, 200)]
