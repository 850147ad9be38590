"""How the devices are doing, by what is stored of them. Findings name devices, but never people."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from emotion_admin.doctor.clock import FUTURE
from emotion_admin.doctor.finding import Finding, ok, warning
from shared.batch import MAX_CLOCK_SKEW, Topics
from shared.schema import device_state, rejected_message

SILENT = "devices silent"
CLOCK = "devices clock"
REJECTED = "devices rejected"
REJECTED_WITHIN = timedelta(hours=1)
GONE_AFTER = timedelta(days=7)
"""A device that is silent for longer was most likely removed: doctor counts it without a warning."""

RECENT = timedelta(minutes=4)
"""doctor judges the clock of a device whose batch is as recent as this; the alert looks back as far."""

NAMED = 10
_NO_DEVICE = "no valid device id"


class DeviceStates(NamedTuple):
    """When each device's newest batch was received, and how many messages of each topic were rejected in the last hour.

    `skews` are the seconds that the batch's timestamp was ahead of the daemon's clock.
    """

    received_at: Mapping[str, datetime]
    rejected: Mapping[str, int]
    skews: Mapping[str, float]


def read(connection: Connection, *, now: datetime) -> DeviceStates:
    """Read a database with the newest schema. Raises DBAPIError."""
    newest = select(device_state.c.device_id, device_state.c.received_at, device_state.c.clock_skew).where(
        device_state.c.received_at.is_not(None)
    )
    rejected = (
        select(rejected_message.c.topic, func.count())
        .where(rejected_message.c.received_at >= now - REJECTED_WITHIN)
        .group_by(rejected_message.c.topic)
    )
    states = connection.execute(newest).all()
    return DeviceStates(
        {device_id: at for device_id, at, _ in states},
        {topic: count for topic, count in connection.execute(rejected)},
        {device_id: float(skew) for device_id, _, skew in states if skew is not None},
    )


def judge(
    states: DeviceStates, *, now: datetime, silent_after: float, topics: Topics, may_be_heard: bool
) -> Iterator[Finding]:
    """Judge all devices. `silent_after` is in seconds; `may_be_heard` is False if no daemon is subscribed."""
    if may_be_heard:
        yield _judge_silence(states.received_at, now=now, silent_after=silent_after)
    else:
        yield ok(SILENT, "not judged: no daemon is subscribed that would hear them")
    yield _judge_clocks(states, now=now)
    rejected = _by_device(states.rejected, topics)
    if rejected:
        counts = [f"{device_id} {count}" for device_id, count in rejected.most_common()]
        yield warning(
            REJECTED,
            f"invalid messages in the last hour: {_named(counts)}",
            "See the reasons: python -m emotion_admin dead-letters list.",
        )
    else:
        yield ok(REJECTED, "none in the last hour")


def _judge_silence(received_at: Mapping[str, datetime], *, now: datetime, silent_after: float) -> Finding:
    silence = {device_id: now - at for device_id, at in received_at.items()}
    gone = sum(lasts > GONE_AFTER for lasts in silence.values())
    # A batch received in the future was received under a wrong clock. Since that was corrected, none has come.
    silent = [
        device_id
        for device_id, lasts in silence.items()
        if timedelta(seconds=silent_after) < lasts <= GONE_AFTER or lasts < -FUTURE
    ]
    long_gone = f"; silent for more than {GONE_AFTER.days} days: {gone}" if gone else ""
    if silent:
        return warning(
            SILENT,
            f"{len(silent)} of {len(silence)} for more than {silent_after:g} s: {_named(silent)}{long_gone}",
            "Check power and network. The broker's log says which clients connect and which it refuses; the live page "
            "says since when devices are silent. If they send more rarely, raise EMOTION_SILENT_AFTER_SECONDS for "
            "daemon and API.",
        )
    return ok(SILENT, f"0 of {len(silence)}{long_gone}")


def _judge_clocks(states: DeviceStates, *, now: datetime) -> Finding:
    """A queued batch looks like a clock that is behind: only time tells the two apart."""
    most = MAX_CLOCK_SKEW.total_seconds()
    recent = {
        device_id: skew
        for device_id, skew in states.skews.items()
        if device_id in states.received_at and -FUTURE < now - states.received_at[device_id] < RECENT
    }
    off = {device_id: skew for device_id, skew in recent.items() if abs(skew) > most}
    if not off:
        return ok(CLOCK, f"of {len(recent)} heard in the last {RECENT.seconds // 60} minutes none is off")
    named = _named(f"{device_id} by {skew:+,.0f} s" for device_id, skew in sorted(off.items()))
    found = f"{len(off)} of {len(recent)} are off: {named}"
    queued = "If their batches were queued during an outage, run doctor again in a minute."
    if 1 < len(off) == len(recent) and max(off.values()) - min(off.values()) <= most:
        return warning(
            CLOCK,
            f"{found}. All differ by the same, so most likely the clock of the daemon's machine is wrong",
            f"Set that clock, and turn on NTP: timedatectl set-ntp true. {queued}",
        )
    return warning(
        CLOCK,
        found,
        f"Set up NTP on these devices; if their clocks are right, on the daemon's machine. {queued}",
    )


def _named(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _by_device(rejected: Mapping[str, int], topics: Topics) -> Counter[str]:
    """Count by device: the level of a topic can be any text, so only valid ids are shown."""
    counts: Counter[str] = Counter()
    for topic, count in rejected.items():
        counts[topics.owner(topic) or _NO_DEVICE] += count
    return counts
