"""The daemon's MQTT session against a real Mosquitto; what the loop relies on also against the fake of it."""

import logging
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from emotion_daemon.ingest import Source
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.mqtt import subscriber
from emotion_daemon.mqtt.publish_packet import Message
from emotion_daemon.mqtt.subscriber import SessionTakenOverError, Subscriber
from shared.batch import Topics
from tests.brokers import HANG_UP, Broker, ScriptedBroker
from tests.clients import Client
from tests.fakes import FakeSource, Reply
from tests.proxies import Proxy
from tests.waiting import free_port, wait_until

TOPICS = Topics("emotions")
TOPIC = TOPICS.batch("jetson_1")
REPLY_TOPIC = TOPICS.reply("jetson_1")
GROUP_LIMIT = 12  # twice as many are more than the 20 that Mosquitto sends ahead on its own

StartBroker = Callable[[str], Broker]


@pytest.fixture(autouse=True)
def _reconnects_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "SHORTEST_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(subscriber, "LONGEST_BACKOFF_SECONDS", 0.2)


def subscribe(
    host: str,
    port: int,
    *,
    username: str | None = None,
    password: str | None = None,
    tls_ca: Path | None = None,
    group_limit: int = GROUP_LIMIT,
    heartbeat: Heartbeat | None = None,
) -> Subscriber:
    return Subscriber(
        host=host,
        port=port,
        client_id="emotion-daemon",
        topics=TOPICS,
        username=username,
        password=password,
        tls_ca=tls_ca,
        group_limit=group_limit,
        heartbeat=heartbeat,
    )


def receive(source: Source, number: int) -> list[Message]:
    """Exactly `number` messages, however many groups they come in."""
    messages: list[Message] = []

    def enough() -> bool:
        messages.extend(source.receive(timeout=0.05))
        return len(messages) >= number

    wait_until(enough, what=f"{number} messages arrive")
    assert len(messages) == number
    return messages


def payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages]


def connect(source: Subscriber) -> None:
    def subscribed() -> bool:
        source.wait(0.02)
        return source.subscribed

    wait_until(subscribed, what="the broker confirmed the subscription")


class Harness(Protocol):
    """A source, with the broker and the network behind it in the test's hands."""

    @property
    def source(self) -> Source: ...
    def publish(
        self,
        payload: bytes,
        *,
        qos: int = 1,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
    ) -> None: ...
    def cut(self) -> None:
        """Break the connection; the source connects again when it is used."""
        ...

    def lose_state(self) -> None:
        """The broker starts again without any session, and the source is subscribed again."""
        ...

    def replies(self, number: int) -> list[Reply]: ...
    def pubacks(self) -> int:
        """Return the number of acknowledgements that the broker has seen."""
        ...


class FakeHarness:
    def __init__(self) -> None:
        self.source = FakeSource(group_limit=GROUP_LIMIT)

    def publish(
        self, payload: bytes, *, qos: int = 1, response_topic: str | None = None, correlation_data: bytes | None = None
    ) -> None:
        self.source.publish(TOPIC, payload, qos=qos, response_topic=response_topic, correlation_data=correlation_data)

    def cut(self) -> None:
        self.source.cut()

    def lose_state(self) -> None:
        self.source.lose_state()

    def replies(self, number: int) -> list[Reply]:
        return self.source.replies

    def pubacks(self) -> int:
        return len(self.source.acked)


class RealHarness:
    def __init__(self, broker: Broker, proxy: Proxy, device: Client) -> None:
        self.source = subscribe(proxy.host, proxy.port)
        self._broker, self._proxy, self._device = broker, proxy, device
        self._device.listen("emotions/+/reply/#")
        connect(self.source)

    def publish(
        self, payload: bytes, *, qos: int = 1, response_topic: str | None = None, correlation_data: bytes | None = None
    ) -> None:
        self._device.publish(TOPIC, payload, qos=qos, response_topic=response_topic, correlation_data=correlation_data)

    def cut(self) -> None:
        self._proxy.cut()

    def lose_state(self) -> None:
        self._broker.kill()
        self._broker.wipe()
        self._broker.start()
        wait_until(self._lost, what="the subscriber noticed that the broker was away")
        connect(self.source)

    def _lost(self) -> bool:
        self.source.wait(0.02)
        return self._broker.log().count("Received SUBSCRIBE from emotion-daemon") > 1

    def replies(self, number: int) -> list[Reply]:
        def seen() -> bool:
            self.source.wait(0.02)
            return len(self._device.seen) >= number

        wait_until(seen, what=f"{number} replies arrive")
        return [Reply(seen.topic, seen.payload, seen.correlation_data) for seen in self._device.seen]

    def pubacks(self) -> int:
        return self._broker.log().count("Received PUBACK from emotion-daemon")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.program)])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    if request.param == "fake":
        yield FakeHarness()
        return
    broker: Broker = request.getfixturevalue("broker")
    with Proxy(broker) as proxy, Client(broker, "device") as device:
        real = RealHarness(broker, proxy, device)
        with closing(real.source):
            yield real


_markers = (f"marker {number}".encode() for number in count())


def sent_again(harness: Harness) -> list[bytes]:
    """Return the messages that the broker sends after a reconnect, up to one that is published for the purpose."""
    marker = next(_markers)
    harness.cut()
    harness.publish(marker)
    messages: list[Message] = []

    def marker_arrived() -> bool:
        messages.extend(harness.source.receive(timeout=0.05))
        return marker in payloads(messages)

    wait_until(marker_arrived, what="the marker arrives")
    harness.source.ack(messages[-1:])
    return payloads(messages[:-1])


class TestWhatTheLoopReliesOn:
    """Each of these runs against FakeSource and against Subscriber with Mosquitto: the fake can be believed."""

    def test_messages_arrive_in_the_order_they_were_published(self, harness: Harness) -> None:
        sent = [str(number).encode() for number in range(35)]
        for payload in sent:
            harness.publish(payload)
        received: list[bytes] = []
        while len(received) < len(sent):
            group = receive_some(harness.source)
            received.extend(payloads(group))
            harness.source.ack(group)

        assert received == sent

    def test_a_message_carries_its_topic_and_what_a_reply_needs(self, harness: Harness) -> None:
        harness.publish(b"1", response_topic=REPLY_TOPIC, correlation_data=b"\x00\xff")
        (message,) = receive(harness.source, 1)

        assert (message.topic, message.qos) == (TOPIC, 1)
        assert (message.response_topic, message.correlation_data) == (REPLY_TOPIC, b"\x00\xff")

    def test_a_group_has_a_limit(self, harness: Harness) -> None:
        for number in range(25):
            harness.publish(str(number).encode())
        sizes: list[int] = []
        while sum(sizes) < 25:
            group = receive_some(harness.source)
            harness.source.ack(group)
            sizes.append(len(group))

        assert max(sizes) <= GROUP_LIMIT

    def test_unacknowledged_messages_beyond_the_window_stay_with_the_broker(self, harness: Harness) -> None:
        sent = [str(number).encode() for number in range(2 * GROUP_LIMIT + 3)]
        for payload in sent:
            harness.publish(payload)
        held = receive(harness.source, 2 * GROUP_LIMIT)
        more = harness.source.receive(timeout=0.3)
        harness.source.ack(held)
        rest = receive(harness.source, 3)

        assert more == []
        assert payloads(held + rest) == sent

    def test_what_was_not_acknowledged_comes_again_after_a_reconnect_in_order(self, harness: Harness) -> None:
        for payload in (b"1", b"2", b"3"):
            harness.publish(payload)
        receive(harness.source, 3)

        assert sent_again(harness) == [b"1", b"2", b"3"]

    def test_what_comes_again_says_so(self, harness: Harness) -> None:
        harness.publish(b"1")
        (first,) = receive(harness.source, 1)
        harness.cut()
        (second,) = receive(harness.source, 1)

        assert (first.dup, second.dup) == (False, True)

    def test_what_was_acknowledged_does_not_come_again(self, harness: Harness) -> None:
        for payload in (b"1", b"2", b"3"):
            harness.publish(payload)
        messages = receive(harness.source, 3)
        acked = harness.source.ack([messages[0], messages[2]])
        wait_until(lambda: harness.pubacks() == 2, what="the broker saw both")

        assert acked == 2
        assert sent_again(harness) == [b"2"]

    def test_an_ack_for_an_earlier_connection_is_not_sent(self, harness: Harness) -> None:
        for payload in (b"1", b"2", b"3"):
            harness.publish(payload)
        before = receive(harness.source, 3)
        harness.cut()
        again = receive(harness.source, 3)
        late = harness.source.ack(before)

        assert late == 0
        assert harness.source.ack(again) == 3

    def test_a_late_ack_does_not_delete_new_messages_of_a_broker_that_lost_its_state(self, harness: Harness) -> None:
        for payload in (b"old 1", b"old 2", b"old 3"):
            harness.publish(payload)
        old = receive(harness.source, 3)
        harness.lose_state()
        for payload in (b"new 1", b"new 2", b"new 3"):
            harness.publish(payload)
        new = receive(harness.source, 3)
        late = harness.source.ack(old)

        assert {message.packet_id for message in new} == {message.packet_id for message in old}
        assert sent_again(harness) == [b"new 1", b"new 2", b"new 3"]
        assert late == 0

    def test_an_ack_while_offline_is_not_sent_later(self, harness: Harness) -> None:
        harness.publish(b"1")
        messages = receive(harness.source, 1)
        harness.cut()
        harness.source.wait(0)
        receive(harness.source, 1)
        harness.source.ack(messages)

        assert sent_again(harness) == [b"1"]

    def test_what_arrives_during_a_wait_is_kept_for_the_next_receive(self, harness: Harness) -> None:
        harness.publish(b"1")
        receive(harness.source, 1)
        harness.publish(b"2")
        harness.publish(b"3")
        harness.source.wait(0.2)

        assert payloads(receive(harness.source, 2)) == [b"2", b"3"]

    def test_what_waits_here_when_the_connection_breaks_comes_once(self, harness: Harness) -> None:
        harness.publish(b"1")
        harness.publish(b"2")
        harness.source.wait(0.2)

        assert sent_again(harness) == [b"1", b"2"]

    def test_a_reply_goes_to_the_response_topic_with_the_correlation_data(self, harness: Harness) -> None:
        harness.publish(b"1", response_topic=REPLY_TOPIC, correlation_data=b"\x00\xff")
        harness.publish(b"2", response_topic=f"{REPLY_TOPIC}/x")
        first, second = receive(harness.source, 2)
        harness.source.reply(first, b"one")
        harness.source.reply(second, b"two")

        assert harness.replies(2) == [(REPLY_TOPIC, b"one", b"\x00\xff"), (f"{REPLY_TOPIC}/x", b"two", None)]

    def test_who_did_not_ask_gets_no_reply(self, harness: Harness) -> None:
        harness.publish(b"1")
        harness.publish(b"2", response_topic=REPLY_TOPIC)
        first, second = receive(harness.source, 2)
        harness.source.reply(first, b"one")
        harness.source.reply(second, b"two")

        assert harness.replies(1) == [(REPLY_TOPIC, b"two", None)]

    def test_a_message_of_qos_0_is_delivered_and_not_acknowledged(self, harness: Harness) -> None:
        harness.publish(b"0", qos=0)
        harness.publish(b"1", qos=1)
        messages = receive(harness.source, 2)
        handled = harness.source.ack(messages)
        wait_until(lambda: harness.pubacks() >= 1, what="the broker saw the other's PUBACK")

        assert (payloads(messages), handled) == ([b"0", b"1"], 2)
        assert harness.pubacks() == 1


def receive_some(source: Source) -> list[Message]:
    return wait_until(lambda: source.receive(timeout=0.05), what="a group arrives")


@pytest.fixture
def device(broker: Broker) -> Iterator[Client]:
    with Client(broker, "device") as client:
        yield client


@pytest.fixture
def source(broker: Broker) -> Iterator[Subscriber]:
    """Connected, its session known to the broker."""
    with closing(subscribe(broker.host, broker.port)) as made:
        connect(made)
        yield made


def test_the_session_outlives_the_process(broker: Broker, device: Client) -> None:
    with closing(subscribe(broker.host, broker.port)) as first:
        connect(first)
    device.publish(TOPIC, b"meanwhile")
    with closing(subscribe(broker.host, broker.port)) as second:
        received = payloads(receive(second, 1))

    assert received == [b"meanwhile"]


def test_closing_leaves_what_was_not_acknowledged_with_the_broker(broker: Broker, device: Client) -> None:
    with closing(subscribe(broker.host, broker.port)) as first:
        connect(first)
        for payload in (b"1", b"2", b"3"):
            device.publish(TOPIC, payload)
        messages = receive(first, 3)
        first.ack(messages[:1])
    with closing(subscribe(broker.host, broker.port)) as second:
        received = payloads(receive(second, 2))

    assert received == [b"2", b"3"]


def test_an_ack_just_before_closing_reaches_the_broker(broker: Broker, device: Client) -> None:
    with closing(subscribe(broker.host, broker.port)) as first:
        connect(first)
        for number in range(GROUP_LIMIT):
            device.publish(TOPIC, str(number).encode())
        first.ack(receive(first, GROUP_LIMIT))
    device.publish(TOPIC, b"new")
    with closing(subscribe(broker.host, broker.port)) as second:
        received = payloads(receive(second, 1))

    assert received == [b"new"]


def test_it_survives_a_restart_of_the_broker(broker: Broker, source: Subscriber, device: Client) -> None:
    device.publish(TOPIC, b"before")
    receive(source, 1)
    broker.restart()
    device.publish(TOPIC, b"after")
    messages = receive(source, 2)

    assert payloads(messages) == [b"before", b"after"]
    assert source.ack(messages) == 2


def test_it_starts_while_the_broker_is_down(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker.stop()
    with closing(subscribe(broker.host, broker.port)) as source:
        wait_until(lambda: source.receive(timeout=0.02) or "attempt 2" in caplog.text, what="two attempts failed")
        broker.start()
        connect(source)

    assert f"cannot reach the broker at 127.0.0.1:{broker.port}" in caplog.text


def test_a_host_name_that_cannot_be_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(subscribe("a" * 64 + ".invalid", free_port())) as source:
        wait_until(lambda: source.receive(timeout=0.02) or "attempt 2" in caplog.text, what="two attempts failed")

    assert "cannot reach the broker" in caplog.text


def test_a_session_that_was_taken_over_ends_it() -> None:
    # Mosquitto 2.0.11 just closes the connection, 2.0.21 gives this reason: so a script plays the broker.
    connack, suback, taken_over = (
        bytes.fromhex("2003000000"),
        bytes.fromhex("9006000100010101"),
        bytes.fromhex("e0028e00"),
    )
    with (
        ScriptedBroker(connack, suback + taken_over) as script,
        closing(subscribe(script.host, script.port)) as source,
        pytest.raises(SessionTakenOverError, match="another client took over the session 'emotion-daemon'") as caught,
    ):
        wait_until(lambda: source.receive(timeout=0.05), what="the subscriber notices")

    assert caught.value.client_id == "emotion-daemon"


def test_connections_that_end_again_and_again_without_a_reason_raise_the_question_of_a_second_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connack, suback = bytes.fromhex("2003000000"), bytes.fromhex("9006000100010101")
    question = "does another client use the client id 'emotion-daemon'?"
    with ScriptedBroker(connack, suback, HANG_UP) as script, closing(subscribe(script.host, script.port)) as source:
        wait_until(lambda: source.receive(timeout=0.05) or question in caplog.text, what="the question is asked")

    losses = [message for message in caplog.messages if message.startswith("lost the broker")]
    assert [question in message for message in losses[:3]] == [False, False, True]


def test_a_refused_subscription_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    connack, not_authorized = bytes.fromhex("2003000000"), bytes.fromhex("900400010087")
    with (
        ScriptedBroker(connack, not_authorized) as script,
        closing(subscribe(script.host, script.port)) as source,
    ):
        wait_until(lambda: source.receive(timeout=0.05) or "attempt 2" in caplog.text, what="two attempts failed")

        assert not source.subscribed
    assert "the broker refused the subscription to emotions/+/batch: Not authorized; trying again" in caplog.text


def test_a_subscription_at_qos_0_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """The broker would forget messages that are not stored yet."""
    connack, granted_qos_0 = bytes.fromhex("2003000000"), bytes.fromhex("900400010000")
    with (
        ScriptedBroker(connack, granted_qos_0) as script,
        closing(subscribe(script.host, script.port)) as source,
    ):
        pumped(source, lambda: "refused the subscription" in caplog.text)

        assert not source.subscribed
    assert "the broker refused the subscription to emotions/+/batch: Granted QoS 0; trying again" in caplog.text


def test_what_the_broker_says_of_its_limits_is_handed_on(start_broker: StartBroker) -> None:
    broker = start_broker("max_packet_size 20000\nmax_qos 1\nmax_inflight_messages 20")
    heartbeat = Heartbeat()
    with closing(subscribe(broker.host, broker.port, heartbeat=heartbeat)) as listening:
        connect(listening)

    assert heartbeat.limits == {
        "maximum_packet_bytes": 20_000,
        "receive_maximum_messages": 20,
        "maximum_qos": 1,
        "session_expiry_seconds": 0xFFFFFFFF,
        "keepalive_seconds": 10,
        "retain_available": 1,
    }


def test_a_broker_that_ends_sessions_is_said_to_once(caplog: pytest.LogCaptureFixture) -> None:
    connack, suback = bytes.fromhex("20080000051100000e10"), bytes.fromhex("9006000100010101")
    with ScriptedBroker(connack, suback, HANG_UP) as script, closing(subscribe(script.host, script.port)) as source:
        pumped(source, lambda: len([line for line in caplog.messages if line.startswith("lost the broker")]) == 2)

    warnings = [line for line in caplog.messages if "ends the session" in line]
    assert warnings == [
        "the broker ends the session 3600 s after a connection: it deletes messages that wait for longer"
    ]


def test_it_says_online_and_that_is_retained(broker: Broker, source: Subscriber) -> None:
    with Client(broker) as onlooker:
        onlooker.listen("emotions/+/status")
        pumped(source, lambda: bool(onlooker.seen))

        assert [(seen.topic, seen.payload, seen.retained) for seen in onlooker.seen] == [
            ("emotions/emotion-daemon/status", b"online", True)
        ]


def test_what_was_said_before_the_subscription_was_confirmed_is_not_lost_by_closing(
    broker: Broker, device: Client
) -> None:
    """Queued messages come before the SUBACK: a stop may fall between the two, with more waiting in the socket."""
    first = subscribe(broker.host, broker.port)
    connect(first)
    first.close()
    device.listen("emotions/+/reply/#")
    for number in range(2_000):
        device.send(TOPIC, b"x" * 200, response_topic="emotions/jetson_1/reply", correlation_data=str(number).encode())
    device.wait_for_pubacks()

    source = subscribe(broker.host, broker.port, group_limit=500)
    group: list[Message] = []
    while not group:
        group = source.receive(timeout=0.5)
    assert not source.subscribed
    os.kill(broker.pid, signal.SIGSTOP)  # so that nothing of what follows has been read when the close comes
    threading.Timer(0.5, os.kill, (broker.pid, signal.SIGCONT)).start()
    source.ack(group)
    for message in group:
        source.reply(message, b"{}")
    source.close()

    wait_until(lambda: len(device.seen) >= len(group), what="every answer arrives")
    log = broker.log()
    assert log.count("Received PUBACK from emotion-daemon") == len(group)
    assert "emotion-daemon closed its connection" not in log


def test_what_devices_say_of_themselves_arrives_and_what_it_says_itself_does_not(
    broker: Broker, source: Subscriber, device: Client
) -> None:
    device.send(TOPICS.status("jetson_1"), b"online")
    device.send(TOPICS.status("jetson_1"), b"offline")
    messages = receive(source, 2)

    assert [(message.topic, message.payload) for message in messages] == [
        (TOPICS.status("jetson_1"), b"online"),
        (TOPICS.status("jetson_1"), b"offline"),
    ]


def test_a_refused_subscription_to_presences_is_said_and_batches_go_on(caplog: pytest.LogCaptureFixture) -> None:
    connack, suback = bytes.fromhex("2003000000"), bytes.fromhex("9006000100018701")
    with ScriptedBroker(connack, suback) as script, closing(subscribe(script.host, script.port)) as source:
        connect(source)

    assert "the daemon learns from batches alone who is online" in caplog.text


def test_it_says_offline_when_it_closes_and_that_is_retained(broker: Broker) -> None:
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
    with Client(broker) as onlooker:
        onlooker.listen("emotions/+/status")
        wait_until(lambda: onlooker.seen, what="the presence arrives")

        assert [(seen.payload, seen.retained) for seen in onlooker.seen] == [(b"offline", True)]


def test_the_broker_says_offline_for_it_when_the_connection_breaks(broker: Broker) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(broker))
        source = stack.enter_context(closing(subscribe(proxy.host, proxy.port)))
        onlooker = stack.enter_context(Client(broker))
        onlooker.listen("emotions/+/status")
        pumped(source, lambda: b"online" in [seen.payload for seen in onlooker.seen])
        proxy.cut()
        wait_until(lambda: onlooker.seen[-1].payload == b"offline", what="the last will arrives")
        pumped(source, lambda: onlooker.seen[-1].payload == b"online")

        assert [seen.payload for seen in onlooker.seen][-3:] == [b"online", b"offline", b"online"]


def pumped(source: Subscriber, condition: Callable[[], bool]) -> None:
    """Wait for `condition` while the subscriber has its turn."""

    def check() -> bool:
        source.wait(0.02)
        return condition()

    wait_until(check)


def test_wrong_credentials_are_logged_and_tried_again_until_they_are_right(
    start_broker: StartBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "emotion-daemon", "another"], check=True)
    broker = start_broker(f"allow_anonymous false\npassword_file {passwords}")
    with closing(subscribe(broker.host, broker.port, username="emotion-daemon", password="right")) as source:
        wait_until(lambda: source.receive(timeout=0.02) or "attempt 2" in caplog.text, what="two attempts failed")
        subprocess.run(["mosquitto_passwd", "-b", passwords, "emotion-daemon", "right"], check=True)
        os.kill(broker.pid, signal.SIGHUP)
        connect(source)

    assert "the broker refused the connection: Not authorized; trying again" in caplog.text
    assert "right" not in caplog.text


def test_a_repeated_refusal_is_one_line(start_broker: StartBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker = start_broker("allow_anonymous false")
    with closing(subscribe(broker.host, broker.port)) as source:
        wait_until(lambda: source.receive(timeout=0.02) or "attempt 3" in caplog.text, what="three attempts failed")

    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG", "DEBUG"]


def test_the_log_says_how_long_the_broker_was_away(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
        broker.restart()
        pumped(source, lambda: len(caplog.messages) == 3)

    assert caplog.messages[1].startswith(f"lost the broker at 127.0.0.1:{broker.port}: ")
    assert caplog.messages[1].endswith("; trying again until it answers")
    assert re.search(r" as emotion-daemon after \d+\.\d s, subscribed to ", caplog.messages[2])


def test_a_broker_that_falls_silent_is_left(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "PING_SECONDS", 0.2)
    connack, suback = bytes.fromhex("2003000000"), bytes.fromhex("9006000100010101")
    with ScriptedBroker(connack, suback) as script, closing(subscribe(script.host, script.port)) as source:
        pumped(source, lambda: "is silent" in caplog.text)

    assert caplog.messages == [f"the broker at 127.0.0.1:{script.port} is silent; trying again until it answers"]


def test_a_broker_that_answers_is_not_left(
    broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "PING_SECONDS", 0.2)
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
        pumped(source, lambda: broker.log().count("Received PINGREQ from emotion-daemon") >= 5)

    assert caplog.messages == []


def test_waiting_payload_bytes_are_limited(broker: Broker, device: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "MAX_INBOX_BYTES", 20_000)
    with closing(subscribe(broker.host, broker.port, group_limit=500)) as source:
        connect(source)
    sent = [str(number).encode().rjust(9_000) for number in range(50)]
    for payload in sent:
        device.send(TOPIC, payload)
    device.wait_for_pubacks()
    groups: list[list[bytes]] = []
    with closing(subscribe(broker.host, broker.port, group_limit=500)) as source:
        while sum(len(group) for group in groups) < len(sent):
            source.wait(0.02)
            groups.append(payloads(receive_some(source)))

    assert [payload for group in groups for payload in group] == sent
    assert max(len(group) for group in groups) <= 3


def test_the_connection_lives_through_a_long_wait_with_a_full_inbox(
    broker: Broker, device: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "KEEPALIVE_SECONDS", 3)
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
        for number in range(3 * GROUP_LIMIT):
            device.publish(TOPIC, str(number).encode())
        group = receive(source, GROUP_LIMIT)
        source.wait(7.5)

        assert source.ack(group) == GROUP_LIMIT


def test_the_connection_lives_through_a_long_wait_in_which_nothing_more_is_read(
    broker: Broker, device: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(subscriber, "KEEPALIVE_SECONDS", 2)
    monkeypatch.setattr(subscriber, "PING_SECONDS", 1.0)
    monkeypatch.setattr(subscriber, "MAX_INBOX_BYTES", 20_000)
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
        for number in range(50):
            device.publish(TOPIC, str(number).encode().rjust(9_000))
        source.wait(7.5)
        messages = receive(source, 3)

        assert payloads(messages) == [str(number).encode().rjust(9_000) for number in range(3)]
        assert source.ack(messages) == 3
    assert len(caplog.messages) == 1


def retained_at(broker: Broker, *topics: str) -> list[str]:
    """The topics of those that have a retained message at the broker."""
    with Client(broker) as onlooker:
        for topic in topics:
            onlooker.listen(topic)
        onlooker.listen("last")
        onlooker.publish("last", b"last")  # once this is delivered, all before it was
        wait_until(lambda: onlooker.seen and onlooker.seen[-1].topic == "last", what="the last message arrives")
        return [seen.topic for seen in onlooker.seen[:-1]]


def test_messages_that_are_published_retained_are_marked_and_can_be_cleared(
    broker: Broker, source: Subscriber, device: Client
) -> None:
    status = TOPICS.status("jetson_1")
    for topic in (TOPIC, status):
        device.publish(topic, b"retained", retain=True)
        device.publish(topic, b"not retained")
    messages = receive(source, 4)
    before = retained_at(broker, TOPIC, status)
    source.clear_retained([TOPIC, status])
    source.ack(messages)
    device.publish(TOPIC, b"next")

    assert [message.retain for message in messages] == [True, False, True, False]
    assert before == [TOPIC, status]
    assert payloads(receive(source, 1)) == [b"next"]  # and not the empty messages
    assert retained_at(broker, TOPIC, status) == []


def test_a_batch_that_waited_as_retained_is_marked_after_a_restart_of_the_broker(
    broker: Broker, device: Client
) -> None:
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
    device.publish(TOPIC, b"retained", retain=True)
    broker.restart()
    with closing(subscribe(broker.host, broker.port)) as source:
        messages = [receive(source, 1)[0]]
        pumped(source, lambda: source.subscribed)
        messages += source.receive(timeout=0.2)

        assert {(message.payload, message.retain) for message in messages} == {(b"retained", True)}


def test_a_retained_batch_of_qos_0_that_missed_the_daemon_comes_with_the_next_connection(
    broker: Broker, device: Client
) -> None:
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
    device.publish(TOPIC, b"retained", qos=0, retain=True)
    with closing(subscribe(broker.host, broker.port)) as source:
        assert [(message.payload, message.retain) for message in receive(source, 1)] == [(b"retained", True)]


def test_a_cleared_batch_does_not_come_again_with_the_next_connection(broker: Broker, device: Client) -> None:
    device.publish(TOPIC, b"retained", retain=True)
    with ExitStack() as stack:
        proxy = stack.enter_context(Proxy(broker))
        source = stack.enter_context(closing(subscribe(proxy.host, proxy.port)))
        messages = receive(source, 1)
        source.clear_retained([TOPIC])
        source.ack(messages)
        wait_until(lambda: "Received PUBACK from emotion-daemon" in broker.log(), what="the broker saw the PUBACK")
        proxy.cut()
        pumped(source, lambda: broker.log().count("Sending SUBACK to emotion-daemon") == 2)
        device.publish(TOPIC, b"next")

        assert payloads(receive(source, 1)) == [b"next"]


# --- the heartbeat --------------------------------------------------------------------------------------------------


class Beats(Heartbeat):
    """Notes each change of the line, and how often it beat; the database is in order."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.beats = 0
        self.early = 0
        self.ready()

    def broker(self, outage: str | None) -> None:
        super().broker(outage)
        if self.line not in self.lines[-1:]:
            self.lines.append(self.line)

    def beat(self, *, now: float, early: bool = False) -> None:
        super().beat(now=now, early=early)
        self.beats += 1
        self.early += early


def test_the_line_is_ok_when_the_broker_has_confirmed_the_subscription_and_not_before() -> None:
    connack, suback = bytes.fromhex("2003000000"), bytes.fromhex("9006000100010101")
    beats = Beats()
    with ScriptedBroker(connack) as script, closing(subscribe(script.host, script.port, heartbeat=beats)) as source:
        pumped(source, lambda: beats.beats > 5)

        assert beats.lines == [f"not subscribed to the broker at 127.0.0.1:{script.port} yet"]
    beats = Beats()
    with (
        ScriptedBroker(connack, suback) as script,
        closing(subscribe(script.host, script.port, heartbeat=beats)) as source,
    ):
        connect(source)

        assert beats.line == "ok"


def test_the_line_says_why_there_is_no_subscription_until_there_is_one_again(broker: Broker) -> None:
    beats = Beats()
    with closing(subscribe(broker.host, broker.port, heartbeat=beats)) as source:
        connect(source)
        broker.stop()
        pumped(source, lambda: beats.line.startswith("cannot reach"))
        broker.start()
        connect(source)

    at = f"the broker at 127.0.0.1:{broker.port}"
    starts = [f"not subscribed to {at} yet", "ok", f"lost {at}: ", f"cannot reach {at}: ", "ok"]
    assert len(beats.lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(beats.lines, starts, strict=True))


def test_the_line_says_that_the_broker_refuses_us(start_broker: StartBroker) -> None:
    beats = Beats()
    broker = start_broker("allow_anonymous false")
    with closing(subscribe(broker.host, broker.port, heartbeat=beats)) as source:
        pumped(source, lambda: beats.line == "the broker refused the connection: Not authorized")


def test_a_connection_that_is_dead_without_a_word_is_not_ok(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber, "PING_SECONDS", 0.2)
    beats = Beats()
    with Proxy(broker) as proxy, closing(subscribe(proxy.host, proxy.port, heartbeat=beats)) as source:
        connect(source)
        proxy.half_open(closed=None)
        pumped(source, lambda: f"the broker at 127.0.0.1:{proxy.port} is silent" in beats.lines)
        pumped(source, lambda: beats.line == "ok")


@pytest.mark.parametrize("is_up", [True, False])
def test_it_beats_at_least_every_half_second_of_a_wait(broker: Broker, is_up: bool) -> None:
    beats = Beats()
    with closing(subscribe(broker.host, broker.port, heartbeat=beats)) as source:
        connect(source)
        if not is_up:
            broker.stop()
            pumped(source, lambda: beats.line != "ok")
        before = beats.beats
        source.wait(3)

    assert beats.beats - before >= 4  # six, and fewer where the machine is busy


def test_it_beats_between_the_statements_of_a_long_write(broker: Broker) -> None:
    beats = Beats()
    with closing(subscribe(broker.host, broker.port, heartbeat=beats)) as source:
        connect(source)
        before = beats.beats
        source.wait(0)

        assert beats.beats == before + 1


def test_it_beats_once_a_group_not_once_a_message(broker: Broker, device: Client) -> None:
    beats = Beats()
    with closing(subscribe(broker.host, broker.port, heartbeat=beats)) as source:
        connect(source)
        for number in range(2 * GROUP_LIMIT):
            device.publish(TOPIC, str(number).encode())
        pumped(source, lambda: source.waiting >= GROUP_LIMIT)
        before = beats.beats
        messages = source.receive(timeout=0.5)
        source.ack(messages)

        assert len(messages) >= GROUP_LIMIT
        assert beats.beats == before + 1


def test_it_beats_before_each_attempt_to_connect() -> None:
    beats = Beats()
    with closing(subscribe("127.0.0.1", free_port(), heartbeat=beats)) as source:
        pumped(source, lambda: beats.early >= 3)


# --- TLS ------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority of this test, and a certificate for 127.0.0.1 that it signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        ca_key, request, names = folder / "ca.key", folder / "server.csr", folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1\n")
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", ca_key)
        _openssl("req", "-x509", "-new", "-key", ca_key, "-subj", "/CN=Test CA", "-days", "2", "-out", self.ca)
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key)
        _openssl("req", "-new", "-key", self.key, "-subj", "/CN=broker", "-out", request)
        signing: list[str | Path] = [
            "-CA",
            self.ca,
            "-CAkey",
            ca_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            names,
        ]
        _openssl("x509", "-req", "-in", request, *signing, "-out", self.certificate)

    def listener(self, port: int) -> str:
        return f"listener {port} 127.0.0.1\ncafile {self.ca}\ncertfile {self.certificate}\nkeyfile {self.key}"


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def test_tls_carries_a_backlog_whole(start_broker: StartBroker, tmp_path: Path) -> None:
    authority, port = Authority(tmp_path / "authority"), free_port()
    broker = start_broker(authority.listener(port))
    with closing(subscribe(broker.host, port, tls_ca=authority.ca)) as source:
        connect(source)
    sent = [str(number).encode().rjust(3_000) for number in range(100)]
    with Client(broker) as device:
        for payload in sent:
            device.send(TOPIC, payload)
        device.wait_for_pubacks()
    with closing(subscribe(broker.host, port, tls_ca=authority.ca, group_limit=500)) as source:
        received = payloads(receive(source, len(sent)))

    assert received == sent


@pytest.mark.program
def test_packets_that_share_a_tls_record_are_read_together(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    connack, suback = bytes.fromhex("2003000000"), bytes.fromhex("9006000100010101")
    publishes = b"".join(publish_packet(number) for number in (1, 2, 3))
    with (
        ScriptedBroker(connack, suback + publishes, tls=context) as script,
        closing(subscribe(script.host, script.port, tls_ca=authority.ca)) as source,
    ):
        began = time.monotonic()
        messages = wait_until(lambda: source.receive(timeout=10), what="messages arrive")
        took = time.monotonic() - began

    assert payloads(messages) == [b"1", b"2", b"3"]
    assert took < 10  # nothing else comes: who waits for the socket waits in vain


def publish_packet(packet_id: int) -> bytes:
    body = len(TOPIC).to_bytes(2, "big") + TOPIC.encode() + packet_id.to_bytes(2, "big") + b"\x00%d" % packet_id
    return bytes([0x32, len(body)]) + body


# paho drops a socket whose handshake failed without closing it; the interpreter does, at once, and says so.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
def test_a_broker_with_another_authoritys_certificate_is_refused(
    start_broker: StartBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    broker = start_broker(Authority(tmp_path / "theirs").listener(port))
    with closing(subscribe(broker.host, port, tls_ca=Authority(tmp_path / "ours").ca)) as source:
        wait_until(lambda: source.receive(timeout=0.02) or "trying again" in caplog.text, what="an attempt failed")

        assert not source.subscribed
    assert "certificate verify failed" in caplog.text


def test_the_log_says_once_where_it_is_connected(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)
    with closing(subscribe(broker.host, broker.port)) as source:
        connect(source)

    assert [line.rpartition("; ")[2] for line in caplog.messages] == [
        "new session: the broker queued no earlier batches",
        "session resumed",
    ]
