"""Logins made by our own code and the roles that are shipped, in a real Mosquitto."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotion_admin.__main__ import main
from emotion_admin.roles import ADMIN, CONTROL, DAEMON, HEALTH
from emotion_admin.secrets import Secrets
from shared.batch import Topics
from tests.brokers import Broker, allow_listening, shipped_rules
from tests.faults.intruders import ONLOOKER, Hoarder, Intruder
from tests.waiting import wait_until

pytestmark = pytest.mark.program

TOPICS = Topics("emotions")
DEVICE = "jetson_1"
REPLY = TOPICS.reply(DEVICE)
NOT_AUTHORIZED = 0x87
EARLIER = (
    "jetson_1:$7$1000$L59SmldDUScGKxGs"
    "$utErZp1a6nakddRR3CsrJnurTW3uKq8MQY0hNvK58Vos9nY4RCAXd3rFOgUpb1EVawDyom7lRBrfZs4KJZncTw==\n"
)
"""The password file of an earlier version."""

EARLIER_PASSWORD = "5KT4HeXnernJGqbYoXahlQynuJqfV1Y5"


class Site:
    """A running broker, its secrets, the passwords of its logins, and the operator's command `device`."""

    def __init__(self, folder: Path) -> None:
        self.secrets = Secrets(folder / "secrets", TOPICS)
        self.secrets.make_missing()
        names = (DAEMON, HEALTH, DEVICE, "jetson_2", ONLOOKER)
        self.passwords = {name: self.secrets.logins.renew(name) for name in names}
        self.passwords[ADMIN] = self.secrets.admin_password.read_text().strip()
        allow_listening(self.secrets.dynamic_security, ONLOOKER)
        self.broker = Broker(folder, shipped_rules(folder) + "sys_interval 1\n")
        self.broker.logins = self.secrets.dynamic_security
        self.broker.start()
        self.brokers = [self.broker]

    def client(self, name: str) -> Intruder:
        return Intruder(self.broker, name, self.passwords[name], client_id=name)

    def device(self, *arguments: str) -> int:
        brokers = [f"--broker={broker.host}:{broker.port}" for broker in self.brokers]
        return main(["--secrets", str(self.secrets.folder), *brokers, "device", *arguments])

    def lets_in(self, name: str, password: str) -> bool:
        return lets_in(self.broker, name, password)


def lets_in(broker: Broker, name: str, password: str) -> bool:
    with Intruder(broker, name, password) as client:
        return client.let_in


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for broker in site.brokers:
        broker.kill()


@pytest.fixture
def second_broker(site: Site, tmp_path: Path) -> Broker:
    """Another broker of the site, which starts with the same logins."""
    folder = tmp_path / "second"
    folder.mkdir()
    broker = Broker(folder, shipped_rules(folder))
    broker.logins = site.secrets.dynamic_security
    broker.start()
    site.brokers.append(broker)
    return broker


def password_in(printed: str) -> str:
    """The password in what `device add` has printed."""
    return printed.split("\n\n")[1].strip()


def test_a_batch_reaches_the_daemon_and_its_reply_the_device(site: Site) -> None:
    with site.client(DAEMON) as daemon, site.client(DEVICE) as device:
        daemon.subscribe(TOPICS.batch_filter)
        device.subscribe(f"{REPLY}/#")
        device.publish(TOPICS.batch(DEVICE), b"batch")
        daemon.publish(REPLY, b"reply")
        daemon.publish(f"{REPLY}/7/8", b"reply below")

        wait_until(lambda: len(device.seen) == 2, what="the device has both replies")
        assert daemon.seen == [(TOPICS.batch(DEVICE), b"batch")]


def test_the_daemon_hears_a_devices_presence_and_its_will(site: Site) -> None:
    with site.client(DAEMON) as daemon:
        daemon.subscribe(TOPICS.status_filter)
        with site.client(DEVICE) as device:
            device.publish(TOPICS.status(DEVICE), b"online")

        wait_until(lambda: bool(daemon.seen), what="the daemon hears of the device")
        assert daemon.seen == [(TOPICS.status(DEVICE), b"online")]


def test_the_daemon_hears_the_statistics_of_a_device_and_removing_it_clears_them(site: Site) -> None:
    with site.client(DAEMON) as daemon:
        daemon.subscribe(TOPICS.info_filter)
        with site.client(DEVICE) as device:
            device.publish(TOPICS.info(DEVICE), b"{}", retain=True)
        wait_until(lambda: bool(daemon.seen), what="the daemon hears the statistics")

        assert site.device("remove", DEVICE) == 0

        wait_until(lambda: daemon.seen == [(TOPICS.info(DEVICE), b"{}"), (TOPICS.info(DEVICE), b"")])


GRANTED = [
    *((DEVICE, topic_filter) for topic_filter in (REPLY, f"{REPLY}/+", f"{REPLY}/#")),
    *((DAEMON, topic_filter) for topic_filter in (TOPICS.batch_filter, TOPICS.status_filter, TOPICS.info_filter)),
    (HEALTH, "$SYS/broker/uptime"),
    (ADMIN, f"{CONTROL}/response"),
]


@pytest.mark.parametrize(("login", "topic_filter"), GRANTED)
def test_a_login_is_granted_what_its_role_names(site: Site, login: str, topic_filter: str) -> None:
    with site.client(login) as client:
        assert client.subscribe(topic_filter) == 1


REFUSED = [
    *((DEVICE, each) for each in (f"{REPLY}/7", f"{REPLY}/+/+", f"{REPLY}/+/#", f"$share/g/{REPLY}")),
    *((DAEMON, each) for each in ("#", "emotions/#", REPLY, "$SYS/#", "$CONTROL/#", "$share/g/emotions/+/batch")),
    *((HEALTH, each) for each in ("#", "$SYS/#", "emotions/+/batch")),
    *((ADMIN, each) for each in ("#", "emotions/+/batch", "$SYS/#", "$CONTROL/#")),
]


@pytest.mark.parametrize(("login", "topic_filter"), REFUSED)
def test_a_login_is_granted_nothing_else(site: Site, login: str, topic_filter: str) -> None:
    """tests/faults/test_17_access.py has more filters, and older versions of MQTT."""
    with site.client(login) as client:
        assert client.subscribe(topic_filter) == NOT_AUTHORIZED


def test_a_new_login_counts_once_the_command_has_ended(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.device("add", "jetson_9") == 0

    printed = capsys.readouterr()
    assert site.lets_in("jetson_9", password_in(printed.out))
    assert printed.err == ""


def test_a_mac_address_can_be_a_login(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.device("add", "aa:bb:cc:dd:ee:ff")
    password = password_in(capsys.readouterr().out)

    with (
        site.client(DAEMON) as daemon,
        Intruder(site.broker, "aa:bb:cc:dd:ee:ff", password) as device,
    ):
        daemon.subscribe(TOPICS.batch_filter)
        device.publish(TOPICS.batch("aa:bb:cc:dd:ee:ff"), b"batch")

        wait_until(lambda: bool(daemon.seen), what="the batch is delivered")


def test_a_change_still_counts_after_a_restart_of_the_broker(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.device("add", "jetson_9")
    site.device("remove", DEVICE)
    password = password_in(capsys.readouterr().out)

    site.broker.restart()

    assert site.lets_in("jetson_9", password)
    assert not site.lets_in(DEVICE, site.passwords[DEVICE])


def test_a_removed_login_ends_its_connection_and_no_other(site: Site) -> None:
    with site.client(DAEMON) as daemon, site.client(DEVICE) as removed, site.client("jetson_2") as other:
        daemon.subscribe(TOPICS.batch_filter)
        assert site.device("remove", DEVICE) == 0
        wait_until(lambda: removed.ended, what="the removed device's connection ends")
        other.publish(TOPICS.batch("jetson_2"), b"batch")

        wait_until(lambda: bool(daemon.seen), what="the others go on")
        assert daemon.seen == [(TOPICS.batch("jetson_2"), b"batch")], "the daemon got no empty batch"
        assert not daemon.ended
        assert not other.ended
    assert not site.lets_in(DEVICE, site.passwords[DEVICE])


def test_a_renewed_password_ends_the_connection_with_the_old_one(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.client(DEVICE) as device:
        assert site.device("add", DEVICE, "--renew") == 0

        wait_until(lambda: device.ended, what="the connection with the old password ends")
    assert not site.lets_in(DEVICE, site.passwords[DEVICE])
    assert site.lets_in(DEVICE, password_in(capsys.readouterr().out))


def retained(site: Site) -> list[str]:
    """The topics with a retained message, apart from the broker's own."""
    with site.client(ONLOOKER) as onlooker:
        onlooker.subscribe("#")
        onlooker.subscribe("emotions/#")  # once this is granted, what "#" has retained was delivered
        return sorted({topic for topic, _ in onlooker.seen})


@pytest.mark.parametrize("twice", [False, True], ids=["", "whose login went while the broker was down"])
def test_removing_a_device_ends_all_that_it_has_at_the_broker(
    site: Site, twice: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Hoarder(site.broker, DEVICE, site.passwords[DEVICE])
    device.hoard()
    device.drop()
    with site.client(DAEMON) as daemon:
        for _ in range(20):
            daemon.publish(REPLY, b"queued")
    assert retained(site) == [TOPICS.batch(DEVICE), TOPICS.status(DEVICE)]

    if twice:
        site.broker.stop()
        assert site.device("remove", DEVICE) == 0
        assert "run the same command again" in capsys.readouterr().err
        site.broker.start()
    assert site.device("remove", DEVICE) == 0
    time.sleep(3)  # longer than the will's delay

    assert retained(site) == []
    site.device("add", DEVICE)
    again = Hoarder(site.broker, DEVICE, password_in(capsys.readouterr().out.partition("messages\n")[2]))
    assert again.session_present is False
    assert again.heard(REPLY) == []


def test_without_a_broker_the_change_counts_from_its_next_start(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.broker.stop()

    assert site.device("add", "jetson_9") == 0
    printed = capsys.readouterr()
    assert site.device("remove", "jetson_8") == 1
    assert "has no login" in capsys.readouterr().err

    site.broker.start()
    assert "counts from its next start" in printed.err
    assert site.lets_in("jetson_9", password_in(printed.out))


def test_a_login_counts_in_every_broker_at_once(
    site: Site, second_broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.device("add", "jetson_9") == 0
    password = password_in(capsys.readouterr().out)
    assert [lets_in(broker, "jetson_9", password) for broker in site.brokers] == [True, True]

    assert site.device("remove", "jetson_9") == 0
    assert [lets_in(broker, "jetson_9", password) for broker in site.brokers] == [False, False]


def test_a_stopped_broker_delays_no_other_and_knows_the_login_from_its_next_start(
    site: Site, second_broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    second_broker.stop()

    assert site.device("remove", DEVICE) == 0
    assert site.device("add", "jetson_9") == 0
    printed = capsys.readouterr()

    address = f"the broker at {second_broker.host}:{second_broker.port} is not running"
    assert printed.err.count(address) == len(printed.err.splitlines()) == 2
    assert not site.lets_in(DEVICE, site.passwords[DEVICE])
    second_broker.start()
    password = printed.out.partition("shown:\n\n")[2].partition("\n")[0].strip()
    assert [lets_in(broker, "jetson_9", password) for broker in site.brokers] == [True, True]
    assert not lets_in(second_broker, DEVICE, site.passwords[DEVICE])


def test_a_broker_that_refuses_the_administrator_is_a_sentence_and_nothing_changes(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.secrets.logins.renew(ADMIN)  # the broker has the password of before
    site.secrets.admin_password.write_text("another\n")

    assert site.device("add", "jetson_9") == 1

    assert "does not accept the login emotion-admin (Not authorized)" in capsys.readouterr().err
    assert "jetson_9" not in site.secrets.logins.names()


def test_the_passwords_of_an_earlier_version_still_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = Secrets(tmp_path / "secrets", TOPICS)
    passwords = tmp_path / "secrets" / "broker" / "passwords"
    passwords.parent.mkdir(parents=True)
    passwords.write_text(EARLIER)

    main(["--secrets", str(secrets.folder), "secrets"])

    assert secrets.logins.devices() == [DEVICE]
    assert not passwords.exists()
    broker = Broker(tmp_path, shipped_rules(tmp_path))
    broker.logins = secrets.dynamic_security
    broker.start()
    try:
        with Intruder(broker, DEVICE, EARLIER_PASSWORD) as device:
            assert device.let_in
            assert device.subscribe(REPLY) == 1
    finally:
        broker.kill()


@pytest.mark.parametrize("topic", [TOPICS.batch(DEVICE), TOPICS.status(DEVICE)])
def test_the_daemon_deletes_what_a_device_left_retained(site: Site, topic: str) -> None:
    with site.client(DAEMON) as daemon, site.client(DEVICE) as device, site.client(ONLOOKER) as onlooker:
        device.publish(topic, b"retained", retain=True)
        daemon.publish(topic, b"", retain=True)
        daemon.publish(TOPICS.status(DAEMON), b"online", retain=True)
        onlooker.subscribe("#")
        wait_until(lambda: bool(onlooker.seen), what="what the broker retains is delivered")

        assert onlooker.seen == [(TOPICS.status(DAEMON), b"online")]


@pytest.mark.parametrize("topic", [f"{TOPICS.batch(DEVICE)}/below", TOPICS.batch("x/y"), "anything"])
def test_the_daemon_writes_to_no_topic_that_is_not_part_of_the_contract(site: Site, topic: str) -> None:
    with site.client(DAEMON) as daemon, site.client(ONLOOKER) as onlooker:
        onlooker.subscribe("#")
        daemon.publish(topic, b"evil", retain=True)
        daemon.publish(TOPICS.status(DAEMON), b"online")
        wait_until(lambda: bool(onlooker.seen), what="what the daemon may write is delivered")

        assert onlooker.seen == [(TOPICS.status(DAEMON), b"online")]


def test_the_health_check_hears_of_the_broker_and_nothing_else(site: Site) -> None:
    with site.client(HEALTH) as health, site.client(DEVICE) as device, site.client(DAEMON) as daemon:
        daemon.subscribe(TOPICS.batch_filter)
        health.subscribe("$SYS/broker/uptime")
        device.publish(TOPICS.batch(DEVICE), b"batch")
        health.publish(TOPICS.batch(HEALTH), b"evil")
        wait_until(lambda: bool(health.seen), what="the health check hears how long the broker runs")
        wait_until(lambda: bool(daemon.seen), what="the batch is delivered")

        assert {topic for topic, _ in health.seen} == {"$SYS/broker/uptime"}
        assert daemon.seen == [(TOPICS.batch(DEVICE), b"batch")]
