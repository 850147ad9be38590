"""What a group of batches changes: people, devices, and the history. Pure."""

from collections import ChainMap
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from emotion_daemon.rules.history import LONGEST_GAP, SLACK, Minutes, increment
from emotion_daemon.rules.tombstones import Forgotten, leave_out
from shared.batch import Batch, Cumulative

PersonKey = tuple[str, str]
"""(device id, person id)"""


class Report(msgspec.Struct, frozen=True, gc=False):
    """What a device said last about one person; `last_seen` is the stamp of the batch that said it.

    `spare` are the seconds that may still be made up for: see `history.SLACK`. Nobody stores them.
    """

    cumulative: Cumulative
    last_seen: datetime
    spare: float = 0.0


class Known(NamedTuple):
    """What is stored of the people and devices that a group is about; `devices` have their newest stamps.

    `forgotten` are those who were erased: of them nothing comes in.
    """

    people: Mapping[PersonKey, Report] = MappingProxyType({})
    devices: Mapping[str, datetime] = MappingProxyType({})
    forgotten: Forgotten = MappingProxyType({})


class Folded(NamedTuple):
    """`people`, `devices` (each one's newest batch) and `minutes` are what to write.

    `heard` has the last batch that arrived of each device, late or not, but for those that are stored already.
    `updated_counts` has, a batch, how many people it changed. `stamped` says that every device in the group has another
    newest stamp now. `cut` are the seconds, a device, that cannot have been shown; those of a device of which nothing
    was known before are not counted. `left_out` entries were about people who were erased.
    """

    people: dict[PersonKey, Report]
    devices: dict[str, Batch]
    heard: dict[str, Batch]
    minutes: Minutes
    updated_counts: list[int]
    stamped: bool
    cut: dict[str, float]
    left_out: int = 0


_NOTHING_KNOWN = Known()
_NO_TIME = Cumulative()


def fold(batches: Iterable[Batch], known: Known = _NOTHING_KNOWN) -> Folded:
    """Fold `batches`, in the order they arrived, over what is `known`: whoever is missing there counts as new.

    A batch older than what is known about a person changes nothing for that person; one as old is applied again, and
    adds nothing to the history where it says the same: a message may come twice.
    """
    left_out = 0
    if known.forgotten:
        batches, left_out = leave_out(batches, known.forgotten)
    people: dict[PersonKey, Report] = {}
    devices: dict[str, Batch] = {}
    heard: dict[str, Batch] = {}
    minutes = Minutes()
    updated_counts = []
    late = False
    cut: dict[str, float] = {}
    changed, stored = people.get, known.people.get
    for batch in batches:
        device_id, stamp = batch.device_id, batch.timestamp
        newest = devices.get(device_id)
        previous = known.devices.get(device_id) if newest is None else newest.timestamp
        if batch.received_at is not None and known.devices.get(device_id) != stamp:
            heard[device_id] = batch
        since, gap = stamp, 0.0
        if previous is not None and previous > stamp:
            late = True
        else:
            devices[device_id] = batch
            if previous is not None:
                since, gap = previous, min((stamp - previous).total_seconds(), LONGEST_GAP)
        longest = gap + SLACK
        updated = 0
        happy = sad = angry = neutral = beyond = 0.0
        for person_id, cumulative in batch.people.items():
            key = (device_id, person_id)
            report = changed(key) or stored(key)
            if report is None:
                # Nobody knows since when: at most since the batch before, which did not have this person.
                before, allowed = _NO_TIME, gap
            else:
                before, allowed = report.cumulative, report.spare
                if report.last_seen is since:  # in the batch before: what most are spares them a subtraction
                    allowed += gap
                elif report.last_seen <= stamp:
                    allowed += (stamp - report.last_seen).total_seconds()
                else:
                    continue
                if allowed > longest:
                    allowed = longest
            more_happy, more_sad, more_angry, more_neutral, spare, cut_off = increment(cumulative, before, allowed)
            people[key] = Report(cumulative, stamp, spare)
            happy += more_happy
            sad += more_sad
            angry += more_angry
            neutral += more_neutral
            beyond += cut_off
            updated += 1
        updated_counts.append(updated)
        if updated:
            minutes.add(device_id, since, stamp, (happy, sad, angry, neutral), len(batch.people))
        if beyond and previous is not None:
            cut[device_id] = cut.get(device_id, 0.0) + beyond
    stamped = not late and all(batch.timestamp != known.devices.get(each) for each, batch in devices.items())
    return Folded(people, devices, heard, minutes, updated_counts, stamped, cut, left_out)


def fold_newer(batches: Iterable[Batch], known: Known = _NOTHING_KNOWN) -> Folded:
    """As `fold`, but a batch that is not newer than its device's newest adds nothing: for whoever stores no people.

    There only the device's stamp tells that a batch was counted already: it came twice, or another daemon on the same
    database was faster. What that one counted of a person is then known here, too, as far as it was not known better.
    """
    batches, left_out = leave_out(batches, known.forgotten)
    known = known._replace(forgotten=_NOTHING_KNOWN.forgotten)
    newest: dict[str, datetime] = {}
    counted_elsewhere: dict[PersonKey, Report] = {}
    folded_batches = []
    for batch in batches:
        device_id, stamp = batch.device_id, batch.timestamp
        before = newest.get(device_id) or known.devices.get(device_id)
        if before is None or stamp > before:
            newest[device_id] = stamp
            folded_batches.append(batch)
            continue
        folded_batches.append(msgspec.structs.replace(batch, people={}))
        if device_id in newest:  # it came late, and of its people the batch before knows more
            continue
        for person_id, cumulative in batch.people.items():
            key = (device_id, person_id)
            report = counted_elsewhere.get(key) or known.people.get(key)
            if report is None or report.last_seen < stamp:
                counted_elsewhere[key] = Report(cumulative, stamp)
    if counted_elsewhere:
        known = known._replace(people=ChainMap(counted_elsewhere, known.people))  # type: ignore[arg-type]
    folded = fold(folded_batches, known)
    whole = {id(emptied): batch for emptied, batch in zip(folded_batches, batches, strict=True)}
    heard = {device_id: whole[id(batch)] for device_id, batch in folded.heard.items()}
    return folded._replace(people=counted_elsewhere | folded.people, heard=heard, left_out=left_out)
