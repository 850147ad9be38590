"""The rights of each login at RabbitMQ, and the definitions that each node reads at its start. Pure, but for new salts.

RabbitMQ translates a topic: `emotions/jetson_1/batch` is the routing key `emotions.jetson_1.batch`, and `+` is `*`.
"""

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from emotion_admin.roles import ADMIN, DAEMON
from shared.batch import Topics

EXCHANGE = "amq.topic"
"""The exchange through which the MQTT plugin passes every message."""

TAGS = {ADMIN: "administrator", DAEMON: "monitoring"}
"""The tag of each of our own logins, which is its right at the management API. doctor reads it as the daemon."""

MAX_QUEUE_BYTES = 2**30
"""Most bytes of batches that wait for the daemon. The nodes' disks need three times as much."""

POLICIES: Mapping[str, dict[str, Any]] = {
    # By default a quorum queue drops a message after 20 deliveries: a daemon that restarts often would lose batches. A
    # full queue refuses batches. A full disk would stop the daemon's acknowledgements, too.
    "daemon-session": {
        "pattern": f"^mqtt-subscription-{DAEMON}qos1$",
        "priority": 1,
        "definition": {"delivery-limit": -1, "max-length-bytes": MAX_QUEUE_BYTES, "overflow": "reject-publish"},
    },
    # A device needs no lasting session. A forgotten one would fill the disks of all nodes.
    "device-sessions": {
        "pattern": "^mqtt-subscription-",
        "priority": 0,
        "definition": {"expires": 3_600_000, "max-length": 1_000},
    },
}
"""The policies of the sessions' queues, by name."""


def permissions(login: str) -> dict[str, str]:
    """Return what a login may do with queues and exchanges: publish, and use the queues of its own session."""
    if login == ADMIN:
        return {"configure": "^mqtt-subscription-", "write": "^$", "read": "^$"}
    queues = f"mqtt-subscription-{login}qos[01]"
    both = f"^({re.escape(EXCHANGE)}|{queues})$"
    return {"configure": f"^{queues}$", "write": both, "read": both}


def topic_permissions(login: str, topics: Topics) -> dict[str, str]:
    """Return what a login may publish and subscribe to. RabbitMQ puts the login's name in place of {username}."""
    prefix = re.escape(topics.prefix.replace("/", "."))
    if login == DAEMON:
        return {
            "exchange": EXCHANGE,
            "write": rf"^{prefix}\.[^.]+\.(batch|status|info|reply(\..+)?)$",
            "read": rf"^{prefix}\.\*\.(batch|status|info)$",
        }
    return {
        "exchange": EXCHANGE,
        "write": rf"^{prefix}\.{{username}}\.(batch|status|info)$",
        "read": rf"^{prefix}\.{{username}}\.reply(\.[*#])?$",
    }


def definitions(passwords: Mapping[str, str], topics: Topics) -> dict[str, Any]:
    """Return the definitions of our own logins, with these passwords, and of the policies."""
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {
                "name": login,
                "password_hash": _hash(password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [TAGS[login]],
            }
            for login, password in passwords.items()
        ],
        "permissions": [{"user": login, "vhost": "/", **permissions(login)} for login in passwords],
        "topic_permissions": [{"user": DAEMON, "vhost": "/", **topic_permissions(DAEMON, topics)}],
        "policies": [{"vhost": "/", "name": name, "apply-to": "queues", **policy} for name, policy in POLICIES.items()],
    }


def _hash(password: str) -> str:
    salt = secrets.token_bytes(4)
    return b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
