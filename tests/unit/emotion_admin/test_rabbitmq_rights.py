import base64
import hashlib
import re

import pytest

from emotion_admin.rabbitmq_rights import POLICIES, definitions, permissions, topic_permissions
from emotion_admin.roles import ADMIN, DAEMON
from shared.batch import Topics

TOPICS = Topics("emotions")
SESSIONS = [f"mqtt-subscription-{name}qos{qos}" for name in ("jetson_1", "jetson_11", DAEMON) for qos in (0, 1)]


def allowed(expression: str, names: list[str]) -> list[str]:
    return [name for name in names if re.search(expression, name)]


@pytest.mark.parametrize("right", ["configure", "write", "read"])
def test_a_device_may_use_the_queues_of_its_own_session_only(right: str) -> None:
    assert allowed(permissions("jetson_1")[right], SESSIONS) == SESSIONS[:2]


def test_a_device_may_publish_through_the_exchange_of_mqtt_only() -> None:
    assert allowed(permissions("jetson_1")["write"], ["amq.topic", "amq.direct", "amqxtopic", ""]) == ["amq.topic"]


def test_a_device_may_publish_its_own_batches_and_status() -> None:
    expression = topic_permissions("jetson_1", TOPICS)["write"].replace("{username}", "jetson_1")
    own = ["emotions.jetson_1.batch", "emotions.jetson_1.status", "emotions.jetson_1.info"]
    others = [
        "emotions.jetson_11.batch",
        "emotions.jetson_1.reply",
        "emotions.jetson_1.x.batch",
        "x.emotions.jetson_1.batch",
    ]

    assert allowed(expression, own + others) == own


def test_a_device_may_subscribe_to_its_own_replies() -> None:
    expression = topic_permissions("jetson_1", TOPICS)["read"].replace("{username}", "jetson_1")
    own = ["emotions.jetson_1.reply", "emotions.jetson_1.reply.*", "emotions.jetson_1.reply.#"]
    others = [
        "#",
        "emotions.#",
        "emotions.*.reply",
        "emotions.jetson_1.*",
        "emotions.jetson_2.reply",
        "emotions.jetson_1.batch",
    ]

    assert allowed(expression, own + others) == own


def test_the_daemon_may_subscribe_and_reply() -> None:
    rights = topic_permissions(DAEMON, Topics("site/emotions"))
    read = ["site.emotions.*.batch", "site.emotions.*.status", "site.emotions.*.info"]
    written = ["site.emotions.jetson_1.reply", "site.emotions.jetson_1.reply.7", "site.emotions.jetson_1.batch"]

    assert allowed(rights["read"], [*read, "#", "site.#"]) == read
    assert allowed(rights["write"], [*written, "site.emotions.jetson_1.other"]) == written


def test_the_policy_of_the_daemons_session_comes_before_that_of_the_devices() -> None:
    matching = [
        policy for policy in POLICIES.values() if re.search(policy["pattern"], f"mqtt-subscription-{DAEMON}qos1")
    ]

    assert max(matching, key=lambda policy: int(policy["priority"]))["definition"]["delivery-limit"] == -1


def test_definitions_have_hashes_and_no_password() -> None:
    found = definitions({DAEMON: "secret-1", ADMIN: "secret-2"}, TOPICS)

    (user, _) = found["users"]
    stored = base64.b64decode(user["password_hash"])
    assert stored[4:] == hashlib.sha256(stored[:4] + b"secret-1").digest()
    assert "secret" not in str(found)
    assert user["tags"] == ["monitoring"]
