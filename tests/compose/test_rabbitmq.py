"""The system with a RabbitMQ cluster of three real nodes, one stack for all tests.

Nodes are killed and restarted under load: no batch that the cluster acknowledged is lost.
"""

import json
import random
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from emotion_admin.doctor import rabbitmq
from emotion_admin.doctor.rabbitmq import DELIVERIES, EXPIRY, PREFETCH, QUEUE
from emotion_admin.doctor.rabbitmq import NODES as NODES_SUBJECT
from emotion_admin.rabbitmq import ManagementApi, RabbitMqLogins, session_queue
from emotion_admin.rabbitmq_rights import POLICIES
from emotion_admin.roles import ADMIN, DAEMON
from shared.batch import encode
from shared.settings import Settings
from tests.brokers import Broker
from tests.compose.project import clone, project
from tests.compose.rabbitmq import NODES, Cluster, Session
from tests.faults.history import START, TOPICS, Fleet, expected_rows
from tests.waiting import wait_until

under_load = pytest.mark.timeout(3_600)
"""For tests with twenty rounds."""

pytestmark = pytest.mark.program


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with project(clone(tmp_path_factory.mktemp("clone")), Cluster) as made:
        assert isinstance(made, Cluster)
        made.compose("build", "--quiet")
        made.up()
        yield made


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> range:
    """Return one round, or twenty with --full."""
    return range(20 if pytestconfig.getoption("--full") else 1)


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> ManagementApi:
    return ManagementApi(cluster.management_url, ADMIN, cluster.secret("rabbitmq-1", "admin-password"))


@pytest.fixture(scope="module")
def session(api: ManagementApi) -> Session:
    return Session(api)


def batch(device_id: str, *, happy: float = 5.0) -> bytes:
    return encode(device_id, START + timedelta(seconds=happy), {"1": {"happy": happy}})


@pytest.fixture
def device() -> str:
    return f"camera_{secrets.token_hex(4)}"


@pytest.fixture
def fleet(cluster: Cluster, api: ManagementApi, session: Session, device: str, tmp_path: Path) -> Iterator[Fleet]:
    """A device that publishes all the time. At the end its rows are those of every acknowledged batch."""
    broker = cast(Broker, cluster)
    broker.password = RabbitMqLogins(api, TOPICS).add(device, new=True).password
    session.wait_for_copies()
    with Fleet(broker, pace=0.005, client_id=device, devices=[device]) as fleet:
        fleet.wait_for_more(100)
        yield fleet
        fleet.wait_for_more(100)
        fleet.finish()
    expected = expected_rows(fleet.history)
    wait_until(lambda: cluster.stored(tmp_path, device) == expected, pause=1, what="the model's rows are stored")


@under_load
def test_kill_the_daemons_node(cluster: Cluster, session: Session, fleet: Fleet, rounds: range) -> None:
    for _ in rounds:
        node = session.daemons_node()
        cluster.kill(node)
        fleet.wait_for_more(100)  # without the node
        cluster.start(node)
        session.wait_for_copies()


@under_load
def test_kill_the_queues_leader(cluster: Cluster, session: Session, fleet: Fleet, rounds: range) -> None:
    for _ in rounds:
        node = session.leader()
        cluster.kill(node)
        fleet.wait_for_more(100)
        cluster.start(node)
        session.wait_for_copies()


@under_load
def test_kill_two_nodes(cluster: Cluster, session: Session, fleet: Fleet, rounds: range) -> None:
    """The third waits for a majority."""
    for _ in rounds:
        nodes = random.sample(NODES, 2)
        cluster.kill(*nodes)
        cluster.start(*nodes)
        fleet.wait_for_more(100)
        session.wait_for_copies()


@under_load
def test_restart_one_node_after_another(cluster: Cluster, session: Session, fleet: Fleet, rounds: range) -> None:
    for _ in rounds:
        for node in NODES:
            cluster.run("docker", "restart", cluster.container(node))
            session.wait_for_copies()
            fleet.wait_for_more(100)


def test_a_device_that_was_added_publishes_until_it_is_removed(
    cluster: Cluster, api: ManagementApi, device: str
) -> None:
    with cluster.client(device) as client:
        client.listen(TOPICS.reply(device))
        client.publish(TOPICS.batch(device), batch(device), response_topic=TOPICS.reply(device))
        wait_until(lambda: client.seen, what="the daemon replies")
        logins = RabbitMqLogins(api, TOPICS).devices()

        cluster.run("scripts/device", "remove", device)

    wait_until(lambda: device not in str(api.get("connections")), what="its connection has ended")
    assert device in logins
    assert api.session(device) is None
    with pytest.raises(AssertionError, match="mosquitto_pub"):
        cluster.publish(device, 6.0)
    assert cluster.happy(device) == 5.0


def test_a_device_cannot_take_the_daemons_session(cluster: Cluster, session: Session, device: str) -> None:
    cluster.add_device(device)
    login = ("-i", DAEMON, "-u", device, "-P", cluster.passwords[device])
    before = session.connection()

    with pytest.raises(AssertionError, match="mosquitto_pub"):
        cluster.run("mosquitto_pub", "-V", "5", "-p", str(cluster.port), *login, "-t", "x", "-m", "x")

    assert session.connection() == before


def test_presence_survives_the_daemons_restart_and_the_loss_of_its_session(
    cluster: Cluster, api: ManagementApi, session: Session, device: str
) -> None:
    """The session has what a device says meanwhile. Without a session a batch says that the device is online."""
    with cluster.client(device) as client:
        client.publish(TOPICS.batch(device), batch(device))
        client.publish(TOPICS.status(device), b"online", retain=True)
        wait_until(lambda: cluster.presence(device) == (True, "online"), what="it is online")
        cluster.compose("stop", "daemon")
        client.publish(TOPICS.status(device), b"offline", retain=True)
        cluster.start("daemon")
        wait_until(lambda: cluster.presence(device) == (False, "offline"), what="it is offline")

        cluster.compose("stop", "daemon")
        api.delete("queues", "/", session_queue(DAEMON))
        client.publish(TOPICS.status(device), b"online", retain=True)
        cluster.start("daemon")
        session.connection()
        client.publish(TOPICS.batch(device), batch(device, happy=6.0))

        wait_until(lambda: cluster.presence(device) == (True, "offline"), what="it is online again")


def test_doctor_finds_a_missing_policy(cluster: Cluster, api: ManagementApi) -> None:
    findings = json.loads(cluster.run("scripts/doctor", "--json"))["findings"]
    found = {each["subject"]: each["level"] for each in findings if each["subject"].startswith("rabbitmq")}
    assert found == dict.fromkeys((NODES_SUBJECT, QUEUE, DELIVERIES, EXPIRY, PREFETCH), "ok")
    settings = Settings(mqtt_username=DAEMON, mqtt_password=cluster.secret("daemon", "daemon/password"))

    def deliveries() -> str:
        levels = {each.subject: each.level for each in rabbitmq.examine(settings, cluster.management_url)}
        return levels[DELIVERIES]

    api.delete("policies", "/", "daemon-session")
    try:
        wait_until(lambda: deliveries() == "problem", what="doctor notices")
    finally:
        api.put("policies", "/", "daemon-session", body=POLICIES["daemon-session"])
