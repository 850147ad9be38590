"""How the devices are doing, from what is stored of them. Ids of devices are named, those of people never."""

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
"""A device that was silent for so long has most likely been taken away: it is counted, and no warning."""

LATELY = timedelta(minutes=4)
"""Whose batch came within this has a clock that can be judged; the alert on it looks back as far."""

NAMED = 10
_NO_DEVICE = "no valid device id"


class Heard(NamedTuple):
    """When each device's newest batch arrived, and how many messages of each topic were rejected in the last hour.

    `skews` are seconds that the batch's stamp was ahead of the daemon's clock then.
    """

    arrivals: Mapping[str, datetime]
    rejected: Mapping[str, int]
    skews: Mapping[str, float]

    @property
    def newest(self) -> datetime | None:
        return max(self.arrivals.values(), default=None)


def read(connection: Connection, *, now: datetime) -> Heard:
    """From a database whose schema is the newest. Raises DBAPIError."""
    newest = select(device_state.c.device_id, device_state.c.received_at, device_state.c.clock_skew).where(
        device_state.c.received_at.is_not(None)
    )
    rejected = (
        select(rejected_message.c.topic, func.count())
        .where(rejected_message.c.received_at >= now - REJECTED_WITHIN)
        .group_by(rejected_message.c.topic)
    )
    states = connection.execute(newest).all()
    return Heard(
        {device_id: at for device_id, at, _ in states},
        {topic: count for topic, count in connection.execute(rejected)},
        {device_id: float(skew) for device_id, _, skew in states if skew is not None},
    )


def judge(heard: Heard, *, now: datetime, silent_after: float, topics: Topics, may_be_heard: bool) -> Iterator[Finding]:
    """`silent_after` is in seconds; `may_be_heard` is False where no daemon is subscribed, and all are silent."""
    if may_be_heard:
        yield _judge_silence(heard.arrivals, now=now, silent_after=silent_after)
    else:
        yield ok(SILENT, "not judged: no daemon is subscribed that would hear them")
    yield _judge_clocks(heard, now=now)
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


def _judge_silence(arrivals: Mapping[str, datetime], *, now: datetime, silent_after: float) -> Finding:
    silence = {device_id: now - at for device_id, at in arrivals.items()}
    gone = [device_id for device_id, lasts in silence.items() if lasts > GONE_AFTER]
    # What arrived in the future arrived under a wrong clock: since that was set right, nothing has.
    silent = [
        device_id
        for device_id, lasts in silence.items()
        if timedelta(seconds=silent_after) < lasts <= GONE_AFTER or lasts < -FUTURE
    ]
    long_gone = f"; silent for more than {GONE_AFTER.days} days: {len(gone)}" if gone else ""
    if silent:
        return warning(
            SILENT,
            f"{len(silent)} of {len(silence)} for more than {silent_after:g} s: {_named(silent)}{long_gone}",
            "Check power and network. "
            "If they send more rarely: raise EMOTION_SILENT_AFTER_SECONDS, for daemon and API. "
            "The broker's log says who connects and who is refused; "
            "the live page says since when they are silent.",
        )
    return ok(SILENT, f"0 of {len(silence)}{long_gone}")


def _judge_clocks(heard: Heard, *, now: datetime) -> Finding:
    """A batch that had waited looks like a clock that is behind: nothing but time tells the two apart."""
    most = MAX_CLOCK_SKEW.total_seconds()
    lately = {
        device_id: skew
        for device_id, skew in heard.skews.items()
        if device_id in heard.arrivals and -FUTURE < now - heard.arrivals[device_id] < LATELY
    }
    off = {device_id: skew for device_id, skew in lately.items() if abs(skew) > most}
    if not off:
        return ok(CLOCK, f"of {len(lately)} heard in the last {LATELY.seconds // 60} minutes none is off")
    named = _named(f"{device_id} by {skew:+,.0f} s" for device_id, skew in sorted(off.items()))
    found = f"{len(off)} of {len(lately)} are off: {named}"
    if 1 < len(off) == len(lately) and max(off.values()) - min(off.values()) <= most:
        return warning(
            CLOCK,
            f"{found}; all by the same, so most likely it is the clock of the daemon's machine",
            "Set that, and have NTP keep it: timedatectl set-ntp true. "
            "If what they sent had waited, as for a broker that was away, look again in a minute.",
        )
    return warning(
        CLOCK,
        found,
        "Set up time synchronisation on these devices; if their clocks are right, on the daemon's machine. "
        "If what they sent had waited, as for a network that was away, look again in a minute.",
    )


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
