"""Attacks of one hostile device with its valid login: `python -m tests.faults.attacks NAME HOST PORT LOGIN SECONDS`.

An attack has a process of its own, so that it is as fast as it can be and takes no time from the devices that a test
measures. It reads the password from standard input and prints what it has sent and what the broker has answered.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from tests.faults.history import START, TOPICS
from tests.faults.raw_client import (
    FOREVER,
    MAX_TEXT,
    Limits,
    Over,
    RawClient,
    Will,
    alias_property,
    delay_property,
    publish_packet,
    response_property,
    subscribe_packet,
    user_properties,
)
from tests.processes import ROOT

BYTES_A_SECOND, MAX_BYTES = 4 * 2**20, 64 * 2**20
"""An attack ends early when it has sent so much: without a rate limit the backlog of more takes minutes."""

FLOOD = 4
"""A flood at QoS 0 may send so many times more."""

_numbers = count(1)


class Attack(NamedTuple):
    """`attack` does it over one connection and is called again at its end; the daemon may be `stopped` meanwhile."""

    name: str
    attack: Callable[[RawClient], None]
    stopped: bool = False
    floods: bool = False

    def max_bytes(self, seconds: float) -> int:
        return min(int(seconds * BYTES_A_SECOND), MAX_BYTES) * (FLOOD if self.floods else 1)

    def start(self, host: str, port: int, login: str, password: str, *, seconds: float) -> "Running":
        command = [sys.executable, "-m", "tests.faults.attacks", self.name, host, str(port), login, str(seconds)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(password.encode())
        process.stdin.close()
        return Running(process, seconds)


class Running(NamedTuple):
    process: subprocess.Popen[bytes]
    seconds: float

    def wait(self) -> dict[str, object]:
        """Wait for the end, and return counts of what was sent and of the broker's answers."""
        with self.process:
            try:
                assert self.process.wait(timeout=self.seconds + 30) == 0, "the attack has failed"
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
            assert self.process.stdout is not None
            return dict(json.load(self.process.stdout))


def large_batches(client: RawClient) -> None:
    """Batches with as large user properties as the broker takes, by turns with batches that are full of new people."""
    limits, topic = client.connect(), TOPICS.batch(client.login)
    small = batch(client.login, 1)
    properties = user_properties(room(limits, topic) - len(small))
    large = batch(client.login, room(limits, topic) // len(PERSON) - 10)
    while True:
        number = next(_numbers)
        client.send(publish_packet(topic, small, qos=1, packet_id=number, properties=properties))
        new_people = large.replace(b'"000000-', b'"%06d-' % number)
        client.send(publish_packet(topic, new_people, qos=1, packet_id=number))


def subscriptions(client: RawClient) -> None:
    """As many filters as a packet takes: short ones, deep ones, and deep ones below the device's own reply topic."""
    limits = client.connect()
    while True:
        number = next(_numbers)
        for shape in ("{}/{}", "{}/{}" + "/x" * 196, TOPICS.reply(client.login) + "/{}/{}" + "/x" * 190):
            size = len(shape.format(number, 99_999)) + 3
            client.send(
                subscribe_packet(shape.format(number, each) for each in range((limits.packet_size - 100) // size))
            )


def junk(client: RawClient) -> None:
    """60 kB that are no batch, at QoS 1."""
    client.connect()
    while True:
        client.send(publish_packet(TOPICS.batch(client.login), b"\xff" * 60_000, qos=1, packet_id=next(_numbers)))


def flood(client: RawClient) -> None:
    """Small valid batches at QoS 0."""
    client.connect()
    one = publish_packet(TOPICS.batch(client.login), batch(client.login, 1), qos=0)
    while True:
        client.send(one * 500, packets=500)


def half_open(client: RawClient) -> None:
    """The largest messages at QoS 2 without a PUBREL, one more than the broker takes; then the session again."""
    limits, topic = client.connect(), TOPICS.batch(client.login)
    payload = b"x" * room(limits, topic)
    for _ in range(min(limits.receive_maximum, MAX_TEXT - 1) + 1):
        client.send(publish_packet(topic, payload, qos=2, packet_id=next(_numbers)))


def topic_aliases(client: RawClient) -> None:
    """An alias for the longest topic, each that the broker grants, and one that it does not."""
    limits = client.connect()
    topic = f"{TOPICS.batch(client.login)}/{'x' * (min(MAX_TEXT, limits.packet_size) - 200)}"
    for alias in range(1, min(limits.topic_aliases, MAX_TEXT - 1) + 2):
        client.send(publish_packet(topic, b"", qos=0, properties=alias_property(alias)))
    client.read(0.05)


def wills(client: RawClient) -> None:
    """The largest will, for at once or for never, and no goodbye."""
    limits, topic = client.connect(), TOPICS.status(client.login)
    client.drop()
    for delay in (0, FOREVER):
        properties = delay_property(delay) + user_properties(room(limits, topic) - 60_000 - 300)
        client.connect(will=Will(topic, b"x" * 60_000, properties))
        client.drop()


def retained_messages(client: RawClient) -> None:
    """The largest retained messages on the device's own topics, and on ever more of them."""
    limits = client.connect()
    while True:
        number = next(_numbers)
        for topic in (TOPICS.status(client.login), TOPICS.batch(client.login), f"emotions/{client.login}/{number}"):
            payload = b"x" * room(limits, topic)
            client.send(publish_packet(topic, payload, qos=1, packet_id=number, retain=True))


def client_ids(client: RawClient) -> None:
    """A new session each time, which listens to replies, asks for one, and is left behind."""
    client.connect(f"{client.login}-{next(_numbers)}")
    client.send(subscribe_packet([TOPICS.reply(client.login)]))
    asking = response_property(TOPICS.reply(client.login))
    client.send(publish_packet(TOPICS.batch(client.login), batch(client.login, 1), qos=1, properties=asking))


def connection_for_each_batch(client: RawClient) -> None:
    """A new connection for each batch of new people, so that no limit of a connection holds it back."""
    limits, topic = client.connect(), TOPICS.batch(client.login)
    new_people = batch(client.login, min(room(limits, topic), 100_000) // len(PERSON) - 10)
    number = next(_numbers)
    client.send(publish_packet(topic, new_people.replace(b'"000000-', b'"%06d-' % number), qos=1, packet_id=number))
    client.read(0.001)


def connections(client: RawClient) -> None:
    """Connect, and drop the connection."""
    client.connect()


ATTACKS = (
    Attack("large batches", large_batches),
    Attack("large batches while the daemon is stopped", large_batches, stopped=True),
    Attack("subscriptions", subscriptions),
    Attack("junk", junk),
    Attack("QoS 0 flood", flood, floods=True),
    Attack("QoS 2 half open", half_open),
    Attack("topic aliases", topic_aliases),
    Attack("large wills", wills),
    Attack("retained messages", retained_messages),
    Attack("client ids", client_ids),
    Attack("a connection for each batch", connection_for_each_batch),
    Attack("connections", connections),
)

PERSON = b'{"person_id":"000000-00000","cumulative":{"happy":1}},'


def room(limits: Limits, topic: str) -> int:
    """Return the bytes that payload and properties may have in a PUBLISH to `topic`."""
    return limits.packet_size - len(topic) - 20


def batch(device_id: str, number: int) -> bytes:
    """A valid batch of the device with so many people."""
    people = b"".join(PERSON.replace(b"-00000", b"-%05d" % each) for each in range(number))[:-1]
    head = f'{{"device_id":"{device_id}","timestamp":"{START:%Y-%m-%dT%H:%M:%SZ}","people":['
    return head.encode() + people + b"]}"


def groups(*, full: bool) -> list[list[Attack]]:
    """The attacks of one login: each for itself, or if not `full` one after the other."""
    if full:
        return [[attack] for attack in ATTACKS]
    return [[attack for attack in ATTACKS if attack.stopped is stopped] for stopped in (False, True)]


def attack_until_over(attack: Attack, client: RawClient) -> None:
    with suppress(Over):
        while True:
            try:
                attack.attack(client)
            except OSError as error:
                client.answers[type(error).__name__] += 1
                client.rest()
            finally:
                client.drop()


def main(name: str, host: str, port: str, login: str, seconds: str) -> None:
    (attack,) = (attack for attack in ATTACKS if attack.name == name)
    password = sys.stdin.read()
    max_bytes = attack.max_bytes(float(seconds))
    client = RawClient(host, int(port), login, password, seconds=float(seconds), max_bytes=max_bytes)
    attack_until_over(attack, client)
    sent = {"connections": client.connections, "packets": client.packets, "bytes": client.sent_bytes}
    print(json.dumps(sent | {"answers": dict(client.answers.most_common())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
