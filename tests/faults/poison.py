"""Messages on a device's topic that are no batch, or an odd one: each kind with its expected result.

A payload is made for a device's id. A kind whose `people` is None has to be refused, for a reason that contains
`reason`; another has to be stored with exactly those people.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from tests import examples

Payload = Callable[[str], bytes]
Seconds = tuple[float, float, float, float]
"""happy, sad, angry, neutral"""

STAMP = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)
LEVEL = "{}"
"""The topic level of a kind that does not care: the device's id."""

ONE: Mapping[str, Seconds] = {"1": (1.5, 0.0, 0.0, 0.0)}
"""The people of `written()`."""


class Poison(NamedTuple):
    """`level` is the topic level between prefix and "batch", `stamp` what is stored of it: None is about now."""

    payload: Payload
    reason: str = ""
    people: Mapping[str, Seconds] | None = None
    stamp: datetime | None = STAMP
    level: str = LEVEL


def written(*, device_id: str = '"{}"', cumulative: str = '{"happy": 1.5}', **others: str) -> Payload:
    """A valid payload in which some values, written as JSON, are replaced; `{}` is the device's id."""
    return lambda device: examples.payload(device_id=device_id.replace("{}", device), cumulative=cumulative, **others)


def edited(edit: Callable[[bytes], bytes]) -> Payload:
    """The valid payload, changed as bytes."""
    return lambda device: edit(written()(device))


def exactly(payload: bytes) -> Payload:
    """The same bytes whatever the device."""
    return lambda device: payload


def happy(value: str) -> Payload:
    """The valid payload with another value of one emotion."""
    return written(cumulative=f'{{"happy": {value}}}')


def crowd(number: int, *, spaces: int = 0) -> Payload:
    """So many people, and white space behind them."""
    people = ",".join(f'{{"person_id":{n},"cumulative":{{"happy":{n}.5}}}}' for n in range(number))
    rest = f'"timestamp":"2025-11-14T12:34:56Z","people":[{people}]}}{" " * spaces}'.encode()
    return lambda device: f'{{"device_id":"{device}",'.encode() + rest


def of_crowd(number: int) -> dict[str, Seconds]:
    """Return the expected result of `crowd(number)`."""
    return {str(n): (n + 0.5, 0.0, 0.0, 0.0) for n in range(number)}


NUMBERS = {
    "NaN": Poison(happy("NaN"), "not UTF-8 JSON"),
    "Infinity": Poison(happy("Infinity"), "not UTF-8 JSON"),
    "-Infinity": Poison(happy("-Infinity"), "not UTF-8 JSON"),
    "1e309": Poison(happy("1e309"), "out of range"),
    "an integer of 400 digits": Poison(happy("1" + "0" * 400), "out of range"),
    "an integer of 5,000 digits": Poison(happy("1" + "0" * 5_000), "out of range"),
    "-1": Poison(happy("-1"), ">= 0"),
    "-1e-300": Poison(written(cumulative='{"neutral": -1e-300}'), ">= 0"),
    "-2**63": Poison(happy("-9223372036854775808"), ">= 0"),
    "true as seconds": Poison(happy("true"), "got `bool`"),
    "null as seconds": Poison(happy("null"), "got `null`"),
    "a number as text": Poison(happy('"1"'), "got `str`"),
    "a list as seconds": Poison(happy("[1]"), "got `array`"),
    "a leading zero": Poison(happy("01"), "not UTF-8 JSON"),
    "a leading plus": Poison(happy("+1"), "not UTF-8 JSON"),
    "a hexadecimal number": Poison(happy("0x10"), "not UTF-8 JSON"),
    "a good value after a bad one": Poison(written(cumulative='{"happy": -1, "happy": 1}'), ">= 0"),
    "NaN in an unknown field": Poison(written(more=', "x": NaN'), "not UTF-8 JSON"),
}

STRUCTURES = {
    "nothing": Poison(exactly(b""), "empty"),
    "one space": Poison(exactly(b" "), "not UTF-8 JSON"),
    "null": Poison(exactly(b"null"), "got `null`"),
    "a list": Poison(exactly(b"[]"), "got `array`"),
    "a number": Poison(exactly(b"1"), "got `int`"),
    "a text": Poison(exactly(b'"batch"'), "got `str`"),
    "an empty object": Poison(exactly(b"{}"), "missing required field"),
    "no people": Poison(lambda d: f'{{"device_id":"{d}","timestamp":"2025-11-14"}}'.encode(), "`people`"),
    "no timestamp": Poison(lambda d: f'{{"device_id":"{d}","people":[]}}'.encode(), "`timestamp`"),
    "no cumulative": Poison(edited(lambda text: text.replace(b"cumulative", b"seconds")), "`cumulative`"),
    "people as an object": Poison(edited(lambda text: text.replace(b"[", b'{"1":').replace(b"]", b"}")), "`array`"),
    "a person as null": Poison(written(more=', "people": [null]'), "got `null`"),
    "a list as cumulative": Poison(written(cumulative="[]"), "got `array`"),
    "null as cumulative": Poison(written(cumulative="null"), "got `null`"),
    "trailing bytes": Poison(edited(lambda text: text + b"x"), "not UTF-8 JSON"),
    "two batches": Poison(edited(lambda text: text + text), "not UTF-8 JSON"),
    "half a batch": Poison(edited(lambda text: text[: len(text) // 2]), "not UTF-8 JSON"),
    "all but the last byte": Poison(edited(lambda text: text[:-1]), "not UTF-8 JSON"),
    "a trailing comma": Poison(edited(lambda text: text.replace(b"}]}", b"},]}")), "not UTF-8 JSON"),
    "a comment": Poison(edited(lambda text: text + b"// done"), "not UTF-8 JSON"),
    "single quotes": Poison(edited(lambda text: text.replace(b'"', b"'")), "not UTF-8 JSON"),
    "YAML": Poison(lambda device: f"device_id: {device}".encode(), "not UTF-8 JSON"),
    "gzip": Poison(exactly(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3"), "not UTF-8"),
    "100,000 lists in each other": Poison(exactly(b"[" * 100_000), "got `array`"),
    "100,000 lists in people": Poison(written(more=', "people": ' + "[" * 100_000), "got `array`"),
    "100,000 lists in an unknown field": Poison(written(more=f', "deep": {"[" * 100_000}{"]" * 100_000}'), "recursion"),
    "100,000 objects in an unknown emotion": Poison(
        written(cumulative='{"joy": ' + '{"a":' * 100_000 + "1" + "}" * 100_001), "recursion"
    ),
}

TEXTS = {
    "bad UTF-8": Poison(exactly(b"\xff\xfe\xfd"), "not UTF-8 JSON"),
    "bad UTF-8 in a person's id": Poison(edited(lambda text: text.replace(b'"1"', b'"\xff"')), "not UTF-8 JSON"),
    "bad UTF-8 in an emotion's name": Poison(edited(lambda text: text.replace(b"happy", b"h\xc3")), "not UTF-8 JSON"),
    "bad UTF-8 in an unknown field": Poison(
        lambda device: written(more=', "x": "?"')(device).replace(b"?", b"\xff"), "not UTF-8 JSON"
    ),
    "bad UTF-8 in an unknown field name": Poison(
        lambda device: written(more=', "?": 1')(device).replace(b"?", b"\xc3"), "not UTF-8 JSON"
    ),
    "a surrogate as UTF-8": Poison(edited(lambda text: text.replace(b'"1"', b'"\xed\xa0\x80"')), "not UTF-8 JSON"),
    "an overlong slash": Poison(edited(lambda text: text.replace(b'"1"', b'"\xc0\xaf"')), "not UTF-8 JSON"),
    "UTF-16": Poison(edited(lambda text: text.decode().encode("utf-16")), "not UTF-8 JSON"),
    "UTF-16 without a mark": Poison(edited(lambda text: text.decode().encode("utf-16-le")), "not UTF-8 JSON"),
    "UTF-32": Poison(edited(lambda text: text.decode().encode("utf-32")), "not UTF-8 JSON"),
    "a byte order mark": Poison(edited(lambda text: b"\xef\xbb\xbf" + text), "not UTF-8 JSON"),
    "NUL": Poison(exactly(b"\x00"), "not UTF-8 JSON"),
    "NUL before": Poison(edited(lambda text: b"\x00" + text), "not UTF-8 JSON"),
    "NUL behind": Poison(edited(lambda text: text + b"\x00"), "not UTF-8 JSON"),
    "NUL in a person's id": Poison(written(person_id='"a\\u0000b"'), "control character"),
    "a line break in a person's id": Poison(written(person_id='"a\\nb"'), "control character"),
    "a raw tab in a person's id": Poison(written(person_id='"a\tb"'), "not UTF-8 JSON"),
    "DEL in a person's id": Poison(written(person_id='"\\u007f"'), "control character"),
    "a C1 control character in a person's id": Poison(written(person_id='"\\u0085"'), "control character"),
    "a lone high surrogate": Poison(written(person_id='"\\ud800"'), "not UTF-8 JSON"),
    "a lone low surrogate": Poison(written(person_id='"\\udc00"'), "not UTF-8 JSON"),
    "a lone surrogate in an unused place": Poison(written(more=', "x": "\\ud800"'), "not UTF-8 JSON"),
    "an empty timestamp": Poison(written(timestamp='""'), "ISO 8601"),
    "a timestamp in words": Poison(written(timestamp='"noon"'), "ISO 8601"),
    "the 30th of February": Poison(written(timestamp='"2025-02-30T00:00:00Z"'), "ISO 8601"),
    "a timestamp of 100,000 digits": Poison(written(timestamp=f'"{"9" * 100_000}"'), "ISO 8601"),
    "a timestamp as a number": Poison(written(timestamp="1763123696"), "got `int`"),
}

IDS = {
    "another device's payload": Poison(written(device_id='"jetson_1"'), "not the topic's"),
    "the device in another case": Poison(edited(lambda text: text.replace(b"kind", b"KIND")), "not the topic's"),
    "the device with NUL behind": Poison(written(device_id='"{}\\u0000"'), "not the topic's"),
    "an empty device": Poison(written(device_id='""'), "not the topic's"),
    "a device of 10 MB": Poison(written(device_id=f'"{"x" * 10_000_000}"'), "not the topic's"),
    "a wildcard as device": Poison(written(device_id='"+"'), "not the topic's"),
    "all devices": Poison(written(device_id='"#"'), "not the topic's"),
    "a number as device": Poison(written(device_id="1"), "got `int`"),
    "null as device": Poison(written(device_id="null"), "got `null`"),
    "a second device": Poison(written(more=', "device_id": "jetson_1"'), "not the topic's"),
    "an empty person's id": Poison(written(person_id='""'), ">= 1"),
    "a person's id of 129 characters": Poison(written(person_id=f'"{"x" * 129}"'), "<= 128"),
    "a person's id of 10 MB": Poison(written(person_id=f'"{"x" * 10_000_000}"'), "<= 128"),
    "a person's id of 129 digits": Poison(written(person_id="1" * 129), "129 digits"),
    "a person's id of 100,000 digits": Poison(written(person_id="1" * 100_000), "out of range"),
    "a fraction as a person's id": Poison(written(person_id="1.5"), "got `float`"),
    "true as a person's id": Poison(written(person_id="true"), "got `bool`"),
    "null as a person's id": Poison(written(person_id="null"), "got `null`"),
    "a topic with a space": Poison(written(), "not a device id", level="a {}"),
    "a topic with an empty level": Poison(written(), "not a device id", level=""),
    "a topic of 65 characters": Poison(written(), "not a device id", level="{}".ljust(67, "x")),
    "a topic of 60,000 characters": Poison(written(), "not a device id", level="{}" + "x" * 60_000),
    "a topic with a dollar": Poison(written(), "not a device id", level="$SYS{}"),
    "a topic with an accent": Poison(written(), "not a device id", level="é{}"),
    "a topic with a quote": Poison(written(), "not a device id", level="{}'); DROP TABLE device; --"),
}

SIZES = {
    "10 MB of x": Poison(exactly(b"x" * 10_000_000), "not UTF-8 JSON"),
    "10 MB of NUL": Poison(exactly(b"\x00" * 10_000_000), "not UTF-8 JSON"),
    "10 MB of spaces": Poison(exactly(b" " * 10_000_000), "not UTF-8 JSON"),
    "a text of 10 MB as seconds": Poison(happy(f'"{"y" * 10_000_000}"'), "got `str`"),
    "100,001 people": Poison(crowd(100_001), "<= 100000"),
}

ODD = {
    "100,000 people": Poison(crowd(100_000), people=of_crowd(100_000)),
    "10 MB, most of it spaces": Poison(edited(lambda text: text + b" " * 10_000_000), people=ONE),
    "10 MB in an unknown field": Poison(written(more=f', "x": "{"y" * 10_000_000}"'), people=ONE),
    "nobody": Poison(written(more=', "people": []'), people={}),
    "2**63": Poison(happy("9223372036854775808"), people={"1": (2.0**63, 0.0, 0.0, 0.0)}),
    "2**64": Poison(happy("18446744073709551616"), people={"1": (2.0**64, 0.0, 0.0, 0.0)}),
    "the largest number": Poison(happy("1.7976931348623157e308"), people={"1": (1.7976931348623157e308, 0, 0, 0)}),
    "the smallest number": Poison(happy("5e-324"), people={"1": (5e-324, 0.0, 0.0, 0.0)}),
    "less than the smallest number": Poison(happy("1e-400"), people={"1": (0.0, 0.0, 0.0, 0.0)}),
    "minus nothing": Poison(happy("-0.0"), people={"1": (0.0, 0.0, 0.0, 0.0)}),
    "all four emotions": Poison(
        written(cumulative='{"neutral": 4, "angry": 3, "sad": 2, "happy": 1}'), people={"1": (1.0, 2.0, 3.0, 4.0)}
    ),
    "no emotion": Poison(written(cumulative="{}"), people={"1": (0.0, 0.0, 0.0, 0.0)}),
    "an unknown emotion": Poison(written(cumulative='{"happy": 1.5, "joy": "x"}'), people=ONE),
    "an unknown field": Poison(written(more=', "firmware": {"version": [1, null]}'), people=ONE),
    "NUL in an unused place": Poison(written(more=', "x": "\\u0000"'), people=ONE),
    "an emotion twice": Poison(written(cumulative='{"happy": 9, "happy": 1.5}'), people=ONE),
    "a person twice": Poison(
        written(
            more=', "people": [{"person_id": 1, "cumulative": {"sad": 9}}, ' + '{"person_id": "1", "cumulative":'
            ' {"happy": 1.5}}]'
        ),
        people=ONE,
    ),
    "a number as a person's id": Poison(written(person_id="1"), people=ONE),
    "a large number as a person's id": Poison(written(person_id="1" * 128), people={"1" * 128: (1.5, 0.0, 0.0, 0.0)}),
    "a person's id of 128 emoji": Poison(
        written(person_id=json.dumps("\U0001f600" * 128)), people={"\U0001f600" * 128: (1.5, 0.0, 0.0, 0.0)}
    ),
    "wildcards as a person's id": Poison(written(person_id='"+/#"'), people={"+/#": (1.5, 0.0, 0.0, 0.0)}),
    "SQL as a person's id": Poison(
        written(person_id='"\'); DROP TABLE device; --"'), people={"'); DROP TABLE device; --": (1.5, 0.0, 0.0, 0.0)}
    ),
    "placeholders as a person's id": Poison(
        written(person_id='"%s %(x)s ? :x $1"'), people={"%s %(x)s ? :x $1": (1.5, 0.0, 0.0, 0.0)}
    ),
    "the last character as a person's id": Poison(
        written(person_id='"\\udbff\\udfff"'), people={"\U0010ffff": (1.5, 0.0, 0.0, 0.0)}
    ),
    "white space all round": Poison(edited(lambda text: b" \r\n\t" + text + b"\n"), people=ONE),
    "microseconds and an offset": Poison(
        written(timestamp='"2025-11-14T18:04:56.123456+05:30"'), people=ONE, stamp=STAMP.replace(microsecond=123_456)
    ),
    "no offset": Poison(written(timestamp='"2025-11-14T12:34:56"'), people=ONE),
    "the year 1": Poison(written(timestamp='"0001-01-01T00:00:00+14:00"'), people=ONE, stamp=None),
    "the year 9999": Poison(written(timestamp='"9999-12-31T23:59:59-14:00"'), people=ONE, stamp=None),
}

KINDS: dict[str, Poison] = NUMBERS | STRUCTURES | TEXTS | IDS | SIZES | ODD
