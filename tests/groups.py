"""Groups of messages: what the daemon's store writes, and what the loop tells of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from emotion_daemon.monitoring.group import Group
from emotion_daemon.rules.fold import Folded, PersonKey, Report, fold
from emotion_daemon.rules.history import Minutes
from emotion_daemon.rules.outcome import Rejected
from shared.batch import Batch


def group(people: dict[PersonKey, Report], devices: Mapping[str, datetime] | None = None) -> Folded:
    """A group that changes `people`, and gives `devices` these stamps; it adds nothing to the history."""
    batches = {device_id: Batch(device_id, stamp, {}, stamp) for device_id, stamp in (devices or {}).items()}
    return Folded(
        people, batches, batches, Minutes(), [], changed_devices={device_id for device_id, _ in people}, capped={}
    )


def committed(
    *batches: Batch,
    statuses: int = 0,
    rejections: Sequence[Rejected] = (),
    capped: Mapping[str, float] | None = None,
    suppressed: int = 0,
) -> Group:
    """What the loop tells of a group of `batches`; `capped` are seconds by device, `suppressed` entries of people."""
    folded = fold(batches)._replace(capped=dict(capped or {}), suppressed=suppressed)
    return Group(batches, folded, statuses, rejections, seconds=0.001)


def rejection(topic: str, reason: str = "not UTF-8 JSON", *, device_id: str | None = None) -> Rejected:
    """A message that is not JSON."""
    return Rejected(topic, reason, b"", datetime(2025, 11, 14, tzinfo=UTC), kind="json", device_id=device_id)
