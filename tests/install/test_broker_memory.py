"""The memory limit of the broker without Docker: it refuses messages, and starts again with its queue."""

import resource
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.background import repeatedly
from tests.brokers import Broker
from tests.clients import Client
from tests.processes import ROOT
from tests.waiting import DEADLINE_SECONDS, wait_until

SCRIPT = ROOT / "deploy" / "systemd" / "broker-memory"
LIMITS = "max_queued_messages 10000000\nmax_packet_size 327680\nmax_qos 1"
MEMORY = 48 * 2**20

LARGE = Properties(PacketTypes.PUBLISH)
LARGE.UserProperty = [("k", "v" * 60_000)] * 5
"""300 kB that no limit on payloads counts."""


@contextmanager
def session(broker: Broker) -> Iterator[set[bytes]]:
    """A session that stays with the broker after the block, like the daemon's; yields the payloads it has received."""
    payloads: set[bytes] = set()
    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="listener", protocol=mqtt.MQTTv5)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda client, userdata, message: payloads.add(bytes(message.payload))
    forever = Properties(PacketTypes.CONNECT)
    forever.SessionExpiryInterval = 2**32 - 1
    client.connect(broker.host, broker.port, clean_start=False, properties=forever)
    client.loop_start()
    try:
        wait_until(client.is_connected, what="the broker answers")
        client.subscribe("batch/#", qos=1)
        assert subscribed.wait(DEADLINE_SECONDS), "the broker did not confirm the subscription"
        yield payloads
    finally:
        client.disconnect()
        client.loop_stop()


def data_limit(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_DATA)[0]


def test_the_script_leaves_room_above_what_the_broker_has_loaded(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    try:
        subprocess.run(["sh", SCRIPT, str(broker.pid)], check=True)

        assert 320 * 2**20 < data_limit(broker.pid) < 330 * 2**20
    finally:
        broker.stop()


@pytest.mark.timeout(120)
def test_a_full_broker_refuses_and_keeps_its_queue_over_a_restart(tmp_path: Path) -> None:
    broker = Broker(tmp_path, LIMITS)
    broker.start()
    try:
        with session(broker):
            pass
        resource.prlimit(broker.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
        with Client(broker, "victim") as victim, Client(broker, "attacker") as attacker:
            number = iter(range(1_000_000))
            with repeatedly(lambda: victim.send("batch/victim", b"%d" % next(number)), pause=0.02):

                def flood() -> bool:
                    if attacker.under_way < 20:
                        attacker.send("batch/attacker", b"", properties=LARGE)
                    return "attacker disconnected due to out of memory" in broker.log()

                wait_until(flood, seconds=60, pause=0.01, what="the broker refuses the attacker's messages")
        acknowledged = {*victim.acknowledged}
        broker.restart()

        with session(broker) as delivered:
            wait_until(lambda: acknowledged <= delivered, what="every acknowledged message is delivered")
        assert acknowledged
    finally:
        broker.stop()
