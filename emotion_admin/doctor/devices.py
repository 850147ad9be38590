"""Check the devices by their stored state. Findings name devices, but never people."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from emotion_admin.doctor.finding import Finding, ok, warning
from shared.batch import MAX_CLOCK_SKEW, Topics
from shared.schema import device_state, rejected_message

SILENT = "devices silent"
CLOCK = "devices clock"
REJECTED = "devices rejected"
LOGINS = "devices logins"
REJECTED_WITHIN = timedelta(hours=1)
GONE_AFTER = timedelta(days=7)
"""A device that is silent for longer was most likely removed: doctor counts it without a warning."""

RECENT = timedelta(minutes=4)
"""doctor judges the clock of a device whose batch is as recent as this; the alert looks back as far."""

FUTURE = timedelta(minutes=1)
NAMED = 10
_NO_DEVICE = "no valid device id"


class DeviceStates(NamedTuple):
    """Time of receipt of each device's newest batch, and the number of messages rejected in the last hour by topic.

    `skews` are the seconds that the batch's timestamp was ahead of the daemon's clock. `set_back` are the devices whose
    clock was set back.
    """

    received_at: Mapping[str, datetime]
    rejected: Mapping[str, int]
    skews: Mapping[str, float]
    set_back: Collection[str] = ()


def read(connection: Connection, *, now: datetime) -> DeviceStates:
    """Read a database with the newest schema. Raises DBAPIError."""
    state = device_state.c
    newest = select(state.device_id, state.received_at, state.clock_skew, state.clock_offset).where(
        state.received_at.is_not(None)
    )
    rejected = (
        select(rejected_message.c.topic, func.count())
        .where(rejected_message.c.received_at >= now - REJECTED_WITHIN)
        .group_by(rejected_message.c.topic)
    )
    states = connection.execute(newest).all()
    return DeviceStates(
        {device_id: at for device_id, at, _, _ in states},
        {topic: count for topic, count in connection.execute(rejected)},
        {device_id: float(skew) for device_id, _, skew, _ in states if skew is not None},
        {device_id for device_id, _, _, offset in states if offset},
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
            "See the reasons: scripts/dead-letters list. Then see docs/operate/dead-letters.md#find-the-cause.",
        )
    else:
        yield ok(REJECTED, "none in the last hour")


def judge_logins(states: DeviceStates, logins: Collection[str] | None, *, now: datetime) -> Iterator[Finding]:
    """Compare the devices that were heard with those that have a login; None if the logins cannot be read."""
    if logins is None:
        yield ok(LOGINS, "not compared with the devices: the logins cannot be read")
        return
    heard = {device_id for device_id, at in states.received_at.items() if now - at <= GONE_AFTER}
    if without := sorted(heard - set(logins)):
        yield warning(
            LOGINS,
            f"{len(without)} sent batches within {GONE_AFTER.days} days, but have no login now: {_named(without)}",
            "The broker refuses them. To let one send again: scripts/device add ID.",
        )
    if unheard := sorted(set(logins) - states.received_at.keys()):
        yield warning(
            LOGINS,
            f"{len(unheard)} have a login, but no batch of them has ever arrived: {_named(unheard)}",
            "If one should send already: the broker's log says whether it connects, and which login it refuses. To end "
            "a login that you do not need: scripts/device remove ID.",
        )
    if not without and not unheard:
        yield ok(LOGINS, f"devices with a login: {len(logins)}; all have sent batches")


def logins_of_another_broker(host: str) -> Finding:
    """Say that the logins of scripts/device are not those of the daemon's broker."""
    return ok(
        LOGINS, f"not compared with the devices: they log in to {host}, and scripts/device knows only its own broker"
    )


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
    if all(_by_half_hours(skew) for skew in off.values()) and off.keys().isdisjoint(states.set_back):
        return warning(
            CLOCK,
            f"{found}. These are whole half hours, so most likely they send local time without an offset",
            f"Let their programs send UTC with a Z, or add the offset to each timestamp. {queued}",
        )
    return warning(
        CLOCK,
        found,
        f"Set up NTP on these devices; if their clocks are right, on the daemon's machine. {queued}",
    )


def _by_half_hours(skew: float) -> bool:
    """Return True if a clock is off by as much as a time zone may be."""
    return abs(skew) < 15 * 3600 and abs(skew - round(skew / 1800) * 1800) <= MAX_CLOCK_SKEW.total_seconds()


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
