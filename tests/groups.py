"""What the daemon's store is given to write, without batches to fold."""

from collections.abc import Mapping
from datetime import datetime

from emotion_daemon.rules.fold import Folded, PersonKey, Report
from emotion_daemon.rules.history import Minutes
from shared.batch import Batch


def group(people: dict[PersonKey, Report], devices: Mapping[str, datetime] | None = None) -> Folded:
    """A group that changes `people`, and gives `devices` these stamps; it adds nothing to the history."""
    batches = {device_id: Batch(device_id, stamp, {}, stamp) for device_id, stamp in (devices or {}).items()}
    return Folded(people, batches, batches, Minutes(), [], stamped=True, cut={})
