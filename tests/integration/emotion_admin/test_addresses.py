"""Addresses of daemon and API, as the settings and gunicorn's own configuration give them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_admin.addresses import api_urls
from emotion_admin.health import check, is_url
from tests.processes import ROOT, without_settings
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _where_gunicorn_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("arguments", "urls"),
    [
        ("", ["http://127.0.0.1:8000"]),
        ("--workers 1", ["http://127.0.0.1:8000"]),
        ("--bind=0.0.0.0:8001", ["http://127.0.0.1:8001"]),
        ("--workers 3 --bind 127.0.0.1:8002", ["http://127.0.0.1:8002"]),
        ("-b 127.0.0.1:8003", ["http://127.0.0.1:8003"]),
        ("-b127.0.0.1:8004 --workers 1", ["http://127.0.0.1:8004"]),
        ("-b :8005", ["http://127.0.0.1:8005"]),
        ("-b '192.0.2.1:8006'", ["http://192.0.2.1:8006"]),
        ("-b [::]:8007", ["http://[::1]:8007"]),
        ("-b [::1]:8008 -b 127.0.0.1:8008", ["http://[::1]:8008", "http://127.0.0.1:8008"]),
        ("--bind=unix:/run/emotion-api/api.sock", ["http+unix://%2Frun%2Femotion-api%2Fapi.sock"]),
        ("--bind=fd://3", []),
    ],
)
def test_gunicorn_itself_says_where_it_listens(arguments: str, urls: list[str]) -> None:
    before = dict(os.environ), sys.argv

    assert api_urls(arguments) == urls
    assert all(is_url(url) for url in urls)
    assert (dict(os.environ), sys.argv) == before


@pytest.mark.parametrize("arguments", ["--bind=localhost:web", "--no-such-option"])
def test_an_argument_that_gunicorn_refuses_ends_the_command(arguments: str) -> None:
    environment = without_settings() | {"GUNICORN_CMD_ARGS": arguments}
    command = [sys.executable, "-m", "emotion_admin.addresses"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr


def test_the_command_names_both_services() -> None:
    environment = without_settings() | {
        "EMOTION_DAEMON_HTTP_ADDRESS": "0.0.0.0:9464",
        "GUNICORN_CMD_ARGS": "-b [::]:81",
    }
    command = [sys.executable, "-m", "emotion_admin.addresses"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert done.stdout == "daemon http://127.0.0.1:9464\napi http://[::1]:81\n"


def test_an_api_on_a_unix_socket_answers_the_health_check(tmp_path: Path) -> None:
    (url,) = api_urls(f"-b unix:{tmp_path}/api.sock")
    environment = without_settings() | {
        "EMOTION_DATABASE_URL": f"sqlite:///{tmp_path}/none.db",
        "GUNICORN_CMD_ARGS": f"-b unix:{tmp_path}/api.sock --workers 1",
    }
    down, _ = check(f"{url}/")
    command = [sys.executable, "-m", "gunicorn", "emotion_api:create_app()"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as api:
        try:
            wait_until(lambda: check(f"{url}/")[0], what="the API answers on the socket")
            answers = check(f"{url}/")
        finally:
            api.terminate()

    assert not down
    assert answers == (True, "ok")
