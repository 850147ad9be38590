"""From the rows of all devices to the list of them, and how each is doing, as JSON. No I/O, no clock.

The structs are also the schema in the OpenAPI document.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec

from shared.batch import Topics
from shared.messages import DeviceInfo

DEVICES_A_PIECE = 500

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Status = Literal["online", "offline"]

_encode = msgspec.json.Encoder().encode
_decode_info = msgspec.json.Decoder(DeviceInfo).decode


@dataclass(frozen=True, slots=True)
class DevicesRequest:
    """The list of all devices, or of some."""

    only: frozenset[str] | None = None
    device_id: ClassVar[None] = None
    time_dependent: ClassVar[bool] = True  # a device that falls silent goes offline


class DeviceRow(NamedTuple):
    """A device as the database has it, times in aware UTC; None for what the daemon never received."""

    device_id: str
    device_name: str | None = None
    updated_at: datetime | None = None
    received_at: datetime | None = None
    people: int | None = None
    clock_skew: float | None = None
    clock_offset: float | None = None
    status: str | None = None
    status_at: datetime | None = None
    info: str | None = None


class Device(msgspec.Struct, frozen=True):
    """The state of one device."""

    device_id: str
    device_name: str
    online: Annotated[bool, msgspec.Meta(description="whether a batch came lately, and no offline status since")]
    status: Annotated[
        Literal["online", "offline"] | None, msgspec.Meta(description="the last message on its status topic")
    ]
    status_at: Annotated[Time | None, msgspec.Meta(description="UTC, when that message was received")]
    last_batch: Annotated[Time | None, msgspec.Meta(description="UTC, timestamp of its newest batch")]
    received_at: Annotated[Time | None, msgspec.Meta(description="UTC, when that batch was received")]
    people_now: Annotated[
        int, msgspec.Meta(ge=0, description="people in view in its newest batch; 0 if it is not online")
    ]
    clock_skew: Annotated[float | None, msgspec.Meta(description="seconds that its clock was ahead")]
    clock_offset: Annotated[
        float,
        msgspec.Meta(description="seconds that the daemon adds to its timestamps since its clock was set back, or 0"),
    ]
    rejected_last_hour: Annotated[int, msgspec.Meta(ge=0, description="its messages that were invalid")]
    info: Annotated[DeviceInfo | None, msgspec.Meta(description="what its program published about itself last")]


class Devices(msgspec.Struct, frozen=True):
    """All devices, in order of their ids."""

    silent_after: Annotated[
        float, msgspec.Meta(gt=0, description="seconds without a batch after which a device is not online")
    ]
    time_zone: Annotated[str, msgspec.Meta(description="the site's time zone, an IANA name")]
    devices: list[Device]


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The values that all devices share: the time, the settings, and the number of rejected messages of each topic.

    `only` are the ids of the devices to list, None for all.
    """

    now: datetime
    silent_after: float
    time_zone: str
    topics: Topics
    rejected: Mapping[str, int]
    only: frozenset[str] | None = None


def encode_devices(
    rows: Iterable[DeviceRow], circumstances: Circumstances, name_of: Callable[[str, str | None], str]
) -> Iterator[bytes]:
    """Devices as JSON, in pieces. `name_of` takes an id and the name in the database, and returns the name to show."""
    rejected = rejected_by_device(circumstances)
    ordered = iter(in_order(rows, rejected, circumstances.only))
    yield _encode(Devices(circumstances.silent_after, circumstances.time_zone, []))[:-2]
    comma = b""
    while piece := list(islice(ordered, DEVICES_A_PIECE)):
        names = [name_of(row.device_id, row.device_name) for row in piece]
        devices = [
            _device(row, name, circumstances, rejected.get(row.device_id, 0))
            for row, name in zip(piece, names, strict=True)
        ]
        yield comma + _encode(devices)[1:-1]
        comma = b","
    yield b"]}"


def is_online(row: DeviceRow, *, now: datetime, silent_after: float) -> bool:
    """Return True if a batch came in the last `silent_after` seconds, and no status `offline` since.

    A batch received in the future came before this machine's clock was set back: it counts as received now.
    """
    if row.received_at is None or (now - row.received_at).total_seconds() > silent_after:
        return False
    return row.status != "offline" or row.status_at is None or row.status_at < row.received_at


def in_order(
    rows: Iterable[DeviceRow], rejected: Collection[str], only: Collection[str] | None = None
) -> list[DeviceRow]:
    """All devices, or `only` some, in order of their ids, also those of `rejected` without a row.

    A device that sends only invalid messages is listed, too: an operator will search for its fault.
    """
    rows = list(rows)
    unheard = set(rejected) - {row.device_id for row in rows}
    listed = [row for row in (*rows, *map(DeviceRow, unheard)) if only is None or row.device_id in only]
    return sorted(listed, key=attrgetter("device_id"))


def rejected_by_device(circumstances: Circumstances) -> Mapping[str, int]:
    """Return the number of rejected messages of each device on its topics. Other topics belong to no device."""
    counts: Counter[str] = Counter()
    for topic, count in circumstances.rejected.items():
        device_id = circumstances.topics.owner(topic)
        if device_id is not None:
            counts[device_id] += count
    return counts


def _device(row: DeviceRow, name: str, circumstances: Circumstances, rejected: int) -> Device:
    online = is_online(row, now=circumstances.now, silent_after=circumstances.silent_after)
    return Device(
        row.device_id,
        name,
        online,
        status_of(row.status),
        row.status_at,
        row.updated_at,
        row.received_at,
        (row.people or 0) if online else 0,
        row.clock_skew,
        row.clock_offset or 0.0,
        rejected,
        None if row.info is None else _decode_info(row.info),
    )


def status_of(text: str | None) -> Status | None:
    """The status if it is one of those that the contract has."""
    return "online" if text == "online" else "offline" if text == "offline" else None
