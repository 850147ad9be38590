"""The README's Next.js route, run by node as it stands there: it asks with a token that its own callers do not have."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.databases import make_tables
from tests.processes import ROOT
from tests.web import SUMMARY, Api

TOKEN = "next-0123456789abcdef"

# Asks as the browser does: once, then with what the first answer was tagged with.
ASK = """
import { GET } from "./route.mjs";
const url = "http://dashboard.example/api/emotions" + process.argv[2];
const first = await GET(new Request(url));
const second = await GET(new Request(url, { headers: { "If-None-Match": first.headers.get("ETag") ?? '"none"' } }));
const shown = async (answer) => [answer.status, Object.fromEntries(answer.headers), await answer.text()];
console.log(JSON.stringify([await shown(first), await shown(second)]));
"""


@pytest.fixture
def api(sqlite_url: str, tmp_path: Path) -> Iterator[Api]:
    make_tables(sqlite_url)
    with Api(sqlite_url, tmp_path / "log", EMOTION_API_TOKEN=f"other-0123456789abcdef,{TOKEN}") as api:
        yield api


def ask(api: Api, folder: Path, search: str, token: str = TOKEN) -> Any:
    """Status, headers and body of the route's answers to two requests."""
    blocks = re.findall(
        r"^```js\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    (route,) = [block for block in blocks if "export async function GET(" in block]
    (folder / "route.mjs").write_text(route)
    (folder / "ask.mjs").write_text(ASK)
    finished = subprocess.run(
        ["node", str(folder / "ask.mjs"), search],
        env=os.environ | {"EMOTION_API": api.url, "EMOTION_API_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_the_route_passes_the_summary_on_and_does_not_send_it_twice(api: Api, tmp_path: Path) -> None:
    expected = api.ask(f"{SUMMARY}?device_id=jetson_2", Authorization=f"Bearer {TOKEN}")

    (status, headers, body), (second_status, second_headers, second_body) = ask(api, tmp_path, "?device_id=jetson_2")

    assert (status, body) == (200, expected.body.decode())
    assert headers["content-type"] == "application/json"
    assert headers["etag"] == second_headers["etag"] == expected.headers["etag"]
    assert headers["cache-control"] == "private, no-cache"
    assert (second_status, second_body) == (304, "")


def test_the_route_passes_the_reason_of_a_refusal_on(api: Api, tmp_path: Path) -> None:
    (status, headers, body), _ = ask(api, tmp_path, "?device_id=a/b")

    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["detail"] == "device_id has to be 1 to 64 of A-Z a-z 0-9 . _ : -"


def test_the_route_without_the_right_token_gets_nothing(api: Api, tmp_path: Path) -> None:
    (status, headers, body), _ = ask(api, tmp_path, "?device_id=jetson_2", token="wrong-0123456789abcdef")

    assert status == 401
    assert "etag" not in headers
    assert "current_people" not in body
