"""RabbitMQ's side without RabbitMQ. tests/compose/test_rabbitmq.py has the real cluster."""

import json
import stat
from pathlib import Path

import pytest

from emotion_admin.__main__ import main
from emotion_admin.errors import OperatorError
from emotion_admin.rabbitmq import ManagementApi, RabbitMqLogins
from emotion_admin.secrets import Secrets
from shared.batch import Topics
from tests.waiting import free_port

TOPICS = Topics("emotions")


@pytest.fixture
def logins() -> RabbitMqLogins:
    return RabbitMqLogins(ManagementApi(f"http://127.0.0.1:{free_port()}", "emotion-admin", "x"), TOPICS)


@pytest.mark.parametrize(
    ("device_id", "says"),
    [("hall.1", "has a dot"), ("b8:27:eb", "has a colon"), ("emotion-daemon", "this system itself")],
)
def test_an_id_that_rabbitmq_cannot_carry_is_refused_with_a_reason(
    logins: RabbitMqLogins, device_id: str, says: str
) -> None:
    with pytest.raises(OperatorError, match=says):
        logins.check(device_id, new=True)


def test_without_a_node_a_sentence_says_so(logins: RabbitMqLogins) -> None:
    with pytest.raises(OperatorError, match=r"cannot reach RabbitMQ's management API at http://127\.0\.0\.1:\d+: "):
        logins.devices()


def test_secrets_has_the_definitions_and_the_cookie_only_for_rabbitmq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets(tmp_path, TOPICS)
    assert main(["--secrets", str(tmp_path), "secrets"]) == 0
    assert not secrets.rabbitmq_definitions.exists()

    monkeypatch.setenv("EMOTION_RABBITMQ_URL", "http://gate:15672")
    assert main(["--secrets", str(tmp_path), "secrets"]) == 0
    cookie = secrets.erlang_cookie.read_text()
    assert main(["--secrets", str(tmp_path), "secrets"]) == 0

    assert [user["name"] for user in json.loads(secrets.rabbitmq_definitions.read_text())["users"]] == [
        "emotion-daemon",
        "emotion-admin",
    ]
    assert secrets.erlang_cookie.read_text() == cookie, "the nodes would refuse one another with another cookie"
    assert stat.S_IMODE(secrets.erlang_cookie.stat().st_mode) == 0o640
