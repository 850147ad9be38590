"""Groups of messages: what the daemon's store writes, and what the loop tells of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from emotion_daemon.monitoring.group import Group
from emotion_daemon.rules.clock_fallback import ClockFallback, Clocks
from emotion_daemon.rules.fold import Folded, Heard, PersonKey, Report, fold
from emotion_daemon.rules.history import Minutes
from emotion_daemon.rules.listening import Listened
from emotion_daemon.rules.outcome import Rejected
from shared.batch import Batch


def group(people: dict[PersonKey, Report], devices: Mapping[str, datetime] | None = None) -> Folded:
    """A group that changes `people`, and gives `devices` these timestamps; it adds nothing to the history."""
    batches = {device_id: Batch(device_id, stamp, {}, stamp) for device_id, stamp in (devices or {}).items()}
    return Folded(
        people,
        batches,
        {device_id: Heard(batch, 0) for device_id, batch in batches.items()},
        Minutes(),
        [],
        changed_devices={device_id for device_id, _ in people},
        capped={},
        clocks=ClockFallback(Clocks(), datetime.now(UTC)),
        listened={device_id: Listened(batch.timestamp) for device_id, batch in batches.items()},
    )


def committed(
    *batches: Batch,
    statuses: int = 0,
    rejections: Sequence[Rejected] = (),
    capped: Mapping[str, float] | None = None,
    suppressed: int = 0,
    traffic: Sequence[tuple[str | None, int]] = (),
) -> Group:
    """Return the loop's report on a group of `batches`; `capped` are seconds by device, `suppressed` entries of people.

    `traffic` is the device and the size of each message, which need not be those of `batches`.
    """
    folded = fold(batches)._replace(capped=dict(capped or {}), suppressed=suppressed)
    return Group(batches, folded, statuses, rejections, omitted=0, seconds=0.001, traffic=traffic)


def rejection(topic: str, reason: str = "not UTF-8 JSON", *, device_id: str | None = None) -> Rejected:
    """A message that is not JSON."""
    return Rejected(topic, reason, b"", datetime(2025, 11, 14, tzinfo=UTC), kind="json", device_id=device_id)
