"""Logins made by our own code and the access list that is shipped, in a real Mosquitto."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from emotion_admin.logins import DAEMON, HEALTH, Logins
from shared.batch import Topics
from tests.brokers import Broker, shipped_rules
from tests.faults.intruders import ONLOOKER, ONLOOKERS_ACCESS, Intruder
from tests.waiting import wait_until

pytestmark = pytest.mark.program

TOPICS = Topics("emotions")
DEVICE = "jetson_1"


class Site(NamedTuple):
    """A broker whose logins can be changed, and the passwords of those that it has."""

    broker: Broker
    logins: Logins
    passwords: dict[str, str]

    def client(self, name: str) -> Intruder:
        return Intruder(self.broker, name, self.passwords[name], client_id=name)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    logins = Logins(tmp_path / "passwords")
    passwords = {name: logins.renew(name) for name in (DAEMON, HEALTH, DEVICE, "jetson_2", ONLOOKER)}
    broker = Broker(tmp_path, shipped_rules(tmp_path) + "sys_interval 1\n")
    with (tmp_path / "mosquitto.acl").open("a") as access:
        access.write(ONLOOKERS_ACCESS)
    broker.start()
    yield Site(broker, logins, passwords)
    broker.kill()


def test_a_batch_reaches_the_daemon_and_its_answer_the_device(site: Site) -> None:
    with site.client(DAEMON) as daemon, site.client(DEVICE) as device:
        daemon.subscribe(TOPICS.batch_filter)
        device.subscribe(TOPICS.reply(DEVICE) + "/#")
        device.publish(TOPICS.batch(DEVICE), b"batch")
        daemon.publish(TOPICS.reply(DEVICE), b"answer")
        daemon.publish(TOPICS.reply(DEVICE) + "/7", b"answer below")

        wait_until(lambda: len(device.seen) == 2, what="the device has both answers")
        assert daemon.seen == [(TOPICS.batch(DEVICE), b"batch")]


def test_the_daemon_hears_a_devices_presence_and_its_will(site: Site) -> None:
    with site.client(DAEMON) as daemon:
        daemon.subscribe(TOPICS.status_filter)
        with site.client(DEVICE) as device:
            device.publish(TOPICS.status(DEVICE), b"online")

        wait_until(lambda: bool(daemon.seen), what="the daemon hears of the device")
        assert daemon.seen == [(TOPICS.status(DEVICE), b"online")]


def test_a_new_login_counts_at_once(site: Site) -> None:
    password = site.logins.add("jetson_9")
    with Intruder(site.broker, "jetson_9", password) as too_early:
        assert not too_early.let_in

    site.broker.reload()

    def let_in() -> bool:
        with Intruder(site.broker, "jetson_9", password) as device:
            return device.let_in

    wait_until(let_in, what="the new device may connect")


def test_a_removed_login_ends_its_connection_and_no_other(site: Site) -> None:
    with site.client(DAEMON) as daemon, site.client(DEVICE) as removed, site.client("jetson_2") as other:
        daemon.subscribe(TOPICS.batch_filter)
        site.logins.remove(DEVICE)
        site.broker.reload()
        wait_until(lambda: removed.ended, what="the removed device's connection ends")
        other.publish(TOPICS.batch("jetson_2"), b"batch")

        wait_until(lambda: bool(daemon.seen), what="the others go on")
        assert not daemon.ended
        assert not other.ended
    with site.client(DEVICE) as again:
        assert not again.let_in


def test_a_renewed_password_ends_the_connection_with_the_old_one(site: Site) -> None:
    with site.client(DEVICE) as device:
        site.logins.renew(DEVICE)
        site.broker.reload()

        wait_until(lambda: device.ended, what="the connection with the old password ends")


@pytest.mark.parametrize("topic", [TOPICS.batch(DEVICE), TOPICS.batch(DAEMON), TOPICS.status(DEVICE), "anything"])
def test_the_daemon_writes_nothing_but_replies_and_its_presence(site: Site, topic: str) -> None:
    with site.client(DAEMON) as daemon, site.client(ONLOOKER) as onlooker:
        onlooker.subscribe("#")
        daemon.publish(topic, b"evil", retain=True)
        daemon.publish(TOPICS.status(DAEMON), b"online")
        wait_until(lambda: bool(onlooker.seen), what="what the daemon may write is delivered")

        assert onlooker.seen == [(TOPICS.status(DAEMON), b"online")]


def test_the_health_check_hears_of_the_broker_and_nothing_else(site: Site) -> None:
    with site.client(HEALTH) as health, site.client(DEVICE) as device, site.client(DAEMON) as daemon:
        daemon.subscribe(TOPICS.batch_filter)
        health.subscribe("#")
        health.subscribe("$SYS/#")
        device.publish(TOPICS.batch(DEVICE), b"batch")
        health.publish(TOPICS.batch(HEALTH), b"evil")
        wait_until(lambda: bool(health.seen), what="the health check hears how long the broker runs")
        wait_until(lambda: bool(daemon.seen), what="the batch is delivered")

        assert {topic for topic, _ in health.seen} == {"$SYS/broker/uptime"}
        assert daemon.seen == [(TOPICS.batch(DEVICE), b"batch")]
