"""`/asyncapi.json` and `/schemas/batch.json` as programmers of devices get them; all they say is true."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from flask.testing import FlaskClient
from paho.mqtt.client import MQTTMessage

from emotion_device import Publisher, Reply
from shared.batch import Topics
from shared.contract import asyncapi, batch_schema
from shared.settings import Settings
from tests.brokers import Broker
from tests.clients import Client
from tests.integration.emotion_device.test_publisher import Listener
from tests.processes import Daemon
from tests.waiting import wait_until
from tests.web import served

ASYNCAPI, SCHEMA = "/asyncapi.json", "/schemas/batch.json"
DASHBOARD = "http://localhost:3000"


@pytest.fixture
def client(sqlite_url: str) -> Iterator[FlaskClient]:
    """An API whose database is not there yet, and which asks for a token."""
    with served(
        Settings(database_url=sqlite_url, api_tokens=("0123456789abcdef",), mqtt_topic_prefix="site/e")
    ) as client:
        yield client


def test_the_asyncapi_document_is_served_with_the_topics_of_the_settings(client: FlaskClient) -> None:
    answer = client.get(ASYNCAPI)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.json == asyncapi(Topics("site/e"))


def test_the_schema_is_served_as_a_schema(client: FlaskClient) -> None:
    answer = client.get(SCHEMA)

    assert (answer.status_code, answer.content_type) == (200, "application/schema+json")
    assert answer.get_json(force=True) == batch_schema()


@pytest.mark.parametrize("path", [ASYNCAPI, SCHEMA])
def test_what_has_not_changed_is_not_sent_again(path: str, client: FlaskClient) -> None:
    etag = client.get(path).headers["ETag"]
    answer = client.get(path, headers={"If-None-Match": etag})

    assert (answer.status_code, answer.data) == (304, b"")


@pytest.mark.parametrize("path", [ASYNCAPI, SCHEMA])
def test_a_configured_origin_may_read_them(path: str, client: FlaskClient) -> None:
    answer = client.get(path, headers={"Origin": DASHBOARD})

    assert answer.headers["Access-Control-Allow-Origin"] == DASHBOARD
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", [ASYNCAPI, SCHEMA])
def test_they_are_for_reading(path: str, client: FlaskClient) -> None:
    assert client.post(path, headers={"Authorization": "Bearer 0123456789abcdef"}).status_code == 405


def test_the_openapi_document_leads_to_both(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()

    assert "(asyncapi.json)" in document["info"]["description"]
    assert "(schemas/batch.json)" in document["info"]["description"]


def test_what_travels_between_a_device_and_the_daemon_is_what_the_document_says(
    broker: Broker, sqlite_url: str, tmp_path: Path
) -> None:
    document = asyncapi(Topics("emotions"))
    replies: list[Reply] = []
    with Listener(broker, "emotions") as listener, Daemon(broker, sqlite_url, tmp_path / "log") as daemon:
        daemon.wait_for_log(" connected to ")
        with Publisher("jetson_1", host=broker.host, port=broker.port, on_reply=replies.append) as publisher:
            publisher.publish({"1": {"happy": 1.0}})
            publisher.set_info(fps=24.8)
            wait_until(lambda: replies, what="the batch is answered")
        daemon.kill()
        wait_until(lambda: listener.statuses.count(b"offline") == 2, what="the daemon's last will is heard, too")
        with Client(broker, "late") as late:
            late.listen("emotions/#")
            wait_until(lambda: len(late.seen) >= 3, what="what is retained arrives")

    for operation in document["operations"].values():
        channel = document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
        address = re.compile(re.escape(channel["address"]).replace(re.escape("{device_id}"), "[^/]+"))
        sent = [message for message in listener.messages if address.fullmatch(message.topic)]
        binding = operation["bindings"]["mqtt"]
        assert {message.qos for message in sent} == {binding["qos"]}
        assert any(address.fullmatch(seen.topic) for seen in late.seen) == binding["retain"]
        assert [kinds(document, channel, message) for message in sent] == [1] * len(sent)
    will = document["servers"]["mqtt"]["bindings"]["mqtt"]["lastWill"]
    assert [(seen.topic, seen.payload.decode(), seen.retained) for seen in late.seen if "daemon" in seen.topic] == [
        (will["topic"].format(device_id="emotion-daemon"), will["message"], will["retain"])
    ]


def kinds(document: dict[str, Any], channel: dict[str, Any], message: MQTTMessage) -> int:
    """As how many of the channel's messages a payload is valid: one, where all is well."""
    names = [reference["$ref"].rpartition("/")[2] for reference in channel["messages"].values()]
    described = [document["components"]["messages"][name] for name in names]
    text = message.payload.decode()
    return sum(
        jsonschema_rs.is_valid(each["payload"], json.loads(text) if "json" in each["contentType"] else text)
        for each in described
    )
