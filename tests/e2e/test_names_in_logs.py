"""No log names a person in any fault: not the daemon's, the API's, the device's or the broker's."""

import json
import secrets
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine, select, text

from emotion_device import InvalidBatch, Publisher
from shared.batch import encode
from shared.schema import rejected_message
from tests.brokers import Broker
from tests.clients import Client
from tests.databases import disposing, reading
from tests.e2e.test_erasure import LOUD, bad_batches
from tests.faults.history import TOPICS
from tests.faults.rig import SUBSCRIBED, person_is_stored, rejected_count
from tests.postgresql import PostgreSQL
from tests.processes import Daemon
from tests.waiting import wait_until
from tests.web import HISTORY, HOST, SUMMARY, Api


@pytest.fixture
def name() -> str:
    return f"zofie-{secrets.token_hex(8)}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


@pytest.fixture
def daemon(broker: Broker, database_url: str, log: Path) -> Iterator[Daemon]:
    with Daemon(broker, database_url, log, **LOUD) as started:
        started.wait_for_log(SUBSCRIBED)
        yield started


def test_neither_good_nor_bad_batches_are_named_in_a_log_a_reason_or_an_answer(
    daemon: Daemon, broker: Broker, database_url: str, name: str
) -> None:
    stamp = datetime.now(UTC)
    good = encode("jetson_1", stamp, {name: {"happy": 1.0}})
    stray = json.dumps({"device_id": name, "timestamp": name, "people": {name: {"happy": 1}}}).encode()
    bad = [
        *bad_batches(name),
        stray,
        good.replace(b'"happy"', b'"sad":"x","happy"'),
        good.replace(name.encode(), name.encode() + b"\\u0007"),
        good.replace(name.encode(), name.encode() * 9),
        good.replace(name.encode(), name.encode() + b"\xff"),
        good.replace(b'"person_id"', f'"{name}"'.encode()),
        good.replace(b'"jetson_1"', f'"{name}"'.encode()),
        good.replace(stamp.isoformat().replace("+00:00", "Z").encode(), name.encode()),
    ]
    assert not [payload for payload in bad if payload == good]
    with Client(broker, "jetson_1") as camera:
        camera.listen(TOPICS.reply("jetson_1"))
        for payload in [good, *bad]:
            camera.send(TOPICS.batch("jetson_1"), payload, response_topic=TOPICS.reply("jetson_1"))
        camera.send(TOPICS.status("jetson_1"), name.encode())
        # One log line a topic: each of them has to be seen.
        for number, payload in enumerate(bad):
            camera.send(TOPICS.batch(f"camera_{number}"), payload)
        wait_until(lambda: len(camera.seen) == len(bad) + 1, what="all are answered")
        wait_until(lambda: rejected_count(database_url) == 2 * len(bad) + 1, what="all are recorded")
        answers = [seen.payload for seen in camera.seen]
    with reading(database_url) as connection:
        reasons = list(connection.scalars(select(rejected_message.c.reason)))

    assert person_is_stored(database_url, "jetson_1", name)
    assert not [answer for answer in answers if name.encode() in answer]
    assert not [reason for reason in reasons if name in reason]
    assert "INSERT INTO person_emotion" in daemon.log()
    assert name not in daemon.log()
    assert name not in broker.log()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_is_asked_for_is_not_named_by_the_api(database_url: str, name: str, daemon: Daemon, tmp_path: Path) -> None:
    words = f"{name} {name}"
    with Api(database_url, tmp_path / "api.log", **LOUD, GUNICORN_CMD_ARGS="--access-logfile -") as api:
        answered = [
            api.ask(f"{path}?device_id=jetson_1&after={quote(words)}&limit={limit}").status
            for path in (SUMMARY, HISTORY)
            for limit in ("1", "x")
        ]
        refused = [
            said(api.port, request)
            for request in (
                f"GET {SUMMARY}?after={words} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                f"GET {SUMMARY}?after={words}\r\n\r\n",
                f"GET {SUMMARY}?after={name * 200} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                f"GET / HTTP/1.1\r\n{words}: x\r\n\r\n",
                f"GET / HTTP/1.1\r\nHost: localhost\r\n {words}\r\n\r\n",
                f"{name} / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            )
        ]
        wait_until(lambda: api.log().count("Invalid request from ") >= 5, what="gunicorn's lines about them")
        log = api.log()

    assert set(answered) <= {200, 400}
    assert not [status for status in refused if status.startswith("200")]
    assert f'"GET {SUMMARY}"' in log
    assert name not in log


def said(port: int, request: str) -> str:
    """The status line that raw bytes get, without the version."""
    with socket.create_connection((HOST, port), timeout=15) as connection:
        connection.sendall(request.encode())
        return connection.makefile("rb").readline().decode().partition(" ")[2]


def test_a_statement_that_the_database_refuses_is_not_logged_with_its_values(
    broker: Broker, postgresql: PostgreSQL, log: Path, name: str
) -> None:
    """PostgreSQL says in its error which row it was."""
    url = postgresql.new_database()
    with Daemon(broker, url, log, **LOUD) as daemon, Client(broker, "jetson_1") as camera:
        daemon.wait_for_log(SUBSCRIBED)
        with disposing(create_engine(url)) as engine, engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE person_emotion ADD CHECK (person_id <> '{name}')"))
        camera.publish(TOPICS.batch("jetson_1"), encode("jetson_1", datetime.now(UTC), {name: {"happy": 1.0}}))
        wait_until(lambda: rejected_count(url) == 1, what="it is recorded")

        assert "the database refused it" in daemon.log()
        assert name not in daemon.log()


def test_a_device_does_not_name_whom_it_cannot_send(
    start_broker: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_broker("max_packet_size 200")
    caplog.set_level("DEBUG")
    with Publisher("jetson_1", host=broker.host, port=broker.port) as publisher:
        publisher.publish({name * 4: {"happy": 1.0, "sad": 1.0, "angry": 1.0, "neutral": 1.0}})
        wait_until(lambda: "the entry of one person alone is a payload of" in caplog.text, what="it is said")
        with pytest.raises(InvalidBatch) as caught:
            publisher.publish({name: {"happy": -1.0}})

    assert name not in caplog.text
    assert name not in str(caught.value)
