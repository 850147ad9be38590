"""A client without a login, or with another's, gets nothing in and nothing out: judged by what is stored and what is
delivered, never by what the broker says. After each attempt a device that may gets its batch through."""

import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from shared.batch import encode
from tests.brokers import LOGINS_FILE, Broker, allow_listening, logins, shipped_rules
from tests.clients import Client
from tests.faults.history import START, TOPICS, stored_rows
from tests.faults.intruders import ONLOOKER, V5, V31, V311, Intruder
from tests.faults.rig import SUBSCRIBED, person_is_stored, rejected_count
from tests.processes import Daemon
from tests.waiting import wait_until

DAEMON, VICTIM, THIEF = "emotion-daemon", "jetson_1", "jetson_2"
PASSWORD = "known to those who may"
Protocols = list[MQTTProtocolVersion]
EVIL = b"evil"
BATCH = encode(VICTIM, START, {"evil": {"happy": 666.0}})
VICTIMS = TOPICS.batch(VICTIM)


class Site:
    """A broker with logins, a daemon and a device that may, and an onlooker who is delivered all there is."""

    def __init__(self, broker: Broker, daemon: Daemon, url: str, device: Client, onlooker: Client) -> None:
        self.broker = broker
        self.daemon = daemon
        self.url = url
        self.onlooker = onlooker
        self._device = device
        self._numbers = count(1)

    def thief(self, **how: object) -> Intruder:
        """A device that may connect, and publish as itself."""
        return Intruder(self.broker, THIEF, PASSWORD, **how)  # type: ignore[arg-type]

    def send_good(self) -> str:
        """The device publishes a batch, and asks for an answer; returns the person who is in it."""
        person = str(next(self._numbers))
        payload = encode(VICTIM, START, {person: {"happy": 1.0}})
        self._device.publish(VICTIMS, payload, response_topic=TOPICS.reply(VICTIM), correlation_data=person.encode())
        return person

    def wait_until_handled(self, person: str) -> None:
        """Until that person is stored, and the device was told so."""
        wait_until(lambda: person_is_stored(self.url, VICTIM, person), what="a device that may gets its batch through")
        wait_until(
            lambda: any(seen.correlation_data == person.encode() for seen in self._device.seen),
            what="the device is answered",
        )

    def check(self) -> None:
        """The device gets a batch through; of what is evil nothing is stored, refused or delivered."""
        self.wait_until_handled(self.send_good())
        assert {row.happy for row in stored_rows(self.url).values()} == {1.0}
        assert rejected_count(self.url) == 0
        delivered = [
            seen for seen in self.onlooker.seen if EVIL in seen.payload or EVIL in (seen.correlation_data or b"")
        ]
        assert delivered == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    write_logins(folder)
    broker = Broker(folder, shipped_rules(folder) + "sys_interval 1\n")
    broker.password = PASSWORD
    broker.start()
    url, login = f"sqlite:///{folder}/emotion.db", {"EMOTION_MQTT_USERNAME": DAEMON, "EMOTION_MQTT_PASSWORD": PASSWORD}
    try:
        with (
            Daemon(broker, url, folder / "log", **login) as daemon,
            Client(broker, VICTIM) as device,
            Client(broker, ONLOOKER) as onlooker,
        ):
            daemon.wait_for_log(SUBSCRIBED)
            onlooker.listen("#")
            device.listen(TOPICS.reply(VICTIM))
            yield Site(broker, daemon, url, device, onlooker)
    finally:
        broker.kill()


@pytest.fixture
def protocols(request: pytest.FixtureRequest) -> Protocols:
    """The versions of MQTT to try it with: one by chance, all of them with --full."""
    every = [V31, V311, V5]
    if request.config.getoption("--full"):
        return every
    chosen = random.Random(f"{request.config.getoption('--seed')} {request.node.name}").choice(every)
    print(f"--- {chosen.name}, --seed {request.config.getoption('--seed')}")
    return [chosen]


def write_logins(folder: Path) -> None:
    program = shutil.which("mosquitto_passwd")
    assert program, "the tests need mosquitto_passwd: apt-get install mosquitto"
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    for name in (DAEMON, VICTIM, THIEF, ONLOOKER):
        subprocess.run([program, "-b", passwords, name, PASSWORD], check=True)
    logins(folder).convert(passwords)
    allow_listening(folder / LOGINS_FILE, ONLOOKER)


LOGINS: dict[str, tuple[str | None, str | None]] = {
    "no login": (None, None),
    "a wrong password": (VICTIM, "guessed"),
    "an empty password": (VICTIM, ""),
    "no password": (VICTIM, None),
    "the daemon's name with a wrong password": (DAEMON, "guessed"),
    "an unknown name": ("jetson_9", PASSWORD),
    "an empty name": ("", PASSWORD),
    "a wildcard as name": ("+", PASSWORD),
    "all as name": ("#", PASSWORD),
    "the name in another case": (VICTIM.upper(), PASSWORD),
    "a name with levels": (f"x/../{VICTIM}", PASSWORD),
}


@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS.keys())
def test_who_has_no_valid_login_neither_publishes_nor_listens(
    login: tuple[str | None, str | None], protocols: Protocols, site: Site
) -> None:
    for protocol in protocols:
        with Intruder(site.broker, *login, protocol=protocol) as intruder:
            if intruder.let_in:
                intruder.subscribe("#")
                intruder.publish(VICTIMS, BATCH)
            site.check()

        assert intruder.seen == []


PUBLICATIONS: dict[str, Callable[[Intruder], None]] = {
    "a batch of another's at QoS 0": lambda thief: thief.publish(VICTIMS, BATCH, qos=0),
    "a batch of another's at QoS 1": lambda thief: thief.publish(VICTIMS, BATCH, qos=1),
    "a batch of another's at QoS 2": lambda thief: thief.publish(VICTIMS, BATCH, qos=2),
    "a retained batch of another's": lambda thief: thief.publish(VICTIMS, BATCH, retain=True),
    "a device's batch that has not come yet": lambda thief: thief.publish(
        TOPICS.batch("jetson_9"), encode("jetson_9", START, {"evil": {"happy": 666.0}})
    ),
    "another's presence": lambda thief: thief.publish(TOPICS.status(VICTIM), EVIL, retain=True),
    "another's statistics": lambda thief: thief.publish(TOPICS.info(VICTIM), EVIL, retain=True),
    "the daemon's presence": lambda thief: thief.publish(TOPICS.status(DAEMON), EVIL, retain=True),
    "an answer to another": lambda thief: thief.publish(TOPICS.reply(VICTIM), EVIL),
    "an answer to itself": lambda thief: thief.publish(TOPICS.reply(THIEF), EVIL),
    "a topic below its own": lambda thief: thief.publish(f"{TOPICS.batch(THIEF)}/x", EVIL),
    "a topic above its own": lambda thief: thief.publish("emotions", EVIL),
    "a topic with an empty level": lambda thief: thief.publish("emotions//batch", BATCH),
    "a topic that goes up": lambda thief: thief.publish(f"emotions/{THIEF}/../{VICTIM}/batch", BATCH),
    "the broker's own topics": lambda thief: thief.publish("$SYS/broker/uptime", EVIL),
    "a topic of a shared subscription": lambda thief: thief.publish(f"$share/g/{VICTIMS}", BATCH),
    "any topic": lambda thief: thief.publish("anything", EVIL, retain=True),
}


@pytest.mark.parametrize("publish", PUBLICATIONS.values(), ids=PUBLICATIONS.keys())
def test_a_device_publishes_nothing_but_its_own(
    publish: Callable[[Intruder], None], protocols: Protocols, site: Site
) -> None:
    for protocol in protocols:
        with site.thief(protocol=protocol) as thief:
            publish(thief)

        site.check()


@pytest.mark.parametrize("retain", [False, True], ids=["", "retained"])
@pytest.mark.parametrize("topic", [VICTIMS, TOPICS.status(VICTIM), TOPICS.status(DAEMON), "anything"])
def test_a_will_goes_to_no_topic_of_anothers(topic: str, retain: bool, protocols: Protocols, site: Site) -> None:
    for protocol in protocols:
        with site.thief(will=(topic, BATCH, retain), protocol=protocol) as thief:
            thief.drop()

        site.check()


REFUSED = (0x80, 0x87)
"""The SUBACK's code for a filter that no role allows, by MQTT 3.1.1 and 5. MQTT 3.1 has no word for it."""

DEEP = "/".join(["x"] * 190)
FILTERS = (
    *("#", "+/+/+", "emotions/#", "emotions/+/batch", "emotions/+/reply", "emotions/+/status", "/#", "$SYS/#"),
    *(VICTIMS, TOPICS.reply(VICTIM), TOPICS.status(VICTIM), f"emotions/{VICTIM}/#", f"emotions/{THIEF}/#"),
    *("$share/g/emotions/+/batch", "$share/g/#", f"$share/g/{TOPICS.reply(VICTIM)}", "$share/emotion-daemon/#"),
    *(
        f"$share/g/{TOPICS.reply(THIEF)}",
        f"{TOPICS.reply(THIEF)}/7",
        f"{TOPICS.reply(THIEF)}/{DEEP}",
        f"emotions/{THIEF}/+",
    ),
    *(TOPICS.batch(THIEF), TOPICS.status(THIEF), "$CONTROL/#", "$CONTROL/dynamic-security/v1/response"),
)


@pytest.mark.parametrize("topic_filter", FILTERS)
def test_a_device_hears_nothing_of_another(topic_filter: str, protocols: Protocols, site: Site) -> None:
    for protocol in protocols:
        with site.thief(protocol=protocol) as thief:
            assert thief.let_in
            assert thief.subscribe(topic_filter) in REFUSED or protocol == V31
            site.check()
            thief.publish(TOPICS.status(THIEF), b"online")  # once this is answered, all before it was delivered

        assert thief.seen == []


def test_an_answer_that_a_device_asks_for_elsewhere_goes_nowhere(site: Site) -> None:
    with site.thief() as thief:
        payload = encode(THIEF, START, {"2": {"happy": 1.0}})
        thief.publish(TOPICS.batch(THIEF), payload, response_topic=TOPICS.reply(VICTIM))
        wait_until(
            lambda: person_is_stored(site.url, THIEF, "2"), what="the batch, which is the device's own, is stored"
        )

    site.check()
    assert not [
        seen for seen in site.onlooker.seen if seen.topic == TOPICS.reply(VICTIM) and seen.correlation_data == payload
    ]


@pytest.mark.parametrize("client_id", [DAEMON, VICTIM, ""], ids=["the daemon's", "another's", "none"])
def test_a_client_id_takes_nobody_s_session(client_id: str, protocols: Protocols, site: Site) -> None:
    for protocol in protocols:
        site.daemon.kill()
        waiting = [site.send_good() for _ in range(20)]
        with site.thief(client_id=client_id, protocol=protocol) as thief:
            if thief.let_in:
                thief.subscribe("emotions/+/batch")
            site.daemon.start()
            for person in waiting:
                site.wait_until_handled(person)

        site.check()
        assert thief.seen == []


def publish_packet(topic: str, payload: bytes) -> bytes:
    """A PUBLISH of MQTT 3.1.1 at QoS 0, of 128 to 16,383 bytes."""
    body = len(topic).to_bytes(2, "big") + topic.encode() + payload
    return bytes([0x30, len(body) % 128 | 128, len(body) // 128]) + body


@pytest.mark.parametrize(
    "junk",
    [
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n",
        publish_packet(VICTIMS, BATCH),
        b"\x82\x06\x00\x01\x00\x01#\x00",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=["a web socket", "PUBLISH before CONNECT", "SUBSCRIBE before CONNECT", "TLS"],
)
def test_what_is_no_connect_packet_is_answered_by_nothing(junk: bytes, site: Site) -> None:
    with socket.create_connection((site.broker.host, site.broker.port), timeout=15) as sock:
        sock.sendall(junk)
        site.check()

        assert not waiting_bytes(sock)


def waiting_bytes(sock: socket.socket) -> bytes:
    """Return the bytes that were received and not read yet."""
    sock.setblocking(False)
    try:
        return sock.recv(65_536)
    except (BlockingIOError, ConnectionResetError):
        return b""
