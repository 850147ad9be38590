"""The payload's rules, and that nothing but DecodeError ever leaves the door."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.batch import EARLIEST_TIMESTAMP, Batch, Cumulative, DecodeError, Topics, decode, encode, utc
from tests.examples import README_PAYLOAD, payload

RECEIVED_AT = datetime(2025, 11, 14, 12, 35, tzinfo=UTC)
STAMP = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)
EXAMPLE = README_PAYLOAD.encode()


def read(payload: bytes, device_id: str = "jetson_1") -> Batch:
    return decode(payload, device_id=device_id, received_at=RECEIVED_AT)


def stamped(text: str) -> Batch:
    return read(payload(timestamp=json.dumps(text)))


class TestPayload:
    def test_the_documented_payload_is_read(self) -> None:
        assert read(EXAMPLE) == Batch("jetson_1", STAMP, read(EXAMPLE).people, RECEIVED_AT)
        assert {person: _values(c) for person, c in read(EXAMPLE).people.items()} == {"1": (123.5, 20.0, 10.0, 0.0)}

    def test_neutral_is_read_where_a_device_sends_it(self) -> None:
        batch = read(payload(cumulative='{"happy": 1, "neutral": 2.5}'))

        assert _values(batch.people["1"]) == (1.0, 0.0, 0.0, 2.5)

    def test_a_missing_emotion_counts_as_zero(self) -> None:
        batch = read(payload(cumulative="{}"))

        assert _values(batch.people["1"]) == (0.0, 0.0, 0.0, 0.0)

    def test_whole_numbers_are_seconds_too(self) -> None:
        batch = read(payload(cumulative='{"happy": 9223372036854775808}'))

        assert batch.people["1"].happy == 2.0**63

    def test_the_largest_float_is_a_number_of_seconds(self) -> None:
        batch = read(payload(cumulative='{"happy": 1.7976931348623157e308}'))

        assert batch.people["1"].happy == 1.7976931348623157e308

    def test_an_integer_as_person_id_becomes_text(self) -> None:
        batch = read(payload(person_id="7"))

        assert list(batch.people) == ["7"]

    def test_an_integer_as_person_id_may_be_larger_than_64_bits(self) -> None:
        batch = read(payload(person_id="18446744073709551616"))

        assert list(batch.people) == ["18446744073709551616"]

    def test_a_person_named_twice_has_the_last_entry(self) -> None:
        people = [{"person_id": "1", "cumulative": {"happy": n}} for n in (5, 3)]
        batch = read(
            json.dumps({"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z", "people": people}).encode()
        )

        assert batch.people["1"].happy == 3.0

    def test_the_same_person_as_number_and_as_text_is_one_person(self) -> None:
        people = [{"person_id": n, "cumulative": {"happy": 1}} for n in (1, "1")]
        batch = read(
            json.dumps({"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z", "people": people}).encode()
        )

        assert list(batch.people) == ["1"]

    def test_nobody_in_view_is_a_batch(self) -> None:
        batch = read(b'{"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z", "people": []}')

        assert batch.people == {}

    def test_a_known_payload_ignores_nothing(self) -> None:
        assert read(EXAMPLE).ignored is None

    @pytest.mark.parametrize(
        "newer",
        [
            payload(more=', "firmware": {"version": [1, 2]}'),
            payload(cumulative='{"happy": 1, "joy": "x"}'),
            payload(cumulative='{"happy": 1, "joy": -1}'),
            payload(person_id='"1", "age": null'),
            payload(more=', "note": "\\ud83d\\ude00"'),
            payload(more=', "note": "\\u0000"'),
            payload(more=f', "deep": {"[" * 500}{"]" * 500}'),
        ],
    )
    def test_what_a_newer_device_adds_is_ignored_and_noted(self, newer: bytes) -> None:
        batch = read(newer)

        assert _values(batch.people["1"]) == (1.0, 0.0, 0.0, 0.0)
        assert batch.ignored is not None

    @pytest.mark.parametrize(
        ("newer", "place"),
        [
            (payload(more=', "anna": 1'), "$"),
            (payload(person_id='"1", "anna": 1'), "$.people[0]"),
            (payload(cumulative='{"happy": 1, "anna": 1}'), "$.people[0].cumulative"),
            (payload(more=', "x` - at `$.anna": 1'), "$"),
        ],
    )
    def test_it_is_told_by_its_place_as_its_name_may_be_a_persons(self, newer: bytes, place: str) -> None:
        assert read(newer).ignored == place

    def test_a_duplicate_key_has_its_last_value(self) -> None:
        batch = read(payload(cumulative='{"happy": 1, "happy": 2}'))

        assert batch.people["1"].happy == 2.0

    def test_white_space_around_the_object_is_allowed(self) -> None:
        assert read(b" \n" + EXAMPLE + b"\r\n\t").device_id == "jetson_1"

    @pytest.mark.parametrize("person_id", ["é" * 128, "+/#", " ", "\U0001f600", "\u200b", "\uffff", "' OR 1=1 --"])
    def test_a_person_id_is_any_text_without_control_characters(self, person_id: str) -> None:
        batch = read(payload(person_id=json.dumps(person_id)))

        assert list(batch.people) == [person_id]

    def test_a_hundred_thousand_people_are_a_batch(self) -> None:
        people = {str(number): {"happy": float(number)} for number in range(100_000)}
        batch = read(encode("jetson_1", STAMP, people))

        assert len(batch.people) == 100_000
        assert batch.people["99999"].happy == 99_999.0


POISON = {
    "nothing": b"",
    "white space": b"  \n",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "a text": b'"batch"',
    "an empty object": b"{}",
    "10 MB of x": b"x" * 10_000_000,
    "10 MB of spaces": b" " * 10_000_000,
    "a text of 10 MB where a number belongs": payload(cumulative='{"happy": "' + "y" * 10_000_000 + '"}'),
    "100,000 lists in each other": b"[" * 100_000,
    "100,000 objects in each other": b'{"people":' * 100_000,
    "100,000 lists in an ignored field": payload(more=f', "deep": {"[" * 100_000}{"]" * 100_000}'),
    "100,000 objects in an ignored emotion": payload(cumulative='{"joy": ' + '{"a":' * 100_000 + "1" + "}" * 100_001),
    "NaN": payload(cumulative='{"happy": NaN}'),
    "Infinity": payload(cumulative='{"happy": Infinity}'),
    "-Infinity": payload(cumulative='{"happy": -Infinity}'),
    "1e309": payload(cumulative='{"happy": 1e309}'),
    "an integer of 400 digits": payload(cumulative='{"happy": 1' + "0" * 400 + "}"),
    "an integer of 5,000 digits": payload(cumulative='{"happy": 1' + "0" * 5_000 + "}"),
    "-1": payload(cumulative='{"happy": -1}'),
    "-1e-300": payload(cumulative='{"neutral": -1e-300}'),
    "-2**63": payload(cumulative='{"happy": -9223372036854775808}'),
    "NaN in an ignored field": payload(more=', "x": NaN'),
    "true as seconds": payload(cumulative='{"happy": true}'),
    "null as seconds": payload(cumulative='{"happy": null}'),
    "a number as text": payload(cumulative='{"happy": "1"}'),
    "a list as seconds": payload(cumulative='{"happy": [1]}'),
    "a leading zero": payload(cumulative='{"happy": 01}'),
    "a leading plus": payload(cumulative='{"happy": +1}'),
    "a list as cumulative": payload(cumulative="[]"),
    "null as cumulative": payload(cumulative="null"),
    "no cumulative": b'{"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z", "people": [{"person_id": "1"}]}',
    "no people": b'{"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z"}',
    "people as an object": b'{"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z", "people": {}}',
    "100,001 people": encode("jetson_1", STAMP, {str(number): {} for number in range(100_001)}),
    "no timestamp": b'{"device_id": "jetson_1", "people": []}',
    "no device": b'{"timestamp": "2025-11-14T12:34:56Z", "people": []}',
    "an empty person_id": payload(person_id='""'),
    "a person_id of 129 characters": payload(person_id=f'"{"x" * 129}"'),
    "a person_id of 10 MB": payload(person_id=f'"{"x" * 10_000_000}"'),
    "a person_id of 129 digits": payload(person_id="1" * 129),
    "a person_id of 100,000 digits": payload(person_id="1" * 100_000),
    "a person_id with minus and 128 digits": payload(person_id="-" + "1" * 128),
    "a fraction as person_id": payload(person_id="1.0"),
    "true as person_id": payload(person_id="true"),
    "null as person_id": payload(person_id="null"),
    "a list as person_id": payload(person_id="[]"),
    "NUL in person_id": payload(person_id='"a\\u0000b"'),
    "a line break in person_id": payload(person_id='"a\\nb"'),
    "a raw tab in person_id": payload(person_id='"a\tb"'),
    "DEL in person_id": payload(person_id='"\\u007f"'),
    "a C1 control character in person_id": payload(person_id='"\\u0085"'),
    "a lone high surrogate in person_id": payload(person_id='"\\ud800"'),
    "a lone low surrogate in person_id": payload(person_id='"\\udc00"'),
    "a lone surrogate in an ignored value": payload(more=', "x": "\\ud800"'),
    "another device's payload": payload(device_id='"jetson_2"'),
    "the device in another case": payload(device_id='"JETSON_1"'),
    "the device with NUL behind": payload(device_id='"jetson_1\\u0000"'),
    "an empty device": payload(device_id='""'),
    "a number as device": payload(device_id="1"),
    "a device of 10 MB": payload(device_id=f'"{"x" * 10_000_000}"'),
    "a second device_id, of another device": payload(more=', "device_id": "jetson_2"'),
    "a wildcard as device": payload(device_id='"+"'),
    "bad UTF-8": b"\xff\xfe\xfd",
    "bad UTF-8 in person_id": payload().replace(b'"1"', b'"\xff"'),
    "bad UTF-8 in an emotion's name": payload().replace(b"happy", b"happ\xff"),
    "bad UTF-8 in an ignored value": payload(more=', "x": "?"').replace(b"?", b"\xff"),
    "bad UTF-8 in an ignored name": payload(more=', "?": 1').replace(b"?", b"\xc3"),
    "a surrogate as UTF-8 in an ignored value": payload(more=', "x": "?"').replace(b"?", b"\xed\xa0\x80"),
    "UTF-16": EXAMPLE.decode().encode("utf-16"),
    "UTF-16 without a mark": EXAMPLE.decode().encode("utf-16-le"),
    "UTF-32": EXAMPLE.decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + EXAMPLE,
    "NUL": b"\x00",
    "NUL before": b"\x00" + EXAMPLE,
    "NUL behind": EXAMPLE + b"\x00",
    "trailing bytes": EXAMPLE + b"x",
    "two batches": EXAMPLE + EXAMPLE,
    "half a batch": EXAMPLE[: len(EXAMPLE) // 2],
    "all but the last byte": EXAMPLE[:-1],
    "a comment": EXAMPLE + b"// done",
    "a trailing comma": EXAMPLE.replace(b"}]}", b"},]}"),
    "single quotes": EXAMPLE.replace(b'"', b"'"),
    "YAML": b"device_id: jetson_1",
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
def test_poison_is_refused_with_a_short_sentence(poison: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        read(poison)

    reason = str(caught.value)
    assert 0 < len(reason) < 300
    assert reason.isprintable()


NAME = "anna-4711"
"""A person's id, put where it does not belong."""

NAMING = {
    "a control character behind it": (payload(person_id=f'"{NAME}\\u0007"'), "person_id"),
    "too long an id": (payload(person_id=f'"{NAME * 15}"'), "person_id"),
    "too many digits": (payload(person_id="4711" * 33), "person_id"),
    "half a surrogate pair": (payload(person_id=f'"{NAME}\\ud800"'), "json"),
    "bad UTF-8": (payload(person_id=f'"{NAME}?"').replace(b"?", b"\xff"), "json"),
    "bad UTF-8 in an unused place": (payload(more=f', "x": "{NAME}?"').replace(b"?", b"\xff"), "json"),
    "cut off behind it": (payload(person_id=f'"{NAME}').partition(NAME.encode())[0] + NAME.encode(), "json"),
    "bare": (NAME.encode(), "json"),
    "a name as device": (payload(device_id=f'"{NAME}"'), "device_id"),
    "a list as device": (payload(device_id=f'["{NAME}"]'), "device_id"),
    "a name as timestamp": (payload(timestamp=f'"{NAME}"'), "timestamp"),
    "a list as timestamp": (payload(timestamp=f'["{NAME}"]'), "timestamp"),
    "a list as person_id": (payload(person_id=f'["{NAME}"]'), "person_id"),
    "a name as seconds": (payload(cumulative=f'{{"happy": "{NAME}"}}'), "batch"),
    "a name as emotions": (payload(cumulative=f'"{NAME}"'), "batch"),
    "a map of people": (payload().replace(b'"people": [', f'"people": {{"{NAME}": '.encode())[:-2] + b"}}", "batch"),
    "a name as a person's only field": (
        payload().replace(b'{"person_id": "1", ', f'{{"{NAME}": 1, '.encode()),
        "batch",
    ),
    "an unknown field in front of what is wrong": (
        payload(more=f', "{NAME}": 1', cumulative='{"happy": -1}'),
        "batch",
    ),
}


@pytest.mark.parametrize(("poison", "kind"), NAMING.values(), ids=NAMING.keys())
def test_the_sentence_names_nobody_and_the_kind_says_what_is_wrong(poison: bytes, kind: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read(poison)

    assert caught.value.kind == kind
    assert "anna" not in str(caught.value)
    assert "4711" not in str(caught.value)


class TestTimestamp:
    @pytest.mark.parametrize(
        "text",
        [
            "2025-11-14T12:34:56Z",
            "2025-11-14T12:34:56",
            "2025-11-14 12:34:56Z",
            "2025-11-14t12:34:56z",
            "2025-11-14T12:34:56z",
            "2025-11-14t12:34:56Z",
            "2025-11-14 12:34:56z",
            "2025-11-14T12:34:56-00:00",
            "20251114T123456Z",
            "2025-11-14T12:34:56.000Z",
            "2025-11-14T12:34:56+00:00",
            "2025-11-14T18:04:56+05:30",
            "2025-11-14T18:04:56+0530",
            "2025-11-14T04:34:56-08:00",
            "2025-11-15T02:34:56+14:00",
        ],
    )
    def test_iso_8601_becomes_utc_and_no_offset_means_utc(self, text: str) -> None:
        batch = stamped(text)

        assert batch.timestamp == STAMP
        assert batch.timestamp.tzinfo is UTC
        assert batch.clock_skew is None

    def test_microseconds_are_kept(self) -> None:
        assert stamped("2025-11-14T12:34:56.123456Z").timestamp == STAMP + timedelta(microseconds=123_456)

    @pytest.mark.parametrize(
        ("text", "microseconds"),
        [
            ("2016-12-31T23:59:60Z", 0),
            ("2016-12-31t23:59:60z", 0),
            ("2016-12-31T23:59:60.25Z", 250_000),
            ("2016-12-31T23:59:60", 0),
            ("2016-12-31T15:59:60-08:00", 0),
            ("2017-01-01T05:29:60+05:30", 0),
        ],
    )
    def test_a_leap_second_is_the_first_of_the_next_day(self, text: str, microseconds: int) -> None:
        assert utc(text) == datetime(2017, 1, 1, microsecond=microseconds, tzinfo=UTC)

    def test_a_date_alone_is_its_midnight(self) -> None:
        assert stamped("2025-11-14").timestamp == datetime(2025, 11, 14, tzinfo=UTC)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Z",
            "now",
            "1763123696",
            "2025-13-01T00:00:00Z",
            "2025-02-30T00:00:00Z",
            "2025-11-14T25:00:00Z",
            "2025-11-14T12:34:60Z",
            "2025-11-14T12:59:60Z",
            "2025-11-14T23:59:60+01:00",
            "2025-11-14T23:59:61Z",
            "2025-11-14Z",
            "2025-11-14T12:34:56zz",
            "2025-11-14T12:34:56+24:00",
            "2025-11-14T12:34:56 UTC",
            "2025-11-14T12:34:56Z\n",
            "+2025-11-14T12:34:56Z",
            "10000-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "\uff12\uff10\uff12\uff15-11-14T12:34:56Z",
            "14.11.2025 12:34",
            "2025-11-14\U0001f60012:34:56",
            "2025-11-14x12:34:56",
            "2025-11-14T12:34:56 Z",
            "9" * 100_000,
        ],
    )
    def test_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(DecodeError, match="is not ISO 8601, like 2025-11-14T12:34:56Z"):
            stamped(text)

    @pytest.mark.parametrize("value", ["1763123696", "1.5", "null", "true", "{}", "[]"])
    def test_something_other_than_text_is_refused(self, value: str) -> None:
        with pytest.raises(DecodeError, match="timestamp"):
            read(payload(timestamp=value))

    def test_a_clock_that_is_sixty_seconds_ahead_is_believed(self) -> None:
        batch = stamped("2025-11-14T12:36:00Z")

        assert (batch.timestamp, batch.clock_skew) == (RECEIVED_AT + timedelta(seconds=60), None)

    @pytest.mark.parametrize(
        ("text", "skew"),
        [
            ("2025-11-14T12:36:00.000001Z", timedelta(seconds=60, microseconds=1)),
            ("2025-11-14T12:37:00Z", timedelta(seconds=120)),
            ("2026-11-14T12:35:00Z", timedelta(days=365)),
            ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - RECEIVED_AT),
            ("1970-01-01T00:00:12Z", datetime(1970, 1, 1, 0, 0, 12, tzinfo=UTC) - RECEIVED_AT),
            ("2019-12-31T23:59:59.999999Z", EARLIEST_TIMESTAMP - timedelta(microseconds=1) - RECEIVED_AT),
            ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC) - RECEIVED_AT),
        ],
    )
    def test_a_clock_that_cannot_be_right_is_replaced_by_the_time_of_receipt(self, text: str, skew: timedelta) -> None:
        batch = stamped(text)

        assert (batch.timestamp, batch.clock_skew) == (RECEIVED_AT, skew)

    @pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
    def test_an_offset_that_leads_out_of_the_calendar_is_a_wrong_clock(self, text: str) -> None:
        batch = stamped(text)

        assert batch.timestamp == RECEIVED_AT
        assert batch.clock_skew is not None

    def test_the_first_moment_of_2020_is_believed(self) -> None:
        batch = stamped("2020-01-01T00:00:00Z")

        assert (batch.timestamp, batch.clock_skew) == (EARLIEST_TIMESTAMP, None)

    def test_an_old_stamp_is_believed(self) -> None:
        assert stamped("2025-11-13T12:34:56Z").clock_skew is None


class TestEncode:
    def test_what_it_writes_is_the_documented_payload(self) -> None:
        written = encode("jetson_1", STAMP, {"1": {"happy": 123.5, "sad": 20.0, "angry": 10.0}})

        assert json.loads(written) == json.loads(EXAMPLE)

    def test_a_stamp_in_another_time_zone_is_written_as_utc(self) -> None:
        india = timezone(timedelta(hours=5, minutes=30))
        written = encode("jetson_1", STAMP.astimezone(india), {})

        assert json.loads(written)["timestamp"] == "2025-11-14T12:34:56Z"

    def test_a_stamp_without_time_zone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="timestamp needs a time zone"):
            encode("jetson_1", datetime(2025, 11, 14), {})  # noqa: DTZ001 - the mistake under test


class TestTopics:
    topics = Topics("emotions")

    def test_the_names_are_those_of_the_contract(self) -> None:
        assert self.topics.batch_filter == "emotions/+/batch"
        assert self.topics.batch("jetson_1") == "emotions/jetson_1/batch"
        assert self.topics.reply("jetson_1") == "emotions/jetson_1/reply"
        assert self.topics.status("emotion-daemon") == "emotions/emotion-daemon/status"

    @pytest.mark.parametrize("device_id", ["a", "jetson_1", "A.b-c:d_0", "x" * 64, "..", "batch", "emotions"])
    def test_the_device_is_the_level_before_batch(self, device_id: str) -> None:
        assert self.topics.device_id(self.topics.batch(device_id)) == device_id

    def test_the_prefix_may_have_levels(self) -> None:
        assert Topics("site/north").device_id("site/north/jetson_1/batch") == "jetson_1"

    @pytest.mark.parametrize(
        "level", ["", " ", "x" * 65, "jetson 1", "jetson_1\n", "é", "a/b", "+", "#", "$share", "j\x00", "x" * 65_000]
    )
    def test_a_level_that_is_no_device_id_is_refused(self, level: str) -> None:
        with pytest.raises(DecodeError, match="is not a device id") as caught:
            self.topics.device_id(f"emotions/{level}/batch")

        assert caught.value.kind == "topic"

    @pytest.mark.parametrize(
        "topic", ["emotions/jetson_1/status", "other/jetson_1/batch", "", "\ufffd", "emotions/batch", "jetson_1"]
    )
    def test_another_topic_belongs_to_no_device(self, topic: str) -> None:
        with pytest.raises(DecodeError):
            self.topics.device_id(topic)

    @pytest.mark.parametrize(
        "topic", ["emotions/jetson_1/reply", "emotions/jetson_1/reply/42", "emotions/jetson_1/reply/"]
    )
    def test_a_reply_may_go_to_the_devices_reply_topic_or_below(self, topic: str) -> None:
        assert self.topics.may_reply_to(topic, "jetson_1")

    @pytest.mark.parametrize(
        "topic",
        [
            "",
            "emotions/jetson_2/reply",
            "emotions/jetson_10/reply",
            "emotions/jetson_1/replyX",
            "emotions/jetson_1/reply-to",
            "emotions/jetson_1/repl",
            "emotions/jetson_1/batch",
            "emotions/jetson_1/status",
            "emotions/jetson_1/info",
            "emotions/jetson_1",
            "emotions/+/reply",
            "emotions/jetson_1/reply/+",
            "emotions/jetson_1/reply/#",
            "emotions/jetson_1/reply/a#b",
            "emotions/jetson_1/reply/\x00",
            "emotions/jetson_1/reply/\n",
            "emotions/jetson_1/reply\n",
            "/emotions/jetson_1/reply",
            "x/emotions/jetson_1/reply",
            "EMOTIONS/jetson_1/reply",
            "$SYS/broker",
            "#",
        ],
    )
    def test_a_reply_may_go_nowhere_else(self, topic: str) -> None:
        assert not self.topics.may_reply_to(topic, "jetson_1")


# --- any input ------------------------------------------------------------------------------------------------------

EDITS: list[Callable[[bytes, int, bytes], bytes]] = [
    lambda text, at, what: text[:at] + what + text[at:],
    lambda text, at, what: text[:at] + what + text[at + len(what) :],
    lambda text, at, what: text[:at] + text[at + len(what) :],
    lambda text, at, what: text[:at] + text[at : at + 20] * 2 + text[at + 20 :],
]
TOKENS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\x00",
    b"\xff",
    b"-",
    b"1e400",
    b"null",
    b"true",
    b"\\u0000",
]

_seconds = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
_emotions = st.dictionaries(st.sampled_from(["happy", "sad", "angry", "neutral"]), _seconds)
_person_ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=128)
_believable = st.datetimes(datetime(2020, 1, 1), datetime(2025, 11, 14, 12, 36), timezones=st.just(UTC))  # noqa: DTZ001


@dataclass
class Edit:
    kind: int
    place: int
    what: bytes

    def apply(self, text: bytes) -> bytes:
        return EDITS[self.kind](text, self.place % (len(text) + 1), self.what)


_edits = st.builds(
    Edit,
    st.integers(0, len(EDITS) - 1),
    st.integers(0, 1_000),
    st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=4),
)


def _is_valid(batch: Batch) -> bool:
    in_calendar = EARLIEST_TIMESTAMP <= batch.timestamp <= RECEIVED_AT + timedelta(seconds=60)
    seconds = [value for cumulative in batch.people.values() for value in _values(cumulative)]
    return (
        batch.device_id == "jetson_1"
        and in_calendar
        and all(0 <= value < float("inf") for value in seconds)
        and all(1 <= len(person_id) <= 128 and "\x00" not in person_id for person_id in batch.people)
        and all(person_id.encode() for person_id in batch.people)
    )


def _decodes_or_is_refused(text: bytes) -> bool:
    try:
        batch = read(text)
    except DecodeError:
        return True
    return _is_valid(batch)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_valid_batch_or_refused(text: bytes) -> None:
    assert _decodes_or_is_refused(text)


@settings(max_examples=500)
@given(st.lists(_edits, min_size=1, max_size=5))
def test_an_edited_batch_is_a_valid_batch_or_refused(edits: list[Edit]) -> None:
    text = EXAMPLE
    for edit in edits:
        text = edit.apply(text)

    assert _decodes_or_is_refused(text)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(["device_id", "timestamp", "people", "person_id", "cumulative", "happy", "joy", "extra"]), _json)
def test_any_json_value_in_any_place_is_a_valid_batch_or_refused(place: str, value: Any) -> None:
    cumulative: dict[str, Any] = {"happy": 1}
    person: dict[str, Any] = {"person_id": "1", "cumulative": cumulative}
    whole: dict[str, Any] = {"device_id": "jetson_1", "timestamp": "2025-11-14T12:34:56Z", "people": [person]}
    target = cumulative if place in ("happy", "joy") else person if place in ("person_id", "cumulative") else whole
    target[place] = value

    assert _decodes_or_is_refused(json.dumps(whole).encode())


@given(_believable, st.dictionaries(_person_ids, _emotions, max_size=5))
def test_what_is_encoded_decodes_to_the_same(timestamp: datetime, people: dict[str, dict[str, float]]) -> None:
    batch = read(encode("jetson_1", timestamp, people))

    assert (batch.timestamp, batch.clock_skew, batch.ignored) == (timestamp, None, None)
    assert {person: _values(c) for person, c in batch.people.items()} == {
        person: tuple(seconds.get(name, 0.0) for name in ("happy", "sad", "angry", "neutral"))
        for person, seconds in people.items()
    }


def _values(cumulative: Cumulative) -> tuple[float, float, float, float]:
    return cumulative.happy, cumulative.sad, cumulative.angry, cumulative.neutral
