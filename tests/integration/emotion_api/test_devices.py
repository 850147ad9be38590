"""All devices and how they are doing, as a client gets them from a real database."""

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, insert, update

from shared.database import writer_engine
from shared.schema import device, device_state, rejected_message
from shared.settings import Settings
from tests.databases import add_row, disposing, make_tables, raise_revision_of
from tests.web import DEVICES, served

NOON = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)


@pytest.fixture
def client(database_url: str) -> Iterator[FlaskClient]:
    with served(Settings(database_url=database_url, silent_after=10.0), now=lambda: NOON) as client:
        yield client


def ago(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


def reject(writer: Engine, topic: str, at: datetime) -> None:
    add_row(writer, rejected_message, received_at=at, topic=topic, reason="not JSON", payload=b"", payload_size=0)


def devices(client: FlaskClient) -> list[dict[str, Any]]:
    answer = client.get(DEVICES)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    found: list[dict[str, Any]] = answer.json["devices"]
    return found


def test_the_devices_are_the_agreed_json(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="jetson_1", updated_at=ago(5))
    add_row(
        writer,
        device_state,
        device_id="jetson_1",
        received_at=ago(4.9),
        people=3,
        clock_skew=-0.1,
        status="online",
        status_at=ago(100),
    )

    answer = client.get(DEVICES)

    assert answer.content_type == "application/json"
    assert answer.text == (
        '{"silent_after":10.0,"time_zone":"UTC",'
        '"devices":[{"device_id":"jetson_1","device_name":"Entrance Camera","online":true,"status":"online",'
        '"status_at":"2025-11-14T11:58:20Z","last_batch":"2025-11-14T11:59:55Z",'
        '"received_at":"2025-11-14T11:59:55.100000Z","people_now":3,"clock_skew":-0.1,"clock_offset":0.0,'
        '"rejected_last_hour":0,"info":null}]}'
    )


def test_without_any_device_the_list_is_empty(writer: Engine, client: FlaskClient) -> None:
    assert client.get(DEVICES).json == {"silent_after": 10.0, "time_zone": "UTC", "devices": []}


def test_listed_are_all_devices_and_those_that_are_only_connected(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="named", device_name="Hall")
    add_row(writer, device, device_id="B", updated_at=NOON)
    add_row(
        writer, device_state, device_id="B", received_at=NOON, received_by="daemon", status="online", status_at=NOON
    )
    add_row(writer, device_state, device_id="daemon", status="online", status_at=NOON)
    add_row(writer, device_state, device_id="connected", status="online", status_at=NOON)
    add_row(writer, device_state, device_id="gone", status="offline", status_at=NOON)

    found = devices(client)

    assert [(each["device_id"], each["device_name"], each["online"], each["status"]) for each in found] == [
        ("B", "B", True, "online"),
        ("connected", "connected", False, "online"),
        ("named", "Hall", False, None),
    ]


def test_messages_that_were_rejected_in_the_last_hour_are_counted(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="jetson_1")
    reject(writer, "emotions/jetson_1/batch", ago(3601))
    reject(writer, "emotions/jetson_1/batch", ago(3600))
    reject(writer, "emotions/jetson_1/batch", ago(0))
    reject(writer, "emotions/jetson_1/status", ago(0))
    reject(writer, "emotions/jetson_2/batch", ago(0))

    found, other = devices(client)

    assert found["rejected_last_hour"] == 3
    assert (other["device_id"], other["rejected_last_hour"], other["last_batch"]) == ("jetson_2", 1, None)


def test_the_topics_have_the_prefix_of_the_settings(sqlite_url: str) -> None:
    make_tables(sqlite_url)
    with disposing(writer_engine(sqlite_url)) as writer:
        add_row(writer, device, device_id="jetson_1")
        reject(writer, "site/a/jetson_1/batch", ago(0))
    with served(Settings(database_url=sqlite_url, mqtt_topic_prefix="site/a"), now=lambda: NOON) as client:
        (found,) = devices(client)

    assert found["rejected_last_hour"] == 1


def test_a_new_name_shows_in_the_next_answer(writer: Engine, client: FlaskClient) -> None:
    add_row(writer, device, device_id="jetson_1", device_name="Hall")
    before = devices(client)
    with writer.begin() as connection:
        connection.execute(update(device).values(device_name="Yard"))
    raise_revision_of(writer, "jetson_1")
    after = devices(client)

    assert (before[0]["device_name"], after[0]["device_name"]) == ("Hall", "Yard")


def test_an_unchanged_list_is_not_sent_again(writer: Engine, client: FlaskClient) -> None:
    first = client.get(DEVICES)
    again = client.get(DEVICES, headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.data) == (304, b"")


def test_very_many_devices_are_listed_and_compressed(writer: Engine, client: FlaskClient) -> None:
    with writer.begin() as connection:
        connection.execute(insert(device), [{"device_id": f"{number:04}"} for number in range(1_200)])

    answer = client.get(DEVICES, headers={"Accept-Encoding": "gzip"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.data).count(b'"device_id"') == 1_200
