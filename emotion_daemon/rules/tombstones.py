"""Who was erased and must not come back: tombstones, and what they leave out of a batch. Pure.

A tombstone does not have the person's id, only a digest of it that is keyed with a salt beside it. Whoever has the
database can try ids against that; nobody can read one from it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from shared.batch import Batch

KEPT_FOR = timedelta(days=30)
"""How long a tombstone stays after its `until`: so long may what it leaves out have waited with a broker."""

SALT_BYTES = 16

Forgotten = Mapping[str, Mapping[bytes, Mapping[bytes, datetime]]]
"""device id -> salt -> digest -> until. A device has one salt, unless somebody else has written tombstones."""


class Tombstone(NamedTuple):
    """One row: batches of the device stamped no later than `until` (aware UTC) leave the person out."""

    device_id: str
    salt: bytes
    digest: bytes
    until: datetime


def digest(person_id: str, salt: bytes) -> bytes:
    """What stands for `person_id` in a tombstone."""
    return blake2b(person_id.encode(), key=salt, digest_size=32).digest()


def by_device(tombstones: Iterable[Tombstone]) -> Forgotten:
    """The same, to be looked up in."""
    found: dict[str, dict[bytes, dict[bytes, datetime]]] = {}
    for device_id, salt, hashed, until in tombstones:
        found.setdefault(device_id, {}).setdefault(salt, {})[hashed] = until
    return found


def until_when(forgotten: Forgotten, device_id: str, person_id: str) -> datetime | None:
    """Up to which stamp the person is left out, or None: nobody of that id was erased."""
    ends = (ends.get(digest(person_id, salt)) for salt, ends in forgotten.get(device_id, {}).items())
    return max((end for end in ends if end is not None), default=None)


def leave_out(batches: Iterable[Batch], forgotten: Forgotten) -> tuple[list[Batch], int]:
    """The batches without the entries of people who were erased, and how many entries that were."""
    remaining = []
    left_out = 0
    for batch in batches:
        if batch.device_id in forgotten:
            people = {
                person_id: cumulative
                for person_id, cumulative in batch.people.items()
                if not _is_left_out(batch, until_when(forgotten, batch.device_id, person_id))
            }
            if len(people) < len(batch.people):
                left_out += len(batch.people) - len(people)
                batch = msgspec.structs.replace(batch, people=people)
        remaining.append(batch)
    return remaining, left_out


def _is_left_out(batch: Batch, until: datetime | None) -> bool:
    """A stamp that was put in the place of the device's own says nothing of how old the batch is."""
    return until is not None and (batch.clock_skew is not None or batch.moved or batch.timestamp <= until)
