from typing import Any

import pytest

from emotion_admin.doctor.finding import Finding
from emotion_admin.doctor.rabbitmq import DELIVERIES, EXPIRY, NODES, PREFETCH, QUEUE, judge_nodes, judge_queue

NODE = {"name": "rabbit@rabbitmq-1", "running": True, "partitions": [], "mem_alarm": False, "disk_free_alarm": False}

SESSION: dict[str, Any] = {
    "type": "quorum",
    "members": ["rabbit@rabbitmq-1", "rabbit@rabbitmq-2", "rabbit@rabbitmq-3"],
    "messages": 7,
    "arguments": {"x-queue-type": "quorum"},
    "effective_policy_definition": {"delivery-limit": -1},
    "consumer_details": [{"prefetch_count": 4000}],
}


def judged(**changes: Any) -> dict[str, Finding]:
    return {found.subject: found for found in judge_queue({**SESSION, **changes})}


def test_a_session_as_it_should_be() -> None:
    assert {subject: found.level for subject, found in judged().items()} == dict.fromkeys(
        (QUEUE, DELIVERIES, EXPIRY, PREFETCH), "ok"
    )


def test_the_daemon_has_no_session() -> None:
    (found,) = judge_queue(None)

    assert found.level == "warning"
    assert "no session" in found.found


def test_a_classic_queue_is_all_that_is_judged() -> None:
    """RabbitMQ applies no policy with a delivery limit to it."""
    (found,) = judged(type="classic", members=None, effective_policy_definition={"expires": 3_600_000}).values()

    assert found.level == "problem"
    assert "mqtt.durable_queue_type = quorum" in found.advice


def test_too_few_copies() -> None:
    found = judged(members=["rabbit@rabbitmq-1"])[QUEUE]

    assert found.level == "warning"
    assert "rabbitmq-queues grow" in found.advice


@pytest.mark.parametrize(("policy", "limit"), [([], 20), ({}, 20), ({"delivery-limit": 3}, 3)])
def test_a_delivery_limit(policy: Any, limit: int) -> None:
    found = judged(effective_policy_definition=policy)[DELIVERIES]

    assert found.level == "problem"
    assert f"delivered {limit} times" in found.found


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {"x-expires": 86_400_000}},
        {"effective_policy_definition": {"delivery-limit": -1, "expires": 86_400_000}},
    ],
    ids=["argument", "policy"],
)
def test_a_session_that_expires(changes: dict[str, Any]) -> None:
    found = judged(**changes)[EXPIRY]

    assert found.level == "problem"
    assert "86400 s" in found.found


def test_a_small_prefetch() -> None:
    found = judged(consumer_details=[{"prefetch_count": 10}])[PREFETCH]

    assert found.level == "warning"
    assert "mqtt.prefetch = 4000" in found.advice


def test_without_a_consumer_the_prefetch_is_unknown() -> None:
    assert "not checked" in judged(consumer_details=[])[PREFETCH].found


@pytest.mark.parametrize(
    ("nodes", "level", "says"),
    [
        ([NODE] * 3, "ok", "3 run"),
        ([NODE] * 2, "warning", "only 2"),
        ([NODE, NODE, {**NODE, "name": "rabbit@b", "running": False}], "warning", "2 of 3 run; stopped: rabbit@b"),
        ([NODE, NODE, {**NODE, "name": "rabbit@b", "partitions": ["rabbit@a"]}], "problem", "do not reach"),
        ([NODE, NODE, {**NODE, "name": "rabbit@b", "disk_free_alarm": True}], "problem", "alarm on rabbit@b"),
    ],
    ids=["all run", "two nodes", "one stopped", "partition", "alarm"],
)
def test_the_nodes(nodes: list[dict[str, Any]], level: str, says: str) -> None:
    (found,) = judge_nodes(nodes)

    assert (found.subject, found.level) == (NODES, level)
    assert says in found.found
