"""How the devices are doing, from what is stored of them. Ids of devices are named, those of people never."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from emotion_daemon.doctor.clock import FUTURE
from emotion_daemon.doctor.finding import Finding, ok, warning
from shared.batch import Topics
from shared.schema import device_state, rejected_message

SILENT = "devices silent"
REJECTED = "devices rejected"
REJECTED_WITHIN = timedelta(hours=1)
GONE_AFTER = timedelta(days=7)
"""A device that was silent for so long has most likely been taken away: it is counted, and no warning."""

NAMED = 10
_NO_DEVICE = "no valid device id"


class Heard(NamedTuple):
    """When each device's newest batch arrived, and how many messages of each topic were rejected in the last hour."""

    arrivals: Mapping[str, datetime]
    rejected: Mapping[str, int]

    @property
    def newest(self) -> datetime | None:
        return max(self.arrivals.values(), default=None)


def read(connection: Connection, *, now: datetime) -> Heard:
    """From a database whose schema is the newest. Raises DBAPIError."""
    arrivals = select(device_state.c.device_id, device_state.c.received_at).where(
        device_state.c.received_at.is_not(None)
    )
    rejected = (
        select(rejected_message.c.topic, func.count())
        .where(rejected_message.c.received_at >= now - REJECTED_WITHIN)
        .group_by(rejected_message.c.topic)
    )
    return Heard(
        {device_id: at for device_id, at in connection.execute(arrivals)},
        {topic: count for topic, count in connection.execute(rejected)},
    )


def judge(heard: Heard, *, now: datetime, silent_after: float, topics: Topics) -> Iterator[Finding]:
    """`silent_after` is in seconds."""
    silence = {device_id: now - at for device_id, at in heard.arrivals.items()}
    gone = [device_id for device_id, lasts in silence.items() if lasts > GONE_AFTER]
    # What arrived in the future arrived under a wrong clock: since that was set right, nothing has.
    silent = [
        device_id
        for device_id, lasts in silence.items()
        if timedelta(seconds=silent_after) < lasts <= GONE_AFTER or lasts < -FUTURE
    ]
    long_gone = f"; silent for more than {GONE_AFTER.days} days: {len(gone)}" if gone else ""
    if silent:
        yield warning(
            SILENT,
            f"{len(silent)} of {len(silence)} for more than {silent_after:g} s: {_named(silent)}{long_gone}",
            "Have they power and network? The broker's log says who connects and who is refused; the live "
            "page says since "
            "when they are silent.",
        )
    else:
        yield ok(SILENT, f"0 of {len(silence)}{long_gone}")
    rejected = _of_devices(heard.rejected, topics)
    if rejected:
        counts = [f"{device_id} {count}" for device_id, count in rejected.most_common()]
        yield warning(
            REJECTED,
            f"messages that were no valid batch or status, in the last hour: {_named(counts)}",
            "The daemon's command `rejected` shows them with the reason: README.md, Messages that were no valid batch.",
        )
    else:
        yield ok(REJECTED, "none in the last hour")


def _named(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _of_devices(rejected: Mapping[str, int], topics: Topics) -> Counter[str]:
    """A topic's level can be anything that somebody has published to: only valid ids are shown."""
    counts: Counter[str] = Counter()
    for topic, count in rejected.items():
        counts[topics.owner(topic) or _NO_DEVICE] += count
    return counts
