"""Another client connects with the daemon's client id; a second daemon starts."""

import random
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.faults.conftest import Rounds
from tests.faults.rig import RECEIVING_AGAIN_SECONDS, SUBSCRIBED, Rig, running
from tests.processes import Daemon
from tests.waiting import wait_until

DAEMON_ID = "emotion-daemon"
INTRUDER = "jetson_9"
PASSWORD = "correct horse"


@pytest.fixture
def closed_broker(start_broker: Callable[[str], Broker], tmp_path: Path) -> Broker:
    """One that knows its clients, and gives each its username for a client id."""
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    program = shutil.which("mosquitto_passwd")
    assert program, "the tests need mosquitto_passwd: apt-get install mosquitto"
    for username in (DAEMON_ID, INTRUDER, "fleet", "probe"):
        subprocess.run([program, "-b", passwords, username, PASSWORD], check=True, timeout=30)
    broker = start_broker(f"allow_anonymous false\npassword_file {passwords}\nuse_username_as_clientid true")
    broker.password = PASSWORD
    return broker


def test_a_device_that_says_it_is_the_daemon_takes_nothing_over(
    closed_broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with running(
        closed_broker,
        sqlite_url,
        tmp_path / "log",
        EMOTION_MQTT_USERNAME=DAEMON_ID,
        EMOTION_MQTT_PASSWORD=PASSWORD,
    ) as rig:
        for chance in rounds(3, full=20):
            rig.fleet.wait_for_more(chance.randint(20, 150))
            mosquitto_pub(closed_broker, "-i", DAEMON_ID, *chance.choice([(), ("-c",)]))
            rig.check_receiving()

        rig.check()

        rig.check_history()
        assert rig.daemon.log().count(SUBSCRIBED) == 1, "its connection did not last"


def test_a_client_that_takes_the_session_over_loses_nothing(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with running(broker, sqlite_url, tmp_path / "log") as rig:
        for chance in rounds(3, full=20):
            rig.fleet.wait_for_more(chance.randint(20, 150))
            connections = rig.daemon.log().count(SUBSCRIBED)
            take_over(broker, chance)
            start_again_if_it_left(rig, connections)
            rig.check_receiving()

        rig.check()

        rig.check_history()


def test_a_second_daemon_leaves_the_first_alone(
    broker: Broker, sqlite_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with running(broker, sqlite_url, tmp_path / "log") as rig:
        for chance in rounds(2, full=10):
            rig.fleet.wait_for_more(chance.randint(20, 150))
            with Daemon(broker, sqlite_url, tmp_path / "second log") as second:
                assert second.wait() == 1
            assert "another daemon is running on" in second.log().splitlines()[-1]
            rig.check_receiving()

        rig.check()

        rig.check_history()
        assert rig.daemon.log().count(SUBSCRIBED) == 1, "its connection did not last"


def mosquitto_pub(broker: Broker, *arguments: str) -> None:
    """A device with a login of its own."""
    program = shutil.which("mosquitto_pub")
    assert program, "the tests need mosquitto_pub: apt-get install mosquitto-clients"
    command = [program, "-h", broker.host, "-p", str(broker.port), "-u", INTRUDER, "-P", PASSWORD, "-t", "x", "-m", "x"]
    subprocess.run([*command, *arguments], check=True, timeout=30)


def take_over(broker: Broker, chance: random.Random) -> None:
    """Connect with the daemon's client id for up to a second, or until the daemon is back.

    With the session as it is, and without acknowledging anything: a client that the broker lets throw the session away,
    or acknowledge what is in it, takes batches that no daemon could keep. The broker has to be closed against that.
    """
    keepalive, session_expires_never = b"\x00\x3c", b"\x05\x11\xff\xff\xff\xff"
    client_id = len(DAEMON_ID).to_bytes(2, "big") + DAEMON_ID.encode()
    body = b"\x00\x04MQTT\x05" + b"\x00" + keepalive + session_expires_never + client_id
    with socket.create_connection((broker.host, broker.port), timeout=15) as intruder:
        intruder.sendall(bytes([0x10, len(body)]) + body)
        assert intruder.recv(1)[0] >> 4 == 2, "no CONNACK"
        intruder.settimeout(chance.random())
        with suppress(OSError):  # no more messages for so long, or cut off by the daemon
            while intruder.recv(65_536):
                pass


def start_again_if_it_left(rig: Rig, connections: int) -> None:
    """Start the daemon again, as an orchestrator does. Mosquitto 2.0.11 only closes the socket."""
    wait_until(
        lambda: rig.daemon.ended or rig.daemon.log().count(SUBSCRIBED) > connections,
        seconds=RECEIVING_AGAIN_SECONDS,
        what="the daemon is back or has left",
    )
    if rig.daemon.ended:
        assert rig.daemon.wait() == 1
        assert "another client took over the session" in rig.daemon.log().splitlines()[-1]
        rig.daemon.start()
