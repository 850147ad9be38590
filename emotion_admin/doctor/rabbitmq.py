"""Check a RabbitMQ cluster by its management API: its nodes, and the queue of the daemon's session."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emotion_admin.doctor.finding import Finding, ok, problem, warning
from emotion_admin.errors import OperatorError
from emotion_admin.rabbitmq import ManagementApi
from emotion_daemon.mqtt.subscriber import GROUP_LIMIT
from shared.settings import Settings

API = "rabbitmq api"
NODES = "rabbitmq nodes"
QUEUE = "rabbitmq queue"
DELIVERIES = "rabbitmq deliveries"
EXPIRY = "rabbitmq expiry"
PREFETCH = "rabbitmq prefetch"

ENOUGH_NODES = 3
"""With fewer, the loss of one node stops the cluster."""

RECEIVE_MAXIMUM = 2 * GROUP_LIMIT

_DEFAULT_DELIVERY_LIMIT = 20
_GUIDE = "docs/operate/rabbitmq.md"


def examine(settings: Settings, url: str) -> Iterator[Finding]:
    """Read the management API at `url` as the daemon, and judge the cluster."""
    api = ManagementApi(url, settings.mqtt_username or "", settings.mqtt_password or "")
    try:
        nodes = api.get("nodes")
        queue = api.session(settings.mqtt_client_id)
    except OperatorError as error:
        yield problem(API, str(error), f"See the nodes' logs, and {_GUIDE}.")
        return
    yield from judge_nodes(nodes)
    yield from judge_queue(queue)


def judge_nodes(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Judge the nodes, as /api/nodes describes them."""
    alarms = [
        f"{node['name']} ({kind})" for node in nodes for kind in ("mem_alarm", "disk_free_alarm") if node.get(kind)
    ]
    if alarms:
        yield problem(
            NODES,
            f"RabbitMQ accepts nothing, not even the daemon's acknowledgements: alarm on {', '.join(alarms)}",
            f"Make room on the disk, or give the node more memory: {_GUIDE}#a-node-raises-an-alarm.",
        )
    stopped = [node["name"] for node in nodes if not node["running"]]
    apart = [node["name"] for node in nodes if node.get("partitions")]
    if stopped:
        yield warning(
            NODES,
            f"{len(nodes) - len(stopped)} of {len(nodes)} run; stopped: {', '.join(stopped)}",
            f"Start them; the cluster needs a majority. To replace one: {_GUIDE}#replace-a-node.",
        )
    elif apart:
        yield problem(
            NODES,
            f"these nodes do not reach all others: {', '.join(apart)}",
            "Check the network between the nodes, then restart these, one after another.",
        )
    elif len(nodes) < ENOUGH_NODES:
        yield warning(
            NODES, f"only {len(nodes)}: the loss of one stops the cluster", f"Add nodes: {_GUIDE}#add-a-node."
        )
    elif not alarms:
        yield ok(NODES, f"{len(nodes)} run")


def judge_queue(queue: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Judge the queue of the daemon's session, as /api/queues describes it; None if there is none."""
    if queue is None:
        yield warning(
            QUEUE,
            "the daemon has no session: RabbitMQ stores no batch for it",
            "Start the daemon. If it runs, see its log.",
        )
        return
    if queue["type"] != "quorum":
        yield problem(
            QUEUE,
            f"the daemon's session is a {queue['type']} queue: the loss of one node loses its batches",
            f"Set mqtt.durable_queue_type = quorum on each node, and restart them one after another. Then create the "
            f"session anew: {_GUIDE}#create-the-daemons-session-anew.",
        )
        return
    yield _judge_copies(queue["members"], messages=queue.get("messages", 0))
    yield _judge_deliveries(queue)
    yield _judge_expiry(queue)
    yield _judge_prefetch(queue.get("consumer_details", ()))


def _judge_copies(members: Sequence[str], *, messages: int) -> Finding:
    if len(members) < ENOUGH_NODES:
        return warning(
            QUEUE,
            f"the daemon's session has copies on {len(members)} nodes only: {', '.join(members)}",
            f"On a node without a copy: rabbitmq-queues grow NODE all. See {_GUIDE}#add-a-node.",
        )
    return ok(QUEUE, f"a quorum queue with {len(members)} copies, {messages:,} messages")


def _judge_deliveries(queue: Mapping[str, Any]) -> Finding:
    limit = _policy(queue).get("delivery-limit", _DEFAULT_DELIVERY_LIMIT)
    if limit >= 0:
        return problem(
            DELIVERIES,
            f"RabbitMQ drops a batch that it has delivered {limit} times without an acknowledgement",
            "Restart one node, which reads the policy daemon-session again from rabbitmq-definitions.json.",
        )
    return ok(DELIVERIES, "without a limit")


def _judge_expiry(queue: Mapping[str, Any]) -> Finding:
    milliseconds = _policy(queue).get("expires", queue["arguments"].get("x-expires"))
    if milliseconds is not None:
        return problem(
            EXPIRY,
            f"RabbitMQ deletes the daemon's session {milliseconds / 1000:.0f} s after a connection",
            "Set mqtt.max_session_expiry_interval_seconds = infinity on each node, and restart them one after another. "
            "The daemon's next connection changes its session.",
        )
    return ok(EXPIRY, "the daemon's session does not expire")


def _judge_prefetch(consumers: Sequence[Mapping[str, Any]]) -> Finding:
    if not consumers:
        return ok(PREFETCH, "not checked: the daemon is not connected")
    prefetch = consumers[0]["prefetch_count"]
    if prefetch < RECEIVE_MAXIMUM:
        return warning(
            PREFETCH,
            f"RabbitMQ sends at most {prefetch} batches ahead: the daemon stores small groups slowly",
            f"Set mqtt.prefetch = {RECEIVE_MAXIMUM} on each node, and restart them one after another.",
        )
    return ok(PREFETCH, f"up to {prefetch:,} batches ahead of their acknowledgements")


def _policy(queue: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the policy that applies; RabbitMQ sends a list if there is none."""
    policy: Any = queue.get("effective_policy_definition")
    return policy if isinstance(policy, dict) else {}
