"""What a group of batches changes: for each person the newest report, for each device the newest stamp. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from shared.batch import Batch, Cumulative

PersonKey = tuple[str, str]
"""(device id, person id)"""


class Report(NamedTuple):
    """What a device said last about one person; `last_seen` is the stamp of the batch that said it."""

    cumulative: Cumulative
    last_seen: datetime


class Folded(NamedTuple):
    """`people` and `devices` are what to write; `updated_counts` has, a batch, how many people it changed.

    The device of everybody in `people` is in `devices`.
    """

    people: dict[PersonKey, Report]
    devices: dict[str, datetime]
    updated_counts: list[int]


_NOBODY: Mapping[PersonKey, datetime] = MappingProxyType({})


def fold(batches: Iterable[Batch], known: Mapping[PersonKey, datetime] = _NOBODY) -> Folded:
    """Fold `batches`, in the order they arrived, over the stamps that are stored (`known`: person -> last_seen).

    A batch older than what is known about a person changes nothing for that person; one as old is applied again,
    which makes a message that comes twice harmless. A person missing from `known` counts as new: the store's own
    guard decides where somebody was left out, so only batches that asked for their count need `known` to be whole.
    """
    people: dict[PersonKey, Report] = {}
    devices: dict[str, datetime] = {}
    updated_counts = []
    for batch in batches:
        device_id, timestamp = batch.device_id, batch.timestamp
        if device_id not in devices or devices[device_id] < timestamp:
            devices[device_id] = timestamp
        updated = 0
        for person_id, cumulative in batch.people.items():
            key = (device_id, person_id)
            report = people.get(key)
            last_seen = known.get(key) if report is None else report.last_seen
            if last_seen is None or last_seen <= timestamp:
                people[key] = Report(cumulative, timestamp)
                updated += 1
        updated_counts.append(updated)
    return Folded(people, devices, updated_counts)
