"""The body of a POST to the bridge: the same JSON as a batch over MQTT. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from emotion_device.errors import InvalidBatch

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d+))?\s*([Zz]|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)


@dataclass(frozen=True)
class Posted:
    """One batch as a device posted it. `Publisher.publish` checks ids and seconds."""

    device_id: str
    timestamp: datetime
    people: dict[str, Any]


def read(body: bytes) -> Posted:
    """Read a body. A person named twice has the last entry, as in the daemon. Raises InvalidBatch."""
    try:
        batch = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidBatch(f"the body is not JSON in UTF-8: {error}") from error
    device_id = _member(batch, "device_id", str, "the batch")
    timestamp = _timestamp(_member(batch, "timestamp", str, "the batch"))
    people: dict[str, Any] = {}
    for number, entry in enumerate(_member(batch, "people", list, "the batch"), 1):
        who = f"person {number}"
        person_id = _member(entry, "person_id", (str, int), who)
        people[str(person_id)] = _member(entry, "cumulative", dict, who)
    return Posted(device_id, timestamp, people)


def _member(value: Any, name: str, kind: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidBatch(f"{where} is not a JSON object")
    if name not in value:
        raise InvalidBatch(f"{where} has no {name}")
    if not isinstance(value[name], kind) or isinstance(value[name], bool):
        raise InvalidBatch(f"{where}: {name} has the wrong type")
    return value[name]


def _timestamp(text: str) -> datetime:
    """Return ISO 8601 as aware UTC; without an offset it is UTC. Python 3.8's fromisoformat knows neither Z nor ms."""
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        raise InvalidBatch("timestamp is not ISO 8601, like 2025-11-14T12:34:56Z")
    date, minutes, seconds, fraction, offset = match.groups()
    zone = "+00:00" if offset in (None, "Z", "z") else f"{offset.replace(':', ''):0<5}"
    zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    plain = f"{date}T{minutes or '00:00'}{seconds or ':00'}.{(fraction or '')[:6]:0<6}{zone}"
    try:
        return datetime.fromisoformat(plain).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        raise InvalidBatch("timestamp is not a time of the calendar") from error
