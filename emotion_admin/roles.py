"""The rights of each login at the broker: one role a login, in the terms of Mosquitto's plugin dynamic_security.

The plugin denies what no role allows. A device's SUBSCRIBE has to name one of three filters literally: a pattern would
allow any number of filters, each of which costs the broker memory.
"""

from typing import TypedDict

from shared.batch import Topics

DAEMON = "emotion-daemon"
"""The daemon's login, and its client id: the shipped brokers take the login's name for it."""

HEALTH = "health"
"""The login of the broker's health check."""

ADMIN = "emotion-admin"
"""The login that changes logins in the running broker."""

OWN_LOGINS = (ADMIN, DAEMON, HEALTH)
"""The logins of this system itself."""

CONTROL = "$CONTROL/dynamic-security/v1"
"""The topic of the plugin's commands."""

CONTROL_RESPONSE = f"{CONTROL}/response"

_UPTIME = "$SYS/broker/uptime"


class Acl(TypedDict):
    """One permission. `topic` is a topic filter; with subscribeLiteral it is the filter that a client may name."""

    acltype: str
    topic: str
    allow: bool


def acls(login: str, topics: Topics) -> list[Acl]:
    """Return all that a login may do."""
    if login == DAEMON:
        # Only an empty message to a device's topic deletes a retained one, which may name a person.
        return [
            *_reading(topics.batch_filter),
            *_reading(topics.status_filter),
            *_reading(topics.info_filter),
            _acl("publishClientSend", topics.batch_filter),
            _acl("publishClientSend", topics.status_filter),
            _acl("publishClientSend", topics.info_filter),
            _acl("publishClientSend", f"{topics.reply('+')}/#"),
        ]
    if login == HEALTH:
        return _reading(_UPTIME)
    if login == ADMIN:
        return [*_reading(CONTROL_RESPONSE), _acl("publishClientSend", CONTROL)]
    reply = topics.reply(login)
    return [
        _acl("publishClientSend", topics.batch(login)),
        _acl("publishClientSend", topics.status(login)),
        _acl("publishClientSend", topics.info(login)),
        _acl("publishClientReceive", f"{reply}/#"),
        *(_acl("subscribeLiteral", each) for each in (reply, f"{reply}/+", f"{reply}/#")),
    ]


def leaving_acls(device_id: str, topics: Topics) -> list[Acl]:
    """Return what removing a device needs: to see whether a batch of its is retained, and to clear its topics."""
    return [*acls(device_id, topics), *_reading(topics.batch(device_id))]


def everything() -> list[Acl]:
    """Return the permissions of clients without a login at the broker of scripts/run, which is on loopback."""
    return [_acl(kind, "#") for kind in ("publishClientSend", "publishClientReceive", "subscribePattern")]


def _reading(topic_filter: str) -> list[Acl]:
    return [_acl("subscribeLiteral", topic_filter), _acl("publishClientReceive", topic_filter)]


def _acl(kind: str, topic: str) -> Acl:
    return {"acltype": kind, "topic": topic, "allow": True}
