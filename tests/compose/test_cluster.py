"""deploy/cluster with two shards: a device added once, and any container killed under load. One stack for all tests.

The tests of this file build on one another: the devices publish from the first kill to the last.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import pytest

from tests.brokers import Broker
from tests.compose.project import Project, clone, project
from tests.compose.test_crashes import LAST_MOMENT_SECONDS
from tests.faults.history import ALONE, Acknowledged, Fleet, expected_rows
from tests.faults.rig import Moment
from tests.waiting import slowness, wait_until

# paho does not close the socket of a TLS handshake that fails, as with a gate that has just been killed.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")

SHARDS = {"camera_1": "1", "camera_2": "2"}
"""Two devices, and the shard that each belongs to while both brokers run."""

HEALTHY_SECONDS = 180


class Cluster(Project):
    """The compose file of a cluster; `port` and `api_port` are the gate's."""

    up_seconds = math.inf
    """Seconds that the first `up` took."""

    @property
    def environment(self) -> dict[str, str]:
        ports = {"GATE_MQTT_PORT": str(self.port), "GATE_API_PORT": str(self.api_port)}
        return super().environment | ports | {"COMPOSE_FILE": "deploy/cluster/docker-compose.yml"}

    def kill(self, service: str) -> None:
        self.compose("kill", "-s", "KILL", service)

    def start(self, service: str) -> None:
        """Start a container that was killed."""
        self.run("docker", "start", self.container(service))

    @property
    def unhealthy(self) -> list[str]:
        listed = self.compose("ps", "--format", "{{.Service}} {{.Health}}").splitlines()
        return [line for line in listed if not line.endswith(" healthy")]

    def server(self, service: str, command: str) -> str:
        """Run one of the commands of deploy/cluster/postgres/server in the running container."""
        return self.compose("exec", "-T", service, "server", command)

    def shards(self, device_id: str) -> set[str]:
        """The shards to whose brokers the device has connected."""
        connected = f" as {device_id} ("
        return {number for number in "12" if connected in self.compose("logs", f"mosquitto-{number}")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with project(clone(tmp_path_factory.mktemp("clone")), Cluster) as made:
        assert isinstance(made, Cluster)
        made.compose("build", "--quiet")
        began = time.monotonic()
        made.up()
        made.up_seconds = time.monotonic() - began
        made.ca = tmp_path_factory.mktemp("ca") / "ca.crt"
        made.ca.write_text(made.compose("exec", "-T", "gate", "cat", "/secrets/gate/ca.crt"))
        yield made


class Load:
    """The devices of both shards, which publish all the time; no batch has a person of another batch."""

    def __init__(self, fleets: list[Fleet]) -> None:
        self._fleets = fleets
        self.lost_moments: list[Moment] = []

    def wait_for_more(self, number: int) -> None:
        for fleet in self._fleets:
            fleet.wait_for_more(number)

    @property
    def acknowledged(self) -> dict[str, dict[str, float]]:
        """The people of each device whose only batch was acknowledged, with their happy seconds."""
        found: dict[str, dict[str, float]] = {device_id: {} for device_id in SHARDS}
        for fleet in self._fleets:
            for (device_id, person_id), row in expected_rows(filter(self._is_safe, fleet.history)).items():
                if person_id.startswith(ALONE):
                    found[device_id][person_id] = row.happy
        return found

    def _is_safe(self, entry: Acknowledged) -> bool:
        return not any(since < entry.at < until for since, until in self.lost_moments)

    @contextmanager
    def losing_a_moment(self) -> Iterator[None]:
        """A broker is killed in the block: what it acknowledged shortly before may be lost."""
        since = time.monotonic() - LAST_MOMENT_SECONDS
        yield
        self.lost_moments.append((since, time.monotonic()))


@pytest.fixture(scope="module")
def load(cluster: Cluster) -> Iterator[Load]:
    with ExitStack() as stack:
        fleets = []
        for device_id in SHARDS:
            cluster.add_device(device_id)
            broker = cast(Broker, cluster)
            broker.password = cluster.passwords[device_id]
            fleets.append(stack.enter_context(Fleet(broker, pace=0.02, client_id=device_id, devices=[device_id])))
        yield Load(fleets)


def check(cluster: Cluster, load: Load) -> None:
    """Every person who was acknowledged until now is served with the values of that batch."""
    load.wait_for_more(20)
    wait_until_served(cluster, load)


def wait_until_served(cluster: Cluster, load: Load) -> None:
    expected = load.acknowledged

    def missing(device_id: str) -> list[str]:
        summary = cluster.summary(device_id) or {"current_people": []}
        served = {person["person_id"]: person["time_happy"] for person in summary["current_people"]}
        return [person for person, happy in expected[device_id].items() if served.get(person) != happy]

    for device_id in SHARDS:
        assert expected[device_id]
        wait_until(lambda: not missing(device_id), pause=0.1, what=f"all of {device_id} is served")  # noqa: B023


def test_it_is_healthy_within_three_minutes(cluster: Cluster) -> None:
    assert cluster.up_seconds < HEALTHY_SECONDS * slowness()


def test_nothing_has_more_rights_than_it_needs_and_only_the_gate_is_reachable(cluster: Cluster) -> None:
    configured = json.loads(cluster.compose("--profile", "*", "config", "--format", "json"))
    for name, service in configured["services"].items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert {port["host_ip"] for port in service.get("ports", [])} <= {"127.0.0.1"}, name
    started = {name: service for name, service in configured["services"].items() if "profiles" not in service}
    assert [name for name, service in started.items() if service.get("ports")] == ["gate"]


def test_on_several_hosts_each_part_is_reachable_at_the_address_of_its_own_host_only(cluster: Cluster) -> None:
    files = ("-f", "deploy/cluster/docker-compose.yml", "-f", "deploy/cluster/several-hosts.yml")
    hosts = ("env", "HOST_1=192.0.2.1", "HOST_2=192.0.2.2")
    configured = json.loads(cluster.run(*hosts, "docker", "compose", *files, "config", "--format", "json"))

    addresses = {
        name: {port["host_ip"] for port in service["ports"]}
        for name, service in configured["services"].items()
        if service.get("ports") and name != "gate"
    }
    parts = ("mosquitto", "postgres", "daemon", "api")
    assert addresses == {f"{part}-{number}": {f"192.0.2.{number}"} for part in parts for number in (1, 2)}
    assert not any(network.get("internal") for network in configured["networks"].values())
    environment = configured["services"]["postgres-1"]["environment"]
    assert not environment["FIRST_PRIMARY"], "an empty folder may mean a lost disk"


def test_a_device_that_was_added_once_publishes_with_tls_and_is_in_both_apis(cluster: Cluster) -> None:
    cluster.add_device("jetson_1", "--name", "Entrance Camera")
    for happy in (1.0, 2.0, 123.5):  # a connection each, with a client id that a library makes up
        cluster.publish("jetson_1", happy, ca=cluster.ca, client_id=f"library-{happy}")
    wait_until(lambda: cluster.happy("jetson_1") == 123.5, what="the batch is in the summary")

    path = "http://127.0.0.1:8000/api/dashboard/summary?device_id=jetson_1"
    code = f"import json, urllib.request as u; print(u.urlopen('{path}').read().decode())"
    for api in ("api-1", "api-2"):
        summary: Any = json.loads(cluster.compose("exec", "-T", api, "python3", "-c", code))
        assert (summary["device_name"], summary["emotion_totals"]["happy"]) == ("Entrance Camera", 123.5)
    assert [device["device_id"] for device in cluster.get("/api/devices")["devices"]] == ["jetson_1"]
    assert len(cluster.shards("jetson_1")) == 1, "it stays on its broker"


def test_doctor_finds_no_problem(cluster: Cluster) -> None:
    command = ("daemon-2", "python3", "-m", "emotion_admin", "doctor", "--json", "--api", "http://api-2:8000")
    findings = json.loads(cluster.compose("exec", "-T", *command))["findings"]

    assert [each for each in findings if each["level"] == "problem"] == []


def test_each_device_stays_on_its_broker(cluster: Cluster, load: Load) -> None:
    load.wait_for_more(5)

    assert {device_id: cluster.shards(device_id) for device_id in SHARDS} == {
        device_id: {shard} for device_id, shard in SHARDS.items()
    }


@pytest.mark.parametrize("service", ["daemon-1", "daemon-2", "gate", "postgres-2"])
def test_killed_under_load(cluster: Cluster, load: Load, service: str) -> None:
    cluster.kill(service)
    load.wait_for_more(0 if service == "gate" else 50)
    cluster.start(service)

    check(cluster, load)


@pytest.mark.parametrize("service", ["api-1", "api-2"])
def test_one_api_is_enough(cluster: Cluster, load: Load, service: str) -> None:
    cluster.kill(service)

    check(cluster, load)
    cluster.start(service)
    wait_until(lambda: not cluster.unhealthy, pause=1, what="both are healthy again")


@pytest.mark.parametrize("service", ["mosquitto-2", "mosquitto-1"])
def test_the_devices_of_a_killed_broker_publish_on_the_other_one(cluster: Cluster, load: Load, service: str) -> None:
    with load.losing_a_moment():
        cluster.kill(service)
    load.wait_for_more(100)
    cluster.start(service)

    check(cluster, load)


def test_failover(cluster: Cluster, load: Load) -> None:
    """kill -9 of the primary, and promotion of its standby. `benchmarks failover` measures how long that takes."""
    cluster.kill("postgres-1")
    wait_until(lambda: cluster.status("/readyz") == 503, what="the API notices the outage")
    load.wait_for_more(20)
    cluster.server("postgres-2", "promote")

    wait_until(lambda: cluster.status("/readyz") == 200, what="the API answers")
    wait_until_served(cluster, load)

    check(cluster, load)


def test_a_former_primary_does_not_start_until_it_has_joined_as_a_standby(cluster: Cluster, load: Load) -> None:
    cluster.start("postgres-1")
    wait_until(
        lambda: "postgres-2 has become the primary" in cluster.compose("logs", "postgres-1"), what="it does not start"
    )

    cluster.compose("stop", "postgres-1")
    cluster.compose("run", "--rm", "--no-deps", "-T", "postgres-1", "rejoin")
    cluster.start("postgres-1")
    cluster.server("postgres-2", "paired")

    check(cluster, load)
    query = "SELECT application_name, sync_state FROM pg_stat_replication"
    standbys = cluster.compose("exec", "-T", "postgres-2", "psql", "-U", "postgres", "-At", "-c", query)
    assert standbys == "postgres_1|sync\n"
    refused = cluster.run("docker", "compose", "exec", "-T", "postgres-2", "server", "rejoin", expect=1)
    assert "postgres-1 is no primary that answers, and nothing was changed" in refused, "its data is the only copy"
    wait_until(lambda: not cluster.unhealthy, pause=1, what="everything is healthy again")


def test_a_standby_of_another_cluster_does_not_give_up_its_data(cluster: Cluster) -> None:
    data = "/var/lib/postgresql/emotion"
    create = f"initdb --no-sync -D {data} >/dev/null && touch {data}/standby.signal"
    script = f"{create}; server rejoin 2>&1; ls {data}/PG_VERSION"
    on_a_new_disk = ("run", "--rm", "--no-deps", "-T", "-v", "/var/lib/postgresql", "--entrypoint", "bash")

    said = cluster.compose(*on_a_new_disk, "postgres-1", "-c", script)
    assert "postgres-2 was created apart from this server" in said
    assert said.endswith(f"{data}/PG_VERSION\n")
