"""The payload that a device publishes, its rules, and the topics it travels on. No I/O, no clock.

    {"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z",
     "people": [{"person_id": "1", "cumulative": {"happy": 123.5, "sad": 20.0, "angry": 10.0}}]}

`decode` refuses everything that a database would refuse later: a message that fails behind this door would come
back from the broker for ever and take its neighbours with it.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec

EMOTIONS = ("happy", "sad", "angry", "neutral")
"""The emotions that are stored, in the order that settles a tie."""

MAX_CLOCK_SKEW = timedelta(seconds=60)
"""Most time by which a device's clock may run ahead of the receiver's. A later timestamp is replaced."""

EARLIEST_TIMESTAMP = datetime(2020, 1, 1, tzinfo=UTC)
"""No device reported before this: an earlier timestamp comes from a clock without a battery, which starts in 1970."""

DEVICE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
MAX_PERSON_ID = 128

MAX_PEOPLE = 100_000
"""The most people that one batch may report: far more than a camera sees, and 60 MB while they are written."""

_BEGINNING_OF_TIME = datetime.min.replace(tzinfo=UTC)
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_ISO_8601 = re.compile(r"[0-9W-]+([Tt ][0-9:.,]+([Zz]|[+-][0-9:.,]+)?)?")  # fromisoformat takes any character for the T
_PLACE = re.compile(r"` - at `(\$(?:\.people|\[\.\.\.\]|\[[0-9]+\]|\.cumulative)*)`$")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_MONTH_DAY, _WEEK = r"(0[1-9]|1[0-2]){0}(0[1-9]|[12][0-9]|3[01])", r"W(0[1-9]|[1-4][0-9]|5[0-3])"
_DATE = rf"[0-9]{{4}}(-{_MONTH_DAY.format('-')}|{_MONTH_DAY.format('')}|-{_WEEK}(-[1-7])?|{_WEEK}[1-7]?)"
_TIME = r"([01][0-9]|2[0-3])(:[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)?|[0-5][0-9]([0-5][0-9]([.,][0-9]+)?)?)?"
_LEAP_SECOND = rf"[0-9]{{4}}-{_MONTH_DAY.format('-')}[Tt ]23:59:60([.,][0-9]+)?[Zz]?"
_TIMESTAMP_PATTERN = rf"^({_DATE}([Tt ]{_TIME}([Zz]|[+-]{_TIME})?)?|{_LEAP_SECOND})$"
"""For the schema alone. All that it takes `utc` takes, save for days that are in no calendar, like 2025-02-30."""

# extra_json_schema only goes into the schema: its rules are checked in `decode`.
Seconds = Annotated[
    float, msgspec.Meta(ge=0, description="seconds so far", extra_json_schema={"maximum": sys.float_info.max})
]


InvalidPart = Literal[
    "json", "batch", "device_id", "topic", "timestamp", "person_id", "status", "info", "retained", "database"
]
"""The part of a message that is invalid. `database`: the message is a batch, and the database refused it."""


class DecodeError(ValueError):
    """Raised when a message is not a valid batch. The text tells the device's developer the fault.

    It is logged, answered and stored, and may not name a person: it quotes no value of the payload.
    """

    def __init__(self, text: str, kind: InvalidPart = "batch") -> None:
        super().__init__(text)
        self.kind = kind


class Cumulative(msgspec.Struct, frozen=True, gc=False):
    """Seconds that one person has shown each emotion since the device first saw them; a missing emotion is 0."""

    happy: Seconds = 0.0
    sad: Seconds = 0.0
    angry: Seconds = 0.0
    neutral: Seconds = 0.0


class Batch(msgspec.Struct, frozen=True, gc=False):
    """One valid message of one device.

    `timestamp` is aware UTC, already replaced by `received_at` if the device's clock cannot be right
    (`clock_skew` then holds device time less receive time, else None). `people` maps person id to cumulative
    seconds; a person named twice has the last entry. `ignored` is the place of the first unknown field or emotion,
    if any, like $.people[...]: its name may be a person's.
    `received_at` is None if the message is no new one: the broker sent it before, or had retained it. `is_local` says
    that the timestamp came without an offset.
    """

    device_id: str
    timestamp: datetime
    people: dict[str, Cumulative]
    received_at: datetime | None
    clock_skew: timedelta | None = None
    ignored: str | None = None
    is_local: bool = False


class _Person(msgspec.Struct, frozen=True, gc=False):
    """One person in view. If a person is named twice, as text and as a number too, the last entry counts."""

    person_id: Annotated[
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=MAX_PERSON_ID,
                description="text without control characters",
                extra_json_schema={"not": {"pattern": _CONTROL_CHARACTER.pattern}},
            ),
        ]
        | Annotated[
            int,
            msgspec.Meta(
                description=f"stored as text, which has at most {MAX_PERSON_ID} characters",
                extra_json_schema={
                    "exclusiveMinimum": -(10.0 ** (MAX_PERSON_ID - 1)),
                    "exclusiveMaximum": 10.0**MAX_PERSON_ID,
                },
            ),
        ],
        msgspec.Meta(description="the device's id of the person", examples=["1", 17]),
    ]
    cumulative: Cumulative


class _Payload(msgspec.Struct, frozen=True, gc=False):
    """The people in view of one device, and the seconds for which each has shown each emotion so far.

    JSON in UTF-8, without a byte order mark. Fields that are not named here are ignored, at every level.
    """

    device_id: Annotated[
        str,
        msgspec.Meta(
            description="the device, as in the topic that the batch is published on",
            examples=["jetson_1"],
            extra_json_schema={"pattern": f"^{DEVICE_ID.pattern}$"},
        ),
    ]
    timestamp: Annotated[
        str,
        msgspec.Meta(
            description=(
                "when the people were seen: ISO 8601, without an offset UTC. A time more than "
                f"{MAX_CLOCK_SKEW.total_seconds():.0f} s ahead of the receiver's clock, or before "
                f"{EARLIEST_TIMESTAMP.year}, is replaced by the time at which the batch arrives"
            ),
            examples=["2025-11-14T12:34:56Z", "2025-11-14T18:04:56.250+05:30"],
            extra_json_schema={"pattern": _TIMESTAMP_PATTERN},
        ),
    ]
    people: Annotated[
        list[_Person], msgspec.Meta(max_length=MAX_PEOPLE, description="everyone in view; empty if no person is")
    ]


# The same without room for anything else. Tried first: what a newer device adds can be named that way, and a payload
# without additions is read in a single pass.
class _StrictCumulative(Cumulative, frozen=True, gc=False, forbid_unknown_fields=True):
    pass


class _StrictPerson(_Person, frozen=True, gc=False, forbid_unknown_fields=True):
    cumulative: _StrictCumulative


class _StrictPayload(_Payload, frozen=True, gc=False, forbid_unknown_fields=True):
    people: Annotated[list[_StrictPerson], msgspec.Meta(max_length=MAX_PEOPLE)]  # type: ignore[assignment]


_strict = msgspec.json.Decoder(_StrictPayload)
_lenient = msgspec.json.Decoder(_Payload)
_encoder = msgspec.json.Encoder()


def decode(payload: bytes, *, device_id: str, received_at: datetime) -> Batch:
    """Read one payload that arrived on the topic of `device_id` at `received_at` (aware UTC).

    Raises DecodeError, and nothing else, for whatever is not a valid batch.
    """
    if not payload:
        raise DecodeError("the payload is empty: a batch is a JSON object", "json")
    ignored = None
    try:
        wire: _Payload = _strict.decode(payload)
    except msgspec.ValidationError as error:
        if "unknown field" not in str(error):
            raise _invalid(error) from error
        ignored = _place(error)
        wire = _decode_lenient(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not UTF-8 JSON: {error}", "json") from error

    if wire.device_id != device_id:
        raise DecodeError(f"device_id is not the topic's {device_id!r}", "device_id")
    timestamp, skew = _timestamp(wire.timestamp, received_at)
    people = {_person_id(person.person_id): person.cumulative for person in wire.people}
    return Batch(device_id, timestamp, people, received_at, skew, ignored, _is_local(wire.timestamp))


def payload_schema() -> dict[str, Any]:
    """JSON Schema of what `decode` reads, as msgspec makes it of the structs that `decode` uses."""
    return msgspec.json.schema(_Payload)


def encode(device_id: str, timestamp: datetime, people: Mapping[str, Mapping[str, float]]) -> bytes:
    """Write the payload that `decode` reads: `people` maps person id to seconds per emotion.

    Nothing is checked here but the offset: raises ValueError if `timestamp` is not aware.
    """
    if timestamp.tzinfo is None:
        raise ValueError("timestamp needs a time zone: use datetime.now(UTC)")
    stamp = timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")
    listed = [{"person_id": person_id, "cumulative": seconds} for person_id, seconds in people.items()]
    return _encoder.encode({"device_id": device_id, "timestamp": stamp, "people": listed})


def is_person_id(text: str) -> bool:
    """Return True if a batch may have a person of this id."""
    if not 1 <= len(text) <= MAX_PERSON_ID or _CONTROL_CHARACTER.search(text):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)  # half of a pair: not to be encoded


def is_topic_prefix(text: str) -> bool:
    """Return True if topics may begin so: no level is empty, none has a + or #, and the first begins with no $."""
    return all(text.split("/")) and not text.startswith("$") and not any(c in "+#" or not c.isprintable() for c in text)


def utc(text: str, zone: tzinfo = UTC) -> datetime:
    """A time in ISO 8601 or RFC 3339, without an offset in `zone`, as aware UTC. A leap second is the next day's first.

    Raises ValueError for other text, OverflowError if the offset leads out of the calendar.
    """
    if not _ISO_8601.fullmatch(text):
        raise ValueError(text)
    is_leap_second = text[16:19] == ":60"  # RFC 3339 has 23:59:60 in UTC; datetime does not
    if is_leap_second:
        text = f"{text[:17]}59{text[19:]}"
    time = datetime.fromisoformat(text.replace("z", "Z"))
    time = (time.replace(tzinfo=zone) if time.tzinfo is None else time).astimezone(UTC)
    if not is_leap_second:
        return time
    if (time.hour, time.minute) != (23, 59):
        raise ValueError(text)
    return time + _SECOND


def _decode_lenient(payload: bytes) -> _Payload:
    try:
        payload.decode()  # what msgspec skips it does not look at, and the payload is UTF-8 as a whole
        return _lenient.decode(payload)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not UTF-8 JSON: {error}", "json") from error


def _place(error: msgspec.ValidationError) -> str:
    """Return the place in the payload: "Object contains unknown field `joy` - at `$.people[...].cumulative`"."""
    found = _PLACE.search(str(error))
    return found[1] if found else "$"


def _invalid(error: msgspec.ValidationError) -> DecodeError:
    """Return msgspec's message. It names fields and types, no values, and ends with the place of the fault."""
    field = str(error).rpartition(".")[2].rstrip("`")
    parts: dict[str, InvalidPart] = {"device_id": "device_id", "timestamp": "timestamp", "person_id": "person_id"}
    return DecodeError(str(error), parts.get(field, "batch"))


def _timestamp(text: str, received_at: datetime) -> tuple[datetime, timedelta | None]:
    """Return the batch's timestamp in UTC, and how far the device's clock is off if the time of receipt replaced it."""
    try:
        stamp = utc(text)
    except ValueError as error:
        raise DecodeError("timestamp is not ISO 8601, like 2025-11-14T12:34:56Z", "timestamp") from error
    except OverflowError:  # the year 1 or 9999, with an offset that leads out of the calendar
        stamp = _END_OF_TIME if text.startswith("9") else _BEGINNING_OF_TIME
    if EARLIEST_TIMESTAMP <= stamp <= received_at + MAX_CLOCK_SKEW:
        return stamp, None
    return received_at, stamp - received_at


def _is_local(text: str) -> bool:
    """Return True if a valid timestamp has no offset. A date has its last hyphen among the first ten characters."""
    return text[-1] not in "Zz" and "+" not in text and text.rfind("-") < 10


def _person_id(value: str | int) -> str:
    if isinstance(value, int):
        value = str(value)
        if len(value) > MAX_PERSON_ID:
            raise DecodeError(f"person_id has {len(value)} digits, more than {MAX_PERSON_ID}", "person_id")
    elif not value.isprintable() and _CONTROL_CHARACTER.search(value):
        raise DecodeError("person_id has a control character", "person_id")
    return value


@dataclass(frozen=True, slots=True)
class Topics:
    """The topic names under one prefix: `<prefix>/<device_id>/batch`, `/reply`, `/status` and `/info`."""

    prefix: str

    @property
    def batch_filter(self) -> str:
        """Return the filter of every device's batches."""
        return f"{self.prefix}/+/batch"

    @property
    def status_filter(self) -> str:
        """Every device's presence."""
        return f"{self.prefix}/+/status"

    @property
    def info_filter(self) -> str:
        """Every device's statistics."""
        return f"{self.prefix}/+/info"

    def batch(self, device_id: str) -> str:
        return f"{self.prefix}/{device_id}/batch"

    def reply(self, device_id: str) -> str:
        return f"{self.prefix}/{device_id}/reply"

    def status(self, device_id: str) -> str:
        return f"{self.prefix}/{device_id}/status"

    def info(self, device_id: str) -> str:
        return f"{self.prefix}/{device_id}/info"

    def device_id(self, topic: str) -> str:
        """The device that a batch topic belongs to. Raises DecodeError if the level is not a device id."""
        return _device_id(topic, self.prefix, "batch")

    def status_device_id(self, topic: str) -> str:
        """The device that a status topic belongs to. Raises DecodeError if the level is not a device id."""
        return _device_id(topic, self.prefix, "status")

    def info_device_id(self, topic: str) -> str:
        """The device that an info topic belongs to. Raises DecodeError if the level is not a device id."""
        return _device_id(topic, self.prefix, "info")

    def owner(self, topic: str) -> str | None:
        """Return the device whose batch, status or info topic this is; None if it is no device's."""
        try:
            if self.is_status(topic):
                return self.status_device_id(topic)
            return self.info_device_id(topic) if self.is_info(topic) else self.device_id(topic)
        except DecodeError:
            return None

    @staticmethod
    def is_status(topic: str) -> bool:
        """Return True if a topic of one of the three filters is a status topic."""
        return topic.endswith("/status")

    @staticmethod
    def is_info(topic: str) -> bool:
        """Return True if a topic of one of the three filters is an info topic."""
        return topic.endswith("/info")

    def may_reply_to(self, topic: str, device_id: str) -> bool:
        """Return True if a Response Topic is the device's own or below it, and can be published to."""
        own = self.reply(device_id)
        if topic != own and not topic.startswith(own + "/"):
            return False
        return not _NOT_A_TOPIC_NAME.search(topic)


_NOT_A_TOPIC_NAME = re.compile(r"[+#\x00-\x1f\x7f-\x9f]")


# A fleet sends on the same few thousand topics, again and again.
@lru_cache(maxsize=20_000)
def _device_id(topic: str, prefix: str, last: str) -> str:
    level = topic.removeprefix(f"{prefix}/").removesuffix(f"/{last}")
    if topic != f"{prefix}/{level}/{last}" or not DEVICE_ID.fullmatch(level):
        raise DecodeError(f"topic level {level!r:.80} is not a device id: 1 to 64 of A-Z a-z 0-9 . _ : -", "topic")
    return level
