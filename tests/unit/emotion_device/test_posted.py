"""The body of a POST to the bridge."""

from __future__ import annotations

import pytest

from emotion_device import InvalidBatch
from emotion_device.posted import read


def payload(
    *,
    device_id: str = '"jetson_1"',
    timestamp: str = '"2025-11-14T12:34:56Z"',
    person_id: str = '"1"',
    cumulative: str = '{"happy": 1}',
) -> bytes:
    """A valid body with some values replaced. It imports nothing of ours: this file runs on every Python."""
    person = f'{{"person_id": {person_id}, "cumulative": {cumulative}}}'
    return f'{{"device_id": {device_id}, "timestamp": {timestamp}, "people": [{person}]}}'.encode()


@pytest.mark.parametrize(
    ("timestamp", "utc"),
    [
        ("2025-11-14T12:34:56Z", "12:34:56"),
        ("2025-11-14t12:34:56z", "12:34:56"),
        ("2025-11-14 12:34:56", "12:34:56"),
        ("2025-11-14T12:34", "12:34:00"),
        ("2025-11-14", "00:00:00"),
        ("2025-11-14T12:34:56.5", "12:34:56.500000"),
        ("2025-11-14T12:34:56.123456789Z", "12:34:56.123456"),
        ("2025-11-14T13:34:56,25+01:00", "12:34:56.250000"),
        ("2025-11-14T13:34:56+0100", "12:34:56"),
        ("2025-11-14T13:34:56+01", "12:34:56"),
        ("2025-11-14T05:04:56-07:30", "12:34:56"),
    ],
)
def test_a_timestamp_becomes_utc(timestamp: str, utc: str) -> None:
    assert read(payload(timestamp=f'"{timestamp}"')).timestamp.isoformat() == f"2025-11-14T{utc}+00:00"


def test_a_body_has_the_device_and_the_people() -> None:
    posted = read(payload(cumulative='{"happy": 123.5, "sad": 20}'))

    assert posted.device_id == "jetson_1"
    assert posted.people == {"1": {"happy": 123.5, "sad": 20}}


def test_a_person_who_is_named_twice_has_the_last_entry() -> None:
    body = b"""{"device_id": "jetson_1", "timestamp": "2025-11-14", "people": [
        {"person_id": 1, "cumulative": {"happy": 1}}, {"person_id": "1", "cumulative": {"sad": 2}}]}"""

    assert read(body).people == {"1": {"sad": 2}}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "the batch is not a JSON object"),
        (b"{}", "the batch has no device_id"),
        (payload(device_id="1"), "device_id has the wrong type"),
        (payload(timestamp="null"), "timestamp has the wrong type"),
        (payload(timestamp='"yesterday"'), "timestamp is not ISO 8601"),
        (payload(timestamp='"2025-02-30T00:00:00Z"'), "not a time of the calendar"),
        (payload(timestamp='"9999-12-31T23:59:59-23:00"'), "not a time of the calendar"),
        (payload(person_id="true"), "person 1: person_id has the wrong type"),
        (payload(person_id="null"), "person 1: person_id has the wrong type"),
        (payload(cumulative="7"), "person 1: cumulative has the wrong type"),
        (b'{"device_id": "jetson_1", "timestamp": "2025-11-14", "people": {}}', "people has the wrong type"),
        (b'{"device_id": "jetson_1", "timestamp": "2025-11-14", "people": [1]}', "person 1 is not a JSON object"),
    ],
)
def test_an_invalid_body_is_refused_with_its_fault(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidBatch, match=reason):
        read(body)
