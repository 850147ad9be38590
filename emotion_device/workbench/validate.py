"""python -m emotion_device validate: check files as the daemon would, before they are published.

As in the daemon, `shared.batch.decode` decides if a batch is valid. All else are warnings.
"""

import argparse
import codecs
import errno
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from emotion_device.command_line import PROGRAM, Parser
from emotion_device.outbox import payload_limit
from shared.batch import DEVICE_ID, MAX_CLOCK_SKEW, Batch, DecodeError, Topics, decode, is_topic_prefix
from shared.contract import BROKER_PACKET_BYTES, batch_schema
from shared.printing import OutputError, echo

STANDARD_INPUT = "-"

_MOST_NAMED = 5
_DEFAULT_TOPICS = Topics("emotions")
_BYTE = re.compile(r"\(byte (\d+)\)$")
_TRUNCATED = "truncated"


class _Named(msgspec.Struct):
    device_id: str


def main(argv: Sequence[str]) -> int:
    """Validate files. Returns the exit code.

    0 if all are valid batches, 1 if one is not, 2 if one cannot be read or the result cannot be written.
    """
    arguments = command_parser().parse_args(argv)
    try:
        return _validate(arguments.files, arguments.topic)
    except OutputError as error:
        print(f"{PROGRAM} validate: {error}", file=sys.stderr)
        return 2


def _validate(files: Sequence[str], topic: str | None) -> int:
    valid = readable = True
    for file in files:
        name = "standard input" if file == STANDARD_INPUT else file
        try:
            payload = _read(file)
            lines = examine(payload, topic=topic, now=datetime.now(UTC))
        except (OSError, MemoryError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is larger than the free memory"
            print(f"{PROGRAM} validate: {name} cannot be read: {why}", file=sys.stderr)
            readable = False
            continue
        except DecodeError as error:
            lines = [f"not a valid batch: {_place(payload, error)}{error}"]
            valid = False
        for line in lines:
            echo(f"{name}: {line}")
    if not readable:
        return 2
    return 0 if valid else 1


def _read(file: str) -> bytes:
    """Raises OSError and MemoryError."""
    if file != STANDARD_INPUT:
        return Path(file).read_bytes()
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdin.buffer.read()


def examine(payload: bytes, *, topic: str | None, now: datetime) -> list[str]:
    """Return the lines about a valid batch: that it is one, then the warnings.

    `topic` is the topic of the batch; None: the default topic of the device that it names. `now` is aware UTC. Raises
    DecodeError if the daemon would reject it.
    """
    if topic is not None:
        device_id = _device_id(topic)
    elif (own := _own_device_id(payload)) is not None:
        if not DEVICE_ID.fullmatch(own):
            raise DecodeError(f"device_id {own!r:.80} is not 1 to 64 of A-Z a-z 0-9 . _ : -", "device_id")
        topic, device_id = _DEFAULT_TOPICS.batch(own), own
    else:
        topic = device_id = ""  # nothing that decode takes
    batch = decode(payload, device_id=device_id, received_at=now)
    people = "1 person" if len(batch.people) == 1 else f"{len(batch.people):,} people"
    lines = [f"ok: {people}, {len(payload):,} bytes"]
    lines += [f"warning: {text}" for text in _warnings(payload, batch, topic)]
    return lines


def _own_device_id(payload: bytes) -> str | None:
    """Return the device that the payload names; None if it names none, and so is no batch."""
    try:
        return msgspec.json.decode(payload, type=_Named).device_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _device_id(topic: str) -> str:
    return Topics(topic.rsplit("/", 2)[0]).device_id(topic)


def _place(payload: bytes, error: DecodeError) -> str:
    """Return the place at which the JSON is broken, for an editor; nothing if it is not, or if the place is unknown."""
    at = None
    # msgspec 0.22 raises UnicodeDecodeError, whose position may count within a text. 0.23 raises an error of its own.
    cause = error.__cause__
    if isinstance(cause, UnicodeDecodeError) or "UTF-8" in str(cause):
        try:
            payload.decode()
        except UnicodeDecodeError as whole:
            at = whole.start
    elif found := _BYTE.search(str(error)):
        at = int(found[1])
    elif _TRUNCATED in str(error.__cause__):
        at = len(payload)
    if at is None:
        return ""
    if payload.startswith(codecs.BOM_UTF8) and at < len(codecs.BOM_UTF8):
        return "it begins with a byte order mark (BOM), which JSON forbids; save it as UTF-8 without one: "
    before = payload[:at].decode(errors="replace")
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}: "


def _warnings(payload: bytes, batch: Batch, topic: str) -> Iterator[str]:
    if batch.clock_skew is not None:
        seconds = batch.clock_skew.total_seconds()
        why = f"more than {MAX_CLOCK_SKEW.total_seconds():.0f} s ahead of this clock" if seconds > 0 else "too long ago"
        yield f"the timestamp is {why}: the daemon would use the time of receipt instead"
    try:
        written = json.loads(payload, parse_int=str)
    except RecursionError:  # deeper than Python follows, but decode looks into no field that it does not know
        yield f"the daemon ignores unknown fields, at {batch.ignored}"
    else:
        unknown = list(dict.fromkeys(_unknown(written, batch_schema(), "$")))
        if unknown:
            yield f"the daemon ignores unknown fields: {_listed(unknown)}"
        named = Counter(person["person_id"] for person in written["people"])
        twice = [repr(person_id)[:80] for person_id, times in named.items() if times > 1]
        if twice:
            yield f"more than one entry for person {_listed(twice)}: the last one counts"
    limit = payload_limit(BROKER_PACKET_BYTES, topic=topic, response_topic=None)
    if len(payload) > limit:
        yield f"larger than the {limit:,} bytes that fit into a packet of 320 KiB, the limit of the shipped brokers"


def _unknown(value: object, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    """Yield the places at which `value` has fields that are not in `schema`, like $.people[].age."""
    if isinstance(value, list) and "items" in schema:
        for entry in value:
            yield from _unknown(entry, schema["items"], f"{at}[]")
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name in schema["properties"]:
                yield from _unknown(inner, schema["properties"][name], f"{at}.{name}")
            else:
                yield f"{at}.{name if name.isprintable() else repr(name)}"[:80]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of `validate`."""
    parser = Parser(
        prog=f"{PROGRAM} validate",
        description="Check each file as the daemon would check a batch, and print the fault of an invalid one.",
        epilog="Exit code: 0 if all are valid, 1 if one is not, 2 if one cannot be read. Warnings change nothing.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file with a payload; - is standard input")
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--topic",
        type=_topic,
        help="the topic of the batch, like emotions/jetson_1/batch; by default that of its own device",
    )
    target.add_argument("--device", type=_topic_of, dest="topic", metavar="ID", help="the device of the batch")
    return parser


def _topic(text: str) -> str:
    wrong = argparse.ArgumentTypeError(f"is {text!r}, but a batch is published on <prefix>/<device_id>/batch")
    try:
        _device_id(text)
    except DecodeError as error:
        raise wrong from error
    if not is_topic_prefix(text.rsplit("/", 2)[0]):
        raise wrong
    return text


def _topic_of(device_id: str) -> str:
    if not DEVICE_ID.fullmatch(device_id):
        raise argparse.ArgumentTypeError(f"is {device_id!r}, but a device id is 1 to 64 of A-Z a-z 0-9 . _ : -")
    return _DEFAULT_TOPICS.batch(device_id)
