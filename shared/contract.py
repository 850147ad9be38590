"""The contract as documents: JSON Schema of a batch, and AsyncAPI of all that travels over MQTT. No I/O, no clock.

Both are made from what daemon and device decode and encode with; what only words can say is said here.
"""

import inspect
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.batch import Topics, encode, payload_schema
from shared.messages import STATUSES, DeviceInfo, ReplyError, ReplyOk

SCHEMA_ID = "urn:emotion-analytics:batch"
"""Names the schema wherever it lies: the API does not know under which address it is reached."""

VERSION = "1.0.0"
"""The contract's own: a payload that was valid stays valid while the first number is the same."""

BROKER_PACKET_BYTES = 327_680
"""The largest packet that the brokers which come with this project take."""

_BINDING = {"bindingVersion": "0.2.0"}
_SECURITY = {"$ref": "#/components/securitySchemes/login"}
_EXAMPLE: dict[str, Any] = msgspec.json.decode(
    encode("jetson_1", datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC), {"1": {"happy": 123.5, "sad": 20, "angry": 10}})
)

_WHAT_NO_SCHEMA_SAYS = """\
The daemon also checks rules that a schema cannot express. `device_id` must be that of the topic. A timestamp must be a
day of the calendar. An integer as `person_id` has neither a fraction nor an exponent. No text contains half of a
surrogate pair, like \\ud800. Ignored fields may be nested 500 levels deep. If a field occurs twice in an object, both
values must be valid, and the last one counts. The daemon accepts some timestamps that this schema does not."""


def batch_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a batch: `shared.batch.decode` accepts the same, except for the rules in its text."""
    schema = _inlined(payload_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Batch",
        **schema,
        "description": f"{schema['description']}\n\n{_WHAT_NO_SCHEMA_SAYS}",
        "examples": [_EXAMPLE, {**_EXAMPLE, "people": []}],
    }


def asyncapi(topics: Topics) -> dict[str, Any]:
    """AsyncAPI 3.0 of the daemon, which receives batches and sends replies, for a device's developer."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:emotion-analytics:mqtt",
        "info": {
            "title": "Emotion analytics over MQTT",
            "version": VERSION,
            "description": (
                "Cameras publish how many seconds each person in view has shown each emotion so far. This document "
                "describes the daemon: it receives the messages that a device publishes, and sends the replies."
            ),
        },
        "defaultContentType": "application/json",
        "servers": {
            "mqtt": _server(topics, "mqtt", host="localhost", port=1883, who="from the broker's own machine"),
            "mqtts": _server(topics, "secure-mqtt", host="broker.example.com", port=8883, who="over a network"),
        },
        "channels": _channels(topics),
        "operations": _operations(),
        "components": {
            "messages": _messages(topics),
            "securitySchemes": {
                "login": {
                    "type": "userPassword",
                    "description": (
                        "Each device has its own login, with the device id as its name. A broker on a developer's "
                        "machine may accept clients without a login."
                    ),
                }
            },
        },
    }


def _server(topics: Topics, protocol: str, *, host: str, port: int, who: str) -> dict[str, Any]:
    status = topics.status("{device_id}")
    return {
        "host": "{host}:{port}",
        "protocol": protocol,
        "protocolVersion": "5",
        "description": (
            f"The broker, {who}. A device connects with its device id as client id, and with a last will: offline, "
            f"retained, QoS 1, on {status}."
        ),
        "variables": {
            "host": {"default": host, "description": "name or address of the broker, as devices reach it"},
            "port": {"default": str(port), "description": "another one if the operator has changed it"},
        },
        "security": [_SECURITY],
        "bindings": {
            "mqtt": {"lastWill": {"topic": status, "qos": 1, "message": "offline", "retain": True}, **_BINDING}
        },
    }


def _channels(topics: Topics) -> dict[str, Any]:
    parameter = {"device_id": {"description": "1 to 64 of A-Z a-z 0-9 . _ : -", "examples": ["jetson_1"]}}
    in_payload = {"device_id": {**parameter["device_id"], "location": "$message.payload#/device_id"}}
    return {
        "batch": {
            "address": topics.batch("{device_id}"),
            "title": "Batches of one device",
            "parameters": in_payload,
            "messages": {"batch": _component("batch")},
        },
        "reply": {
            "address": topics.reply("{device_id}"),
            "title": "Replies to one device",
            "description": (
                "A device subscribes here for replies to its batches. A Response Topic may also lie below this topic; "
                "the daemon sends no reply to any other."
            ),
            "parameters": parameter,
            "messages": {"ok": _component("replyOk"), "error": _component("replyError")},
        },
        "status": {
            "address": topics.status("{device_id}"),
            "title": "Presence of one device, or of the daemon",
            "description": "Retained: a new subscriber receives at once which devices are connected.",
            "parameters": parameter,
            "messages": {"status": _component("status"), "takenBack": _component("statusTakenBack")},
        },
        "info": {
            "address": topics.info("{device_id}"),
            "title": "Statistics of one device's program",
            "description": "Retained, and optional.",
            "parameters": parameter,
            "messages": {"info": _component("info"), "takenBack": _component("statusTakenBack")},
        },
    }


def _operations() -> dict[str, Any]:
    return {
        "receiveBatch": {
            "action": "receive",
            "channel": {"$ref": "#/channels/batch"},
            "title": "Receive a batch",
            "summary": "A device publishes the people in view, about once a second, at QoS 1.",
            "description": (
                "The daemon acknowledges a batch when it is committed. Values are cumulative, so a batch that is lost "
                "heals with the next, and one that comes twice or late changes nothing. A batch with a Response Topic "
                "is answered. A broker may limit the packet, and says so as Maximum Packet Size when a device "
                f"connects: those that come with this project take {BROKER_PACKET_BYTES:,} bytes, topic and properties "
                "included."
            ),
            "messages": [{"$ref": "#/channels/batch/messages/batch"}],
            "bindings": {"mqtt": {"qos": 1, "retain": False, **_BINDING}},
            "reply": {
                "channel": {"$ref": "#/channels/reply"},
                "messages": [{"$ref": f"#/channels/reply/messages/{name}"} for name in ("ok", "error")],
            },
        },
        "sendReply": {
            "action": "send",
            "channel": {"$ref": "#/channels/reply"},
            "title": "Send the result of a batch",
            "summary": "Published to the batch's Response Topic, with its Correlation Data.",
            "description": "At QoS 0, so a reply may be lost. The PUBACK says that the broker has the batch.",
            "messages": [{"$ref": f"#/channels/reply/messages/{name}"} for name in ("ok", "error")],
            "bindings": {"mqtt": {"qos": 0, "retain": False, **_BINDING}},
        },
        "receiveStatus": {
            "action": "receive",
            "channel": {"$ref": "#/channels/status"},
            "title": "Receive the presence of a device",
            "summary": "A device publishes online after it has connected; its last will is offline.",
            "messages": [{"$ref": f"#/channels/status/messages/{name}"} for name in ("status", "takenBack")],
            "bindings": {"mqtt": {"qos": 1, "retain": True, **_BINDING}},
        },
        "receiveInfo": {
            "action": "receive",
            "channel": {"$ref": "#/channels/info"},
            "title": "Receive the statistics of a device's program",
            "summary": "A device may publish them after it has connected, and about once a minute.",
            "messages": [{"$ref": f"#/channels/info/messages/{name}"} for name in ("info", "takenBack")],
            "bindings": {"mqtt": {"qos": 1, "retain": True, **_BINDING}},
        },
        "sendStatus": {
            "action": "send",
            "channel": {"$ref": "#/channels/status"},
            "title": "Send the presence of the daemon",
            "summary": "The daemon does the same, with its own client id in place of a device id.",
            "messages": [{"$ref": "#/channels/status/messages/status"}],
            "bindings": {"mqtt": {"qos": 1, "retain": True, **_BINDING}},
        },
    }


def _messages(topics: Topics) -> dict[str, Any]:
    batch = {name: value for name, value in batch_schema().items() if name not in ("$schema", "$id")}
    correlation = {"type": "string", "description": "the Correlation Data of the batch; Publisher sends the timestamp"}
    return {
        "batch": {
            "name": "batch",
            "title": "Batch",
            "summary": "The people in view, and the seconds for which each has shown each emotion so far.",
            "contentType": "application/json",
            "payload": batch,
            "bindings": {
                "mqtt": {"responseTopic": topics.reply("{device_id}"), "correlationData": correlation, **_BINDING}
            },
            "examples": [
                {"name": "one-person", "summary": "One person in view", "payload": _EXAMPLE},
                {"name": "empty", "summary": "No person in view", "payload": {**_EXAMPLE, "people": []}},
            ],
        },
        "replyOk": _reply(ReplyOk, "replyOk", ReplyOk(updated_count=2), correlation),
        "replyError": _reply(
            ReplyError,
            "replyError",
            ReplyError(error="Expected `float` >= 0.0 - at `$.people[0].cumulative.happy`"),
            correlation,
        ),
        "status": {
            "name": "status",
            "title": "Status",
            "summary": "online, or offline as the last will or before a disconnect.",
            "contentType": "text/plain",
            "payload": {"type": "string", "enum": list(STATUSES)},
            "examples": [{"name": status, "payload": status} for status in STATUSES],
        },
        "info": {
            "name": "info",
            "title": "Info",
            "summary": "Statistics of the device's program.",
            "contentType": "application/json",
            "payload": _inlined(msgspec.json.schema(DeviceInfo)),
            "examples": [{"name": "info", "payload": {"version": "0.1.0", "fps": 24.8, "reconnects": 0}}],
        },
        "statusTakenBack": {
            "name": "statusTakenBack",
            "title": "No status, or no statistics",
            "summary": "An empty message: broker and daemon forget the last one.",
            "contentType": "text/plain",
            "payload": {"type": "string", "const": ""},
        },
    }


def _reply(
    kind: type[ReplyOk | ReplyError], name: str, example: ReplyOk | ReplyError, correlation: Mapping[str, Any]
) -> dict[str, Any]:
    payload = _inlined(msgspec.json.schema(kind))
    return {
        "name": name,
        "title": kind.__name__,
        "summary": payload["description"],
        "contentType": "application/json",
        "payload": payload,
        "bindings": {"mqtt": {"correlationData": correlation, **_BINDING}},
        "examples": [{"name": name, "payload": msgspec.to_builtins(example)}],
    }


def _component(message: str) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{message}"}


def _inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """msgspec's schema as one whole: no $ref to follow, no names of Python classes."""
    definitions = schema["$defs"]

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        whole = {name: resolved(value) for name, value in part.items()}
        if "properties" in whole:
            del whole["title"]
            whole["description"] = inspect.cleandoc(whole["description"])
        return whole

    result: dict[str, Any] = resolved({"$ref": schema["$ref"]})
    return result
