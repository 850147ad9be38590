"""The agreement with the daemon: topics, limits and the payload's form. Pure, and without a dependency.

`shared.batch` is the daemon's side of the same agreement. A test compares the two.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Dict, Mapping

EMOTIONS = ("happy", "sad", "angry", "neutral")
"""The emotions that the daemon stores, in the order that settles a tie."""

EARLIEST_TIMESTAMP = datetime(2020, 1, 1, tzinfo=timezone.utc)
"""The daemon replaces an earlier timestamp: it comes from a clock that is not set yet."""

DEVICE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
MAX_PERSON_ID = 128
MAX_PEOPLE = 100_000

Cumulative = Dict[str, float]
People = Dict[str, Cumulative]


def topic(prefix: str, device_id: str, last: str) -> str:
    """Return a device's topic; `last` is batch, reply, status or info."""
    return f"{prefix}/{device_id}/{last}"


def is_topic_prefix(text: str) -> bool:
    """Return True if topics may begin so: no level is empty, none has a + or #, and the first begins with no $."""
    return all(text.split("/")) and not text.startswith("$") and not any(c in "+#" or not c.isprintable() for c in text)


def encode(device_id: str, timestamp: datetime, people: Mapping[str, Mapping[str, float]]) -> bytes:
    """Write a batch. `timestamp` is aware UTC; `people` has passed `checks.check`."""
    listed = [{"person_id": person_id, "cumulative": seconds} for person_id, seconds in people.items()]
    batch = {"device_id": device_id, "timestamp": timestamp.isoformat().replace("+00:00", "Z"), "people": listed}
    return json.dumps(batch, ensure_ascii=False, separators=(",", ":")).encode()
