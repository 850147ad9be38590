"""Decide which alerts begin and end: silent devices, thresholds of people and emotions, an outage. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal, NamedTuple

import msgspec

from shared.batch import DEVICE_ID, EMOTIONS

Measure = Literal["people", "happy", "sad", "angry", "neutral"]
Event = Literal["device_silent", "device_returned", "rule_began", "rule_ended", "outage_began", "outage_ended", "test"]

FORGOTTEN_AFTER = timedelta(days=1)
"""A device that was silent for longer when the daemon started begins no alert: it is not expected back."""

_MOST_PEOPLE = 1e9

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A threshold that begins an alert if a device is beyond it for `seconds`, and ends it after as long within it.

    `measure` is the number of people in view, or an emotion's share, 0 to 1, of what they showed in the last 10 s.
    Exactly one of `above` and `below` is given. Without `devices` the rule is about each device.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    measure: Measure
    above: float | None = None
    below: float | None = None
    seconds: _Seconds = 60.0
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise ValueError("a rule has either above or below")
        threshold = self.below if self.above is None else self.above
        if threshold is None or not 0 <= threshold <= (_MOST_PEOPLE if self.measure == "people" else 1):
            raise ValueError(
                "a threshold of people is a number from 0 on, and one of an emotion's share is from 0 to 1"
            )
        if wrong := [each for each in self.devices if not DEVICE_ID.fullmatch(each)]:
            raise ValueError(f"no device can have the id {wrong[0]!r}")

    def crossed_by(self, seen: "Seen") -> bool:
        """Return True if the device is beyond the threshold. A share needs some time of any emotion."""
        value = self.value(seen)
        if value is None:
            return False
        return value > self.above if self.above is not None else self.below is not None and value < self.below

    def value(self, seen: "Seen") -> float | None:
        """The number of people, or the share of the emotion; None if no emotion was shown."""
        if self.measure == "people":
            return float(seen.people)
        shown = sum(seen.seconds)
        return seen.seconds[EMOTIONS.index(self.measure)] / shown if shown else None


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of the file of rules. `silent_seconds` overrides EMOTION_SILENT_AFTER_SECONDS for alerts."""

    silent_seconds: _Seconds | None = None
    rule: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rule]
        if len(names) > len(set(names)):
            raise ValueError("two rules have the same name")


class Seen(NamedTuple):
    """The stored state of one device: `people` in view and `seconds` of each of EMOTIONS are those of its newest batch.

    `received_at` is when that batch was received.
    """

    device_id: str
    device_name: str
    received_at: datetime
    people: int
    seconds: Sequence[float]


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that the webhook receives, as JSON: `since` is when it began, `value` is the rule's measure."""

    event: Event
    text: str
    at: datetime
    since: datetime
    device_id: str | None = None
    device_name: str | None = None
    rule: str | None = None
    value: float | None = None


def parse_rules(text: str) -> Rules:
    """Parse the file of rules, which is TOML. Raises ValueError with the place of the error."""
    try:
        return msgspec.toml.decode(text, type=Rules)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


class Alerts:
    """The alerts that are on. They are not stored: after a restart of the daemon they begin again."""

    def __init__(self, rules: Rules, *, silent_after: float, started: datetime) -> None:
        self._rules = rules.rule
        self._stale_after = timedelta(seconds=silent_after)
        self._silent_after = timedelta(seconds=rules.silent_seconds or silent_after)
        self._started = started
        self._receiving_since = started
        self._outage_since: datetime | None = None
        self._outage_told = False
        self._silent: dict[str, Seen] = {}
        self._crossed: dict[tuple[str, str], tuple[Rule, Seen]] = {}
        self._changing: dict[tuple[str, str], datetime] = {}

    def look(self, seen: Iterable[Seen], *, now: datetime, outage: str | None = None) -> list[Alert]:
        """Return the alerts that begin or end. During an `outage`, a sentence, silence tells nothing about devices."""
        if outage is not None:
            return self._in_outage(outage, now)
        alerts = self._outage_over(now)
        devices = {each.device_id: each for each in seen}
        alerts += self._gone(devices, now)
        for each in devices.values():
            alerts += self._silence(each, now)
            alerts += self._thresholds(each, now)
        return alerts

    def _gone(self, devices: Mapping[str, "Seen"], now: datetime) -> list[Alert]:
        """End what is on for devices that were removed, or whose batches another daemon receives now."""
        silent = [each for device_id, each in self._silent.items() if device_id not in devices]
        crossed = [each for (_, device_id), each in self._crossed.items() if device_id not in devices]
        for each in silent:
            del self._silent[each.device_id]
        for rule, each in crossed:
            del self._crossed[rule.name, each.device_id]
        self._changing = {key: since for key, since in self._changing.items() if key[1] in devices}
        why = "this daemon receives its batches no longer"
        return [
            *(_of_device("device_returned", each, f"{_named(each)}: {why}", now=now) for each in silent),
            *(_of_rule(rule, each, why, now=now, since=now, ended=True) for rule, each in crossed),
        ]

    def _in_outage(self, outage: str, now: datetime) -> list[Alert]:
        if self._outage_since is None:
            self._outage_since = now
        if self._outage_told or now - self._outage_since < self._silent_after:
            return []
        self._outage_told = True
        return [
            Alert(event="outage_began", text=f"The daemon stores nothing: {outage}", at=now, since=self._outage_since)
        ]

    def _outage_over(self, now: datetime) -> list[Alert]:
        since, told = self._outage_since, self._outage_told
        if since is None:
            return []
        self._outage_since, self._outage_told, self._receiving_since = None, False, now
        text = f"The daemon stores batches again, after {_duration(now - since)}"
        return [Alert(event="outage_ended", text=text, at=now, since=since)] if told else []

    def _silence(self, seen: Seen, now: datetime) -> list[Alert]:
        device_id, received_at = seen.device_id, seen.received_at
        silent = self._silent.get(device_id)
        if silent is not None:
            if received_at == silent.received_at:
                return []
            del self._silent[device_id]
            text = f"{_named(seen)} is back, after {_duration(received_at - silent.received_at)}"
            return [_of_device("device_returned", silent, text, now=now)]
        if now - max(received_at, self._receiving_since) <= self._silent_after:
            return []
        self._silent[device_id] = seen
        if received_at < self._started - FORGOTTEN_AFTER:
            return []
        text = f"{_named(seen)} has sent no batch for {_duration(now - received_at)}"
        return [_of_device("device_silent", seen, text, now=now)]

    def _thresholds(self, seen: Seen, now: datetime) -> list[Alert]:
        alerts = []
        live = now - seen.received_at <= self._stale_after
        for rule in self._rules:
            if rule.devices and seen.device_id not in rule.devices:
                continue
            key = (rule.name, seen.device_id)
            was = key in self._crossed
            if (live and rule.crossed_by(seen)) == was:
                self._changing.pop(key, None)
                continue
            since = self._changing.setdefault(key, now)
            if (now - since).total_seconds() < rule.seconds:
                continue
            del self._changing[key]
            if was:
                del self._crossed[key]
            else:
                self._crossed[key] = rule, seen
            why = "" if live else "it sends no batch"
            alerts.append(_of_rule(rule, seen, why, now=now, since=since, ended=was))
        return alerts


def _of_device(event: Event, seen: Seen, text: str, *, now: datetime) -> Alert:
    return Alert(
        event=event,
        text=text,
        at=now,
        since=seen.received_at,
        device_id=seen.device_id,
        device_name=seen.device_name,
    )


def _of_rule(rule: Rule, seen: Seen, why: str, *, now: datetime, since: datetime, ended: bool) -> Alert:
    """`why` is the reason for the end if the measure is not: the measure is not known then."""
    value = None if why else rule.value(seen)
    if value is None:
        measured = why or "no emotion"
    else:
        measured = f"{value:.0f} people" if rule.measure == "people" else f"{value:.0%} {rule.measure}"
    return Alert(
        event="rule_ended" if ended else "rule_began",
        text=f"{rule.name}{' is over' if ended else ''} at {_named(seen)}: {measured}",
        at=now,
        since=since,
        device_id=seen.device_id,
        device_name=seen.device_name,
        rule=rule.name,
        value=value,
    )


def _named(seen: Seen) -> str:
    return seen.device_id if seen.device_name == seen.device_id else f"{seen.device_name} ({seen.device_id})"


def _duration(time: timedelta) -> str:
    seconds = max(0.0, time.total_seconds())
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
