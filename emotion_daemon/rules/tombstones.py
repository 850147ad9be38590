"""Tombstones of erased people, and what they suppress in a batch. Pure.

A tombstone does not hold the person's id, only a digest of it that is keyed with a salt. A reader of the database can
test ids against the digest, but cannot read an id from it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from emotion_daemon.rules.clock_fallback import Placed
from shared.batch import Batch

STORED_AFTER_END = timedelta(days=30)
"""Time for which a tombstone is stored after its `until`. A batch that it suppresses may wait at a broker so long."""

SALT_BYTES = 16

Tombstones = Mapping[str, Mapping[bytes, Mapping[bytes, datetime]]]
"""device id -> salt -> digest -> until. A device has one salt, unless another program has written tombstones."""


class Tombstone(NamedTuple):
    """One row: the person is suppressed in batches of the device with timestamps up to `until` (aware UTC)."""

    device_id: str
    salt: bytes
    digest: bytes
    until: datetime


def digest(person_id: str, salt: bytes) -> bytes:
    """The digest of `person_id` in a tombstone."""
    return blake2b(person_id.encode(), key=salt, digest_size=32).digest()


def by_device(tombstones: Iterable[Tombstone]) -> Tombstones:
    """Index rows for lookup."""
    found: dict[str, dict[bytes, dict[bytes, datetime]]] = {}
    for device_id, salt, hashed, until in tombstones:
        found.setdefault(device_id, {}).setdefault(salt, {})[hashed] = until
    return MappingProxyType({device_id: MappingProxyType(salts) for device_id, salts in found.items()})


def until_when(tombstones: Tombstones, device_id: str, person_id: str) -> datetime | None:
    """The last timestamp at which the person is suppressed; None if the person was not erased."""
    ends = (ends.get(digest(person_id, salt)) for salt, ends in tombstones.get(device_id, {}).items())
    return max((end for end in ends if end is not None), default=None)


def suppressed(placed: Placed, tombstones: Tombstones) -> tuple[Placed, int]:
    """The batch without entries about erased people, and the number of entries removed."""
    batch = placed.batch
    people = {
        person_id: cumulative
        for person_id, cumulative in batch.people.items()
        if not _is_suppressed(batch, until_when(tombstones, batch.device_id, person_id))
    }
    count = len(batch.people) - len(people)
    return (placed._replace(batch=msgspec.structs.replace(batch, people=people)), count) if count else (placed, 0)


def _is_suppressed(batch: Batch, until: datetime | None) -> bool:
    """A timestamp that replaced the device's own says nothing about the batch's age."""
    return until is not None and (batch.clock_skew is not None or batch.timestamp <= until)
