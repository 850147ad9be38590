"""The stack of deploy/rabbitmq: three real nodes behind HAProxy, one daemon and one API, under a real Docker engine."""

import subprocess
from pathlib import Path
from typing import Any

from emotion_admin.errors import OperatorError
from emotion_admin.rabbitmq import ManagementApi
from emotion_admin.roles import DAEMON
from tests.compose.project import Project
from tests.faults.history import PersonKey, Row, stored_rows
from tests.waiting import wait_until

NODES = ("rabbitmq-1", "rabbitmq-2", "rabbitmq-3")

_COPY = """import sqlite3, sys
copy = sqlite3.connect("/tmp/copy.db")
sqlite3.connect("file:/data/emotion.db?mode=ro", uri=True).backup(copy)
copy.close()
sys.stdout.buffer.write(open("/tmp/copy.db", "rb").read())"""


class Cluster(Project):
    """The project with RabbitMQ in place of Mosquitto. A node is called like its service."""

    @property
    def environment(self) -> dict[str, str]:
        files = "docker-compose.yml:deploy/rabbitmq/docker-compose.yml"
        return super().environment | {"COMPOSE_FILE": files}

    def kill(self, *nodes: str) -> None:
        self.run("docker", "kill", *map(self.container, nodes))

    def start(self, *nodes: str) -> None:
        """Start stopped nodes, and nothing that they depend on."""
        self.run("docker", "start", *map(self.container, nodes))

    @property
    def management_url(self) -> str:
        """The gate's own address, which only this machine and the project's containers reach."""
        address = self.inspect("gate")["NetworkSettings"]["Networks"][f"{self.name}_broker"]["IPAddress"]
        return f"http://{address}:15672"

    def secret(self, service: str, path: str) -> str:
        """The content of a file that this service can read."""
        return self.compose("exec", "--no-TTY", service, "cat", f"/secrets/{path}").strip()

    def presence(self, device_id: str) -> tuple[bool, str | None] | None:
        """Return `online` and the last status as the API has them; None if it does not know the device."""
        found = [each for each in self.get("/api/devices")["devices"] if each["device_id"] == device_id]
        return (found[0]["online"], found[0]["status"]) if found else None

    def stored(self, folder: Path, device_id: str) -> dict[PersonKey, Row]:
        """The device's rows in the daemon's database."""
        copy = folder / "copy.db"
        with copy.open("wb") as stream:
            command = ["docker", "compose", "exec", "--no-TTY", "daemon", "python3", "-c", _COPY]
            subprocess.run(command, cwd=self.folder, env=self.environment, stdout=stream, check=True, timeout=60)
        return stored_rows(f"sqlite:///{copy}", devices=[device_id])


class Session:
    """The queue of the daemon's session, as the management API describes it."""

    def __init__(self, api: ManagementApi) -> None:
        self._api = api

    def leader(self) -> str:
        """The node that leads the queue."""
        return wait_until(lambda: _service(self.queue().get("leader", "")), pause=0.5, what="the queue has a leader")

    def daemons_node(self) -> str:
        """The node to which the daemon is connected."""
        return _service(str(self._consumer()["node"]))

    def connection(self) -> str:
        """The name of the daemon's connection."""
        return str(self._consumer()["connection_name"])

    def _consumer(self) -> dict[str, Any]:
        consumers = wait_until(
            lambda: self.queue().get("consumer_details", []), pause=0.5, what="the daemon receives messages"
        )
        return dict(consumers[0]["channel_details"])

    def wait_for_copies(self) -> None:
        """Until each node has a copy that takes part."""
        wait_until(
            lambda: {_service(node) for node in self.queue().get("online", [])} == set(NODES),
            pause=0.5,
            what="each node has a copy",
        )

    def queue(self) -> dict[str, Any]:
        """Return what is known of the queue; nothing while no node serves."""
        try:
            return dict(self._api.session(DAEMON) or {})
        except OperatorError:
            return {}


def _service(node: str) -> str:
    return node.removeprefix("rabbit@")
