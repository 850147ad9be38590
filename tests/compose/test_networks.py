"""Each container reaches only its peers, tried from inside its network namespace."""

import json

import pytest

from tests.compose.project import SERVICES, Project

PLACES = {
    "gate": ("gate", 1883),
    "broker": ("mosquitto", 1883),
    "daemon": ("daemon", 9464),
    "API": ("api", 8000),
}

REACHED = {
    "gate": {"gate", "broker"},
    "mosquitto": {"gate", "broker", "daemon"},
    "daemon": {"broker", "daemon", "API"},
    "api": {"daemon", "API"},
}

ATTEMPT = """
import json, socket, sys
reached = []
for name, place in json.loads(sys.argv[1]).items():
    try:
        socket.create_connection(place, timeout=5).close()
        reached.append(name)
    except OSError:
        pass
print(json.dumps(reached))
"""


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_reaches_only_the_neighbours_that_it_needs(service: str, site: Project) -> None:
    inside = f"container:{site.container(service)}"
    command = ("python3", "-c", ATTEMPT, json.dumps(PLACES))

    reached = site.run("docker", "run", "--rm", "--network", inside, site.name, *command)

    assert set(json.loads(reached)) == REACHED[service]


@pytest.mark.parametrize("service", ["mosquitto", "daemon"])
def test_docker_lets_broker_and_daemon_reach_no_other_machine(service: str, site: Project) -> None:
    for network in site.inspect(service)["NetworkSettings"]["Networks"]:
        (found,) = json.loads(site.run("docker", "network", "inspect", network))
        assert found["Internal"], network


@pytest.mark.parametrize("network", ["devices", "web"])
def test_no_other_machine_can_answer_gate_and_api(network: str, site: Project) -> None:
    """Docker leaves the container's own address on its packets; another machine has no route to that."""
    (found,) = json.loads(site.run("docker", "network", "inspect", f"{site.name}_{network}"))

    assert found["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
