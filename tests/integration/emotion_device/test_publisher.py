"""The publisher against a real Mosquitto; a plain paho client plays the daemon."""

import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from emotion_device import BatchTooLarge, InvalidBatch, Network, Publisher, PublisherClosed, Reply, __version__
from emotion_device.outbox import Message
from shared.batch import decode
from tests.brokers import Broker
from tests.certificates import Authority
from tests.waiting import free_port, wait_until

NOW = datetime(2025, 11, 14, 12, 34, 56, tzinfo=UTC)

StartBroker = Callable[[str], Broker]


class Listener:
    """Receives everything below a prefix, and answers batches the way `answer` says. Its session outlives a restart."""

    def __init__(self, broker: Broker, prefix: str, answer: Callable[[bytes], bytes] | None = None) -> None:
        self.messages: list[mqtt.MQTTMessage] = []
        self._filter = f"{prefix}/#"
        self._answer = answer
        self._subscribed = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"listener-{uuid.uuid4()}", protocol=mqtt.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect(broker.host, broker.port, clean_start=False, properties=session)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._subscribed.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def batches(self) -> list[dict[str, Any]]:
        """The payloads of all batches so far, as JSON."""
        return [json.loads(payload) for payload in self.payloads]

    @property
    def payloads(self) -> list[bytes]:
        return [bytes(message.payload) for message in self.messages if message.topic.endswith("/batch")]

    @property
    def statuses(self) -> list[bytes]:
        return [bytes(message.payload) for message in self.messages if message.topic.endswith("/status")]

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe(self._filter, qos=1)

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        self.messages.append(message)
        if self._answer is not None and message.topic.endswith("/batch"):
            asked: Any = message.properties
            properties = Properties(PacketTypes.PUBLISH)
            properties.CorrelationData = asked.CorrelationData
            client.publish(asked.ResponseTopic, self._answer(bytes(message.payload)), 1, properties=properties)


@pytest.fixture
def listener(broker: Broker, topic_prefix: str) -> Iterator[Listener]:
    with Listener(broker, topic_prefix) as started:
        yield started


@pytest.fixture
def publisher(broker: Broker, topic_prefix: str) -> Iterator[Publisher]:
    with Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix) as started:
        yield started


def people(happy: float, *person_ids: str) -> dict[str, dict[str, float]]:
    return {person_id: {"happy": happy} for person_id in person_ids or ("1",)}


def happy_of(batch: dict[str, Any]) -> dict[str, float]:
    return {person["person_id"]: person["cumulative"]["happy"] for person in batch["people"]}


def wait_connected(*publishers: Publisher) -> None:
    for publisher in publishers:
        wait_until(lambda publisher=publisher: publisher.connected, what="connected")  # type: ignore[misc]


def within(seconds: float, action: Callable[[], object]) -> bool:
    """Return True if `action` returns in time; it runs in a thread of its own, so that a test cannot hang on it."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def address(server: socket.socket) -> dict[str, Any]:
    server.settimeout(10)
    return {"host": "127.0.0.1", "port": server.getsockname()[1]}


def accept(server: socket.socket) -> socket.socket:
    """Play a broker that takes the connection and the presence, and nothing that comes after."""
    connection, _ = server.accept()
    connection.settimeout(10)
    receive_until(connection, b"offline")  # the will in CONNECT
    connection.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK, success
    receive_until(connection, b"online")
    connection.sendall(b"\x40\x02\x00\x01")  # PUBACK of packet id 1
    return connection


def receive_until(connection: socket.socket, token: bytes) -> bytes:
    received = b""
    while token not in received:
        part = connection.recv(10_000)
        assert part, "the publisher closed the connection"
        received += part
    return received


def retained_status(broker: Broker, prefix: str) -> list[bytes]:
    with Listener(broker, prefix) as listener:
        wait_until(lambda: listener.statuses, what="a retained status")
        return listener.statuses


def test_a_published_batch_arrives_as_the_daemon_reads_it(listener: Listener, publisher: Publisher) -> None:
    publisher.publish({"1": {"happy": 123.5, "sad": 20.0}}, NOW)

    wait_until(lambda: listener.payloads)
    batch = decode(listener.payloads[0], device_id="jetson_1", received_at=datetime.now(UTC))
    assert batch.timestamp == NOW
    assert (batch.people["1"].happy, batch.people["1"].sad) == (123.5, 20.0)


def test_the_stamp_is_now_where_none_is_given(listener: Listener, publisher: Publisher) -> None:
    before = datetime.now(UTC)

    publisher.publish(people(1.0))

    wait_until(lambda: listener.batches)
    assert before <= datetime.fromisoformat(listener.batches[0]["timestamp"]) <= datetime.now(UTC)


def test_an_acknowledged_batch_is_counted(listener: Listener, publisher: Publisher) -> None:
    publisher.publish(people(1.0))

    wait_until(lambda: publisher.acknowledged == 1)
    assert publisher.sent == 1


def test_bad_values_are_refused_at_once(publisher: Publisher) -> None:
    with pytest.raises(InvalidBatch, match="person 1 of 1, happy: -1"):
        publisher.publish({"1": {"happy": -1}})

    assert publisher.sent == 0


def test_unknown_emotions_are_not_sent_and_are_named_once(
    listener: Listener, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        publisher.publish({np.int64(1): {np.str_("happy"): np.float32(number), "unknown": 5.0}})
        wait_until(lambda number=number: publisher.acknowledged == number + 1)  # type: ignore[misc]

    wait_until(lambda: len(listener.batches) == 3)
    assert listener.batches[-1]["people"] == [{"person_id": "1", "cumulative": {"happy": 2.0}}]
    assert caplog.text.count("the seconds of 'unknown' are not sent") == 1


def test_a_clock_that_is_not_set_is_logged_once_until_it_is(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    for year in (1970, 1970, 2025, 2020, 2019):
        publisher.publish({}, NOW.replace(year=year))

    lines = [record.message for record in caplog.records if "clock of this device is not set" in record.message]
    assert len(lines) == 2
    assert "1970-11-14" in lines[0]


def test_a_fork_cannot_publish_and_says_so_at_once(broker: Broker, listener: Listener) -> None:
    program = """
import os, sys
from emotion_device import Network, Publisher, PublisherClosed
publisher = Publisher("jetson_1", host=sys.argv[1], port=int(sys.argv[2]))
publisher.publish({"1": {"happy": 1}})
while not publisher.acknowledged:
    pass
child = os.fork()
if child == 0:
    assert not publisher.connected
    for attempt in (lambda: publisher.publish({}), lambda: Publisher("jetson_2", network=publisher._network)):
        try:
            attempt()
        except PublisherClosed as error:
            print(error, flush=True)
    assert not publisher.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert publisher.connected
publisher.publish({"1": {"happy": 2}})
assert publisher.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, broker.host, str(broker.port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.count("was forked") == 2
    wait_until(lambda: [happy_of(batch) for batch in listener.batches] == [{"1": 1.0}, {"1": 2.0}])
    assert b"offline" not in listener.statuses[:-1]


def test_a_broker_that_no_longer_acknowledges_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotion_device.publisher._SILENT_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Publisher("jetson_1", **address(server)) as publisher,
        accept(server) as connection,
    ):
        wait_connected(publisher)
        publisher.publish(people(1.0))
        wait_until(lambda: not publisher.connected, what="not connected")

        connection.sendall(b"\x40\x02\x00\x02")  # PUBACK of packet id 2

        wait_connected(publisher)
        publisher.close(timeout=0)


def test_only_the_newest_batch_is_sent_when_the_broker_comes_back(
    broker: Broker, listener: Listener, publisher: Publisher
) -> None:
    wait_connected(publisher)
    broker.stop()
    wait_until(lambda: not publisher.connected)

    for number in range(100):
        publisher.publish(people(float(number)))
    broker.start()

    wait_until(lambda: publisher.acknowledged and listener.batches)
    assert [happy_of(batch) for batch in listener.batches] == [{"1": 99.0}]
    assert publisher.sent == 1


def test_who_left_while_the_broker_was_away_is_sent_with_their_own_stamp(
    broker: Broker, listener: Listener, publisher: Publisher
) -> None:
    wait_connected(publisher)
    broker.stop()
    wait_until(lambda: not publisher.connected)

    publisher.publish(people(1.0, "1", "2"), NOW)
    publisher.publish(people(2.0, "2"), NOW + timedelta(seconds=1))
    broker.start()

    wait_until(lambda: len(listener.batches) == 2)
    assert [(batch["timestamp"], happy_of(batch)) for batch in listener.batches] == [
        ("2025-11-14T12:34:56Z", {"1": 1.0}),
        ("2025-11-14T12:34:57Z", {"2": 2.0}),
    ]


def test_publish_returns_while_nobody_answers(topic_prefix: str) -> None:
    publisher = Publisher("jetson_1", port=free_port(), topic_prefix=topic_prefix)

    def publish_many() -> None:
        for number in range(1_000):
            publisher.publish(people(float(number)))

    returned = within(10, publish_many)
    complete = publisher.close(timeout=0.1)

    assert returned
    assert not complete


def test_a_publisher_started_before_the_broker_connects_later(topic_prefix: str, broker: Broker) -> None:
    broker.stop()
    with Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix) as publisher:
        publisher.publish(people(1.0))
        broker.start()

        wait_until(lambda: publisher.acknowledged == 1)


def test_an_unreachable_broker_is_logged_once_and_not_every_attempt(
    topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher("jetson_1", port=free_port(), topic_prefix=topic_prefix) as publisher:
        wait_until(lambda: publisher._failures >= 3)

    assert len([record for record in caplog.records if "cannot reach the broker" in record.message]) == 1


def test_a_batch_above_the_packet_size_is_sent_in_parts(start_broker: StartBroker, topic_prefix: str) -> None:
    broker = start_broker("max_packet_size 2000")
    batch = people(1.5, *(f"person-{number}" for number in range(200)))
    with (
        Listener(broker, topic_prefix) as listener,
        Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix) as publisher,
    ):
        publisher.publish(batch, NOW)
        wait_until(lambda: sum(len(part["people"]) for part in listener.batches) >= 200)

    assert len(listener.batches) > 4
    assert {part["timestamp"] for part in listener.batches} == {"2025-11-14T12:34:56Z"}
    assert {key: value for part in listener.batches for key, value in happy_of(part).items()} == dict.fromkeys(
        batch, 1.5
    )


def test_every_part_gets_its_reply_within_the_packet_size(start_broker: StartBroker, topic_prefix: str) -> None:
    broker = start_broker("max_packet_size 2000")
    replies: list[Reply] = []
    with (
        Listener(broker, topic_prefix, lambda payload: b'{"status":"ok","updated_count":1}') as listener,
        Publisher(
            "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, on_reply=replies.append
        ) as publisher,
    ):
        publisher.publish(people(1.5, *(f"person-{number}" for number in range(200))), NOW)
        wait_until(lambda: len(replies) > 4 and len(replies) == publisher.acknowledged == len(listener.batches))

    assert {reply.timestamp for reply in replies} == {NOW}


def test_a_person_too_large_for_the_broker_raises_once_its_limit_is_known(
    start_broker: StartBroker, topic_prefix: str
) -> None:
    broker = start_broker("max_packet_size 220")
    with Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix) as publisher:
        wait_connected(publisher)

        with pytest.raises(BatchTooLarge) as caught:
            publisher.publish(people(1.0, "1", "x" * 128))

    assert caught.value.person_id == "x" * 128
    assert caught.value.limit < 220 < caught.value.size


def test_a_person_too_large_for_the_broker_is_called_back_and_the_others_are_sent(
    start_broker: StartBroker, topic_prefix: str
) -> None:
    broker = start_broker("max_packet_size 280")
    broker.stop()
    replies: list[Reply] = []
    with Publisher(
        "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, on_reply=replies.append
    ) as publisher:
        publisher.publish(people(1.0, "1", "x" * 128), NOW)
        broker.start()
        wait_until(lambda: publisher.acknowledged == 1)

    assert [(reply.status, reply.timestamp) for reply in replies] == [("error", NOW)]
    assert "the entry of one person alone is a payload of" in (replies[0].error or "")


def test_the_daemons_replies_reach_the_caller(broker: Broker, topic_prefix: str) -> None:
    answers = iter([b'{"status":"ok","updated_count":2}', b'{"status":"error","error":"no such device"}'])
    replies: list[Reply] = []
    with (
        Listener(broker, topic_prefix, lambda payload: next(answers)),
        Publisher(
            "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, on_reply=replies.append
        ) as publisher,
    ):
        publisher.publish(people(1.0, "1", "2"), NOW)
        wait_until(lambda: len(replies) == 1)
        publisher.publish(people(2.0), NOW + timedelta(microseconds=1))
        wait_until(lambda: len(replies) == 2)

    assert replies == [
        Reply("ok", NOW, updated_count=2),
        Reply("error", NOW + timedelta(microseconds=1), error="no such device"),
    ]


def test_a_reply_that_cannot_be_read_is_ignored(broker: Broker, topic_prefix: str) -> None:
    answers = iter([b"\xff", b'{"status":"ok","updated_count":1}'])
    replies: list[Reply] = []
    with (
        Listener(broker, topic_prefix, lambda payload: next(answers)) as listener,
        Publisher(
            "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, on_reply=replies.append
        ) as publisher,
    ):
        publisher.publish(people(1.0), NOW)
        wait_until(lambda: len(listener.batches) == 1)
        publisher.publish(people(2.0), NOW)
        wait_until(lambda: replies)

    assert replies == [Reply("ok", NOW, updated_count=1)]


def test_an_exception_in_on_reply_does_not_stop_the_publisher(broker: Broker, topic_prefix: str) -> None:
    def fail(reply: Reply) -> None:
        raise RuntimeError("the caller's mistake")

    with (
        Listener(broker, topic_prefix, lambda payload: b'{"status":"ok"}'),
        Publisher(
            "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, on_reply=fail
        ) as publisher,
    ):
        for number in range(3):
            publisher.publish(people(float(number)))
            wait_until(lambda number=number: publisher.acknowledged == number + 1)  # type: ignore[misc]

        assert publisher.connected


def test_close_called_from_on_reply_does_not_lock_up(broker: Broker, topic_prefix: str) -> None:
    closed = threading.Event()

    def close(reply: Reply) -> None:
        closing.close()
        closed.set()

    with Listener(broker, topic_prefix, lambda payload: b'{"status":"ok","updated_count":1}') as listener:
        closing = Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, on_reply=close)
        closing.publish(people(1.0))

        assert closed.wait(10)
        wait_until(lambda: listener.statuses[-1:] == [b"offline"])


def test_a_connected_device_is_online_retained(broker: Broker, topic_prefix: str, publisher: Publisher) -> None:
    wait_connected(publisher)

    wait_until(lambda: retained_status(broker, topic_prefix) == [b"online"])


def test_a_closed_device_is_offline_retained(broker: Broker, topic_prefix: str, publisher: Publisher) -> None:
    publisher.publish(people(1.0))

    complete = publisher.close()

    assert complete
    wait_until(lambda: retained_status(broker, topic_prefix) == [b"offline"])


def test_a_device_whose_connection_breaks_is_offline_until_it_is_back(listener: Listener, publisher: Publisher) -> None:
    wait_until(lambda: listener.statuses == [b"online"])
    connection = publisher._connection
    assert connection is not None

    connection.sock.shutdown(2)

    wait_until(lambda: listener.statuses == [b"online", b"offline", b"online"])


def test_the_statistics_of_the_program_are_retained_and_sent_again_at_each_connection(
    listener: Listener, publisher: Publisher, broker: Broker, topic_prefix: str
) -> None:
    def infos() -> list[Any]:
        return [json.loads(message.payload) for message in listener.messages if message.topic.endswith("/info")]

    publisher.publish(people(1.0))
    wait_until(lambda: publisher.acknowledged == 1)
    publisher.set_info(fps=np.float32(24.8))
    wait_until(lambda: len(infos()) == 1)
    assert publisher._connection is not None
    publisher._connection.sock.shutdown(2)
    wait_until(lambda: len(infos()) == 2)

    first, second = infos()
    assert datetime.fromisoformat(first.pop("last_ack")) <= datetime.now(UTC)
    assert first == {"version": __version__, "fps": 24.8, "queue_age": 0.0, "reconnects": 0}
    assert second["reconnects"] == 1
    with Listener(broker, f"{topic_prefix}/jetson_1/info") as late:
        wait_until(lambda: late.messages)


def test_on_a_link_on_which_a_batch_is_always_in_flight_the_batches_do_not_age(
    listener: Listener, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = publisher._settled

    def settled_after_the_next_is_published(message: Message | str | None, reason: ReasonCode) -> None:
        if publisher.acknowledged < 5:
            publisher.publish(people(publisher.acknowledged + 2.0))
        if publisher.acknowledged == 3:
            publisher.set_info()
        settled(message, reason)

    monkeypatch.setattr(publisher, "_settled", settled_after_the_next_is_published)
    publisher._queued_at = time.monotonic() - 100
    publisher.publish(people(1.0))

    wait_until(lambda: [message for message in listener.messages if message.topic.endswith("/info")])
    (info,) = [message for message in listener.messages if message.topic.endswith("/info")]
    assert json.loads(info.payload)["queue_age"] < 50


@pytest.mark.parametrize("fps", [-1, float("nan"), "24"])
def test_a_number_of_frames_that_cannot_be_is_refused(publisher: Publisher, fps: Any) -> None:
    with pytest.raises(ValueError, match="fps is"):
        publisher.set_info(fps=fps)


def test_close_sends_what_is_pending(listener: Listener, broker: Broker, topic_prefix: str) -> None:
    with Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix) as publisher:
        publisher.publish(people(7.0))

    wait_until(lambda: listener.statuses[-1:] == [b"offline"])
    assert happy_of(listener.batches[-1]) == {"1": 7.0}
    assert publisher.acknowledged == 1


def test_a_closed_publisher_refuses_batches_and_closes_again_without_harm(publisher: Publisher) -> None:
    publisher.close()

    with pytest.raises(PublisherClosed):
        publisher.publish(people(1.0))
    assert publisher.close()


def test_wrong_credentials_are_logged_with_what_happens_next(
    start_broker: StartBroker, topic_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", passwords, "jetson_1", "right"], check=True, capture_output=True)
    broker = start_broker(f"allow_anonymous false\npassword_file {passwords}")

    with Publisher(
        "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, password="wrong"
    ) as publisher:
        wait_until(lambda: publisher._failures >= 2)

    refused = [record.message for record in caplog.records if "refused the login as 'jetson_1'" in record.message]
    assert len(refused) == 1
    assert "check user name and password" in refused[0]
    assert "trying again" in refused[0]


def test_a_password_alone_logs_in_as_the_device(start_broker: StartBroker, topic_prefix: str, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", passwords, "jetson_1", "right"], check=True, capture_output=True)
    broker = start_broker(f"allow_anonymous false\npassword_file {passwords}")

    with Publisher(
        "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, password="right"
    ) as publisher:
        wait_connected(publisher)


def test_a_batch_that_the_access_rules_forbid_is_called_back(
    start_broker: StartBroker, topic_prefix: str, tmp_path: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(f"topic read {topic_prefix}/#\n")
    rules.chmod(0o600)
    broker = start_broker(f"acl_file {rules}")
    replies: list[Reply] = []

    with Publisher(
        "jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix, on_reply=replies.append
    ) as publisher:
        publisher.publish(people(1.0), NOW)
        wait_until(lambda: replies)

    assert replies == [Reply("error", NOW, error="the broker refused a batch (Not authorized)")]
    assert publisher.acknowledged == 0


def test_a_second_program_with_the_same_device_id_is_suspected_in_the_log(
    broker: Broker, topic_prefix: str, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    wait_connected(publisher)

    with Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix):
        wait_until(lambda: any("does another program use this device id?" in line.message for line in caplog.records))


def test_a_broker_that_names_the_second_program_is_quoted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Publisher("jetson_1", **address(server)),
        accept(server) as c,
    ):
        c.sendall(b"\xe0\x02\x8e\x00")  # DISCONNECT, session taken over

        wait_until(lambda: any("another program connected" in line.message for line in caplog.records))


def test_a_broker_that_never_answers_is_given_up_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Publisher("jetson_1", **address(server)):
        wait_until(lambda: any("but did not answer" in line.message for line in caplog.records))


def test_nothing_is_sent_while_a_batch_is_unacknowledged_and_then_the_newest_of_each_person() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Publisher("jetson_1", **address(server)) as publisher:
        with accept(server) as connection:
            publisher.publish(people(1.0, "left", "stays"), NOW)
            received = receive_until(connection, b'"stays"')
            for happy in (2.0, 3.0):
                publisher.publish(people(happy, "stays"), NOW + timedelta(seconds=happy))
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        with accept(server) as connection:
            received_again = receive_until(connection, b"12:34:59Z")

        publisher.close(timeout=0)

    assert b'{"happy":1.0}' in received
    assert b'"12:34:58Z"' not in received_again
    assert received_again.count(b'"left"') == 1
    assert received_again.count(b'"stays"') == 1
    assert b'"stays","cumulative":{"happy":3.0}' in received_again


def test_many_publishers_share_one_network_thread(broker: Broker, topic_prefix: str) -> None:
    network = Network()
    publishers = [
        Publisher(f"jetson_{n}", host=broker.host, port=broker.port, topic_prefix=topic_prefix, network=network)
        for n in range(50)
    ]
    threads = [thread.name for thread in threading.enumerate()]

    with Listener(broker, topic_prefix) as listener:
        for publisher in publishers:
            publisher.publish(people(1.0))
        complete = network.close()
        wait_until(lambda: len(listener.batches) == 50)

    assert complete
    assert threads.count("emotion-publisher") == 1
    assert {batch["device_id"] for batch in listener.batches} == {f"jetson_{n}" for n in range(50)}


def test_a_broker_that_takes_one_message_at_a_time_gets_all_parts(start_broker: StartBroker, topic_prefix: str) -> None:
    broker = start_broker("max_packet_size 1000\nmax_inflight_messages 1")
    with (
        Listener(broker, topic_prefix) as listener,
        Publisher("jetson_1", host=broker.host, port=broker.port, topic_prefix=topic_prefix) as publisher,
    ):
        publisher.publish(people(1.0, *(f"person-{number}" for number in range(100))))
        wait_until(lambda: sum(len(part["people"]) for part in listener.batches) == 100)

    assert publisher.acknowledged == publisher.sent


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for the loopback address, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=127.0.0.1"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return certificate, key


def test_batches_and_replies_travel_over_tls(start_broker: StartBroker, topic_prefix: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    tls_port = free_port()
    broker = start_broker(f"listener {tls_port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n")
    replies: list[Reply] = []
    with (
        Listener(broker, topic_prefix, lambda payload: b'{"status":"ok","updated_count":1}'),
        Publisher(
            "jetson_1",
            host=broker.host,
            port=tls_port,
            topic_prefix=topic_prefix,
            tls_ca=certificate,
            on_reply=replies.append,
        ) as publisher,
    ):
        for number in range(20):
            publisher.publish(people(float(number), *map(str, range(100))), NOW + timedelta(seconds=number))
            wait_until(lambda number=number: len(replies) == number + 1)  # type: ignore[misc]

    assert publisher.acknowledged == 20


def test_a_broker_with_an_unknown_certificate_is_not_talked_to(
    start_broker: StartBroker,
    topic_prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate, key = self_signed(tmp_path_factory.mktemp("broker-certificate"))
    another, _ = self_signed(tmp_path_factory.mktemp("another-certificate"))
    tls_port = free_port()
    broker = start_broker(f"listener {tls_port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n")

    with Publisher("jetson_1", host=broker.host, port=tls_port, topic_prefix=topic_prefix, tls_ca=another) as publisher:
        wait_until(lambda: publisher._failures >= 1)

        assert not publisher.connected
    assert any("certificate verify failed" in record.message for record in caplog.records)
    assert "the clock of this device" not in caplog.text


def test_a_certificate_that_is_not_yet_valid_names_the_clock(
    start_broker: StartBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Authority(tmp_path).sign("subjectAltName=IP:127.0.0.1", begins=1, ends=2)
    tls_port = free_port()
    broker = start_broker(f"listener {tls_port} 127.0.0.1\ncertfile {made.certificate}\nkeyfile {made.key}\n")

    with Publisher("jetson_1", host=broker.host, port=tls_port, tls_ca=made.ca):
        wait_until(lambda: "certificate is not yet valid" in caplog.text)

    assert f"the clock of this device says {datetime.now(UTC).date()}" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"device_id": "jetson 1"}, "device id 'jetson 1' has to be"),
        ({"host": ""}, "host is empty"),
        ({"port": 0}, "port 0 is not a number from 1 to 65535"),
        ({"topic_prefix": "a/#"}, "topic_prefix 'a/#' is not a topic"),
        ({"tls_ca": "no-such-file.pem"}, "tls_ca 'no-such-file.pem' is not a readable file"),
    ],
)
def test_an_argument_that_cannot_work_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Publisher(**{"device_id": "jetson_1"} | arguments)
