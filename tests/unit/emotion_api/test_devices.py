"""The list says if a device is online, and more about it."""

import json
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from emotion_api.devices import DEVICES_A_PIECE, Circumstances, DeviceRow, encode_devices, is_online
from shared.batch import Topics

NOW = datetime(2025, 11, 14, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def listed(*rows: DeviceRow, rejected: dict[str, int] | None = None) -> list[dict[str, Any]]:
    circumstances = Circumstances(
        now=NOW, silent_after=30.0, time_zone="UTC", topics=Topics("site/a"), rejected=MappingProxyType(rejected or {})
    )
    text = b"".join(encode_devices(rows, circumstances, lambda device_id, name: name or f"{device_id}'s"))
    answer = json.loads(text)
    assert list(answer) == ["silent_after", "time_zone", "devices"]
    devices: list[dict[str, Any]] = answer["devices"]
    return devices


@pytest.mark.parametrize(
    ("received", "status", "status_at", "online"),
    [
        (None, None, None, False),
        (None, "online", ago(0), False),
        (ago(0), None, None, True),
        (ago(30), None, None, True),
        (ago(30.001), None, None, False),
        (ago(-3600), None, None, True),
        (ago(10), "online", ago(20), True),
        (ago(60), "online", ago(1), False),
        (ago(10), "offline", ago(20), True),
        (ago(10), "offline", ago(10), False),
        (ago(10), "offline", ago(5), False),
        (ago(10), "offline", None, True),
    ],
)
def test_the_newest_evidence_tells_whether_a_device_is_online(
    received: datetime | None, status: str | None, status_at: datetime | None, online: bool
) -> None:
    row = DeviceRow("a", received_at=received, status=status, status_at=status_at)

    assert is_online(row, now=NOW, silent_after=30.0) is online


def test_a_device_is_listed_with_all_that_is_known_of_it() -> None:
    row = DeviceRow("a", "Hall", ago(10), ago(9.9), 3, -0.1, 3_600.0, "online", ago(100), '{"fps":24.8}')

    assert listed(row) == [
        {
            "device_id": "a",
            "device_name": "Hall",
            "online": True,
            "status": "online",
            "status_at": "2025-11-14T11:58:20Z",
            "last_batch": "2025-11-14T11:59:50Z",
            "received_at": "2025-11-14T11:59:50.100000Z",
            "people_now": 3,
            "clock_skew": -0.1,
            "clock_offset": 3_600.0,
            "rejected_last_hour": 0,
            "info": {"version": None, "fps": 24.8, "queue_age": None, "last_ack": None, "reconnects": None},
        }
    ]


def test_a_device_of_which_nothing_is_known_is_listed_too() -> None:
    (device,) = listed(DeviceRow("a"))

    assert device == {
        "device_id": "a",
        "device_name": "a's",
        "online": False,
        "status": None,
        "status_at": None,
        "last_batch": None,
        "received_at": None,
        "people_now": 0,
        "clock_skew": None,
        "clock_offset": 0.0,
        "rejected_last_hour": 0,
        "info": None,
    }


def test_nobody_is_before_a_device_that_is_not_online() -> None:
    (device,) = listed(DeviceRow("a", received_at=ago(31), people=3))

    assert device["people_now"] == 0


def test_a_status_that_is_none_is_not_told() -> None:
    (device,) = listed(DeviceRow("a", status="asleep"))

    assert device["status"] is None


def test_rejected_messages_are_those_of_both_its_topics() -> None:
    rejected = {"site/a/a/batch": 2, "site/a/a/status": 3, "site/a/b/batch": 100, "emotions/a/batch": 100}

    devices = listed(DeviceRow("a"), DeviceRow("b"), rejected=rejected)

    assert [device["rejected_last_hour"] for device in devices] == [5, 100]


def test_who_sent_nothing_valid_is_listed_for_as_long_as_that_is_counted() -> None:
    rejected = {"site/a/new/batch": 2, "site/a/no device/batch": 1, "other": 1}

    devices = listed(DeviceRow("a"), rejected=rejected)

    assert [(device["device_id"], device["rejected_last_hour"]) for device in devices] == [("a", 0), ("new", 2)]


def test_devices_are_in_order_of_their_ids_by_code_points() -> None:
    ids = ["b", "a", "B", "10", "9", "_", "-"]

    assert [device["device_id"] for device in listed(*map(DeviceRow, ids))] == sorted(ids)


def test_very_many_devices_are_all_listed() -> None:
    ids = [f"{number:05}" for number in range(2 * DEVICES_A_PIECE + 1)]

    assert [device["device_id"] for device in listed(*map(DeviceRow, ids))] == ids
