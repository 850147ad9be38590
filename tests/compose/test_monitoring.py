"""The profile `monitoring`: Prometheus with the shipped configuration under the real docker-compose.yml."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.compose.project import Project
from tests.compose.test_upgrade import without_image
from tests.waiting import wait_until

SERVICES = ("prometheus", "grafana")

STAND_IN = """\
FROM python:3.13-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/*
RUN rm -rf /etc/prometheus /prometheus && install -d -o 65534 -g 65534 /etc/prometheus /prometheus
USER 65534
VOLUME /prometheus
WORKDIR /prometheus
ENTRYPOINT ["/bin/prometheus"]
"""
"""Debian's Prometheus where that of Docker Hub has its files, for where Docker Hub is out of reach."""


@pytest.fixture(scope="module")
def configured(site: Project) -> dict[str, Any]:
    """The services that the profile starts, as docker compose understands them."""
    listed = json.loads(site.compose("--profile", "monitoring", "config", "--format", "json"))
    return {name: listed["services"][name] for name in SERVICES} | {"networks": listed["networks"]}


@pytest.fixture(scope="module")
def monitored(site: Project, configured: dict[str, Any]) -> Iterator[Project]:
    """The project with its Prometheus."""
    with image(configured["prometheus"]["image"]):
        try:
            site.compose("--profile", "monitoring", "up", "--detach", "--wait", "prometheus")
            yield site
        finally:
            site.compose("--profile", "monitoring", "rm", "--stop", "--force", "prometheus")


@contextmanager
def image(name: str) -> Iterator[None]:
    """The image `name`: the one that is here, or Docker Hub's, or one that stands in for it during the block."""
    with without_image(name):
        here = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0
        if not here and not pulled(name):
            command = ["docker", "build", "--tag", name, "-"]
            built = subprocess.run(command, input=STAND_IN.encode(), capture_output=True, timeout=240, check=False)
            assert built.returncode == 0, built.stderr.decode()
        yield


def pulled(name: str) -> bool:
    try:
        return subprocess.run(["docker", "pull", name], capture_output=True, timeout=60, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def ask(site: Project, path: str, **parameters: str) -> Any:
    """Return the answer at an address of Prometheus' API, or None while there is none."""
    address = f"http://127.0.0.1:{site.prometheus_port}/api/v1/{path}?{urlencode(parameters)}"
    try:
        with urlopen(address, timeout=10) as response:
            return json.load(response)["data"]
    except (URLError, ConnectionError):
        return None


def test_prometheus_reads_daemon_and_api_and_has_the_rules(monitored: Project) -> None:
    def jobs() -> set[str]:
        found = ask(monitored, "query", query="up == 1") or {"result": []}
        return {each["metric"]["job"] for each in found["result"]}

    wait_until(lambda: jobs() == {"emotion-daemon", "emotion-api"}, seconds=90, pause=1, what="both are scraped")
    (group,) = ask(monitored, "rules")["groups"]

    assert "EmotionCameraSilent" in {rule["name"] for rule in group["rules"]}
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}


def test_prometheus_has_no_more_rights_than_it_needs(monitored: Project) -> None:
    found = monitored.inspect("prometheus")
    host = found["HostConfig"]

    assert found["State"]["Health"]["Status"] == "healthy"
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert {bindings[0]["HostIp"] for bindings in host["PortBindings"].values()} == {"127.0.0.1"}


def test_the_daemon_still_reaches_nothing_but_its_neighbours(monitored: Project) -> None:
    code = """import socket
for host, port in (("prometheus", 9090), ("1.1.1.1", 443)):
    try:
        socket.create_connection((host, port), timeout=3).close()
        print(host)
    except OSError:
        pass
"""
    reached = monitored.compose("exec", "-T", "daemon", "python3", "-c", code).split()

    assert reached == ["prometheus"]


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_profile_starts_is_closed(service: str, configured: dict[str, Any]) -> None:
    found = configured[service]

    assert found["profiles"] == ["monitoring"]
    assert re.search(r":v?\d+\.\d+\.\d+$", found["image"]), "pinned"
    assert (found["read_only"], found["cap_drop"]) == (True, ["ALL"])
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert [each["host_ip"] for each in found["ports"]] == ["127.0.0.1"]
    assert found["mem_limit"]
    assert found["pids_limit"]
    assert found["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_grafana_is_for_looking_only_and_tells_nobody(configured: dict[str, Any]) -> None:
    settings = configured["grafana"]["environment"]

    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert {name for name, value in settings.items() if value == "true"} == {
        "GF_AUTH_ANONYMOUS_ENABLED",
        "GF_AUTH_DISABLE_LOGIN_FORM",
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION",
        "GF_SECURITY_DISABLE_GRAVATAR",
        "GF_PLUGINS_PREINSTALL_DISABLED",
        "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED",
    }
    assert list(configured["grafana"]["networks"]) == ["operator"]
    assert configured["networks"]["monitoring"]["internal"]
