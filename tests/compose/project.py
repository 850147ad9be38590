"""`docker compose` and the operator's scripts in a clone of the repository."""

import fcntl
import json
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from emotion_admin.roles import ADMIN
from tests.brokers import Broker
from tests.clients import Client
from tests.processes import ROOT
from tests.waiting import free_port, wait_until

SERVICES = ("gate", "mosquitto", "daemon", "api")

PROJECTS = Path(tempfile.gettempdir()) / "emotion-test-projects"
"""A file for each project, named like it, that is locked as long as the project's tests run."""

REMOVE_WITH = {"container": ["--force", "--volumes"], "network": [], "volume": [], "image": ["--force"]}
"""The kinds of things that docker compose makes, in the order of removal, with the options of `docker ... rm`."""


class Project:
    """A project of its own on free ports, in `folder`; `host` and `port` are the broker's, as in tests.brokers."""

    host = "127.0.0.1"
    ca: Path | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"emotion-test-{secrets.token_hex(4)}"
        self.port, self.api_port, self.prometheus_port = free_port(), free_port(), free_port()
        self.passwords: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        ports = {
            "MQTT_PORT": str(self.port),
            "API_PORT": str(self.api_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }
        return os.environ | ports | {"COMPOSE_PROJECT_NAME": self.name, "BROKER_CHECK_INTERVAL": "2s"}

    def run(self, *command: str, input: bytes = b"", expect: int = 0) -> str:
        """Run a command in the folder, and return what it printed."""
        finished = subprocess.run(
            command, cwd=self.folder, env=self.environment, input=input, capture_output=True, timeout=300, check=False
        )
        assert finished.returncode == expect, f"{command}: {finished.stderr.decode()}\n{self.logs()[-3_000:]}"
        return finished.stdout.decode() + (finished.stderr.decode() if expect else "")

    def compose(self, *arguments: str) -> str:
        return self.run("docker", "compose", *arguments)

    def logs(self) -> str:
        finished = subprocess.run(
            ["docker", "compose", "--profile", "*", "logs", "--no-color"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            check=False,
        )
        return finished.stdout.decode()

    def up(self) -> None:
        """Until all is well: docker compose gives up if a part is unhealthy for a moment, as on a busy machine."""
        command = ("docker", "compose", "up", "--detach", "--wait")
        said: list[str] = []

        def is_up() -> bool:
            finished = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, timeout=300)
            said.append(finished.stderr.decode())
            return finished.returncode == 0

        try:
            wait_until(is_up, pause=1, what="docker compose up")
        except AssertionError as error:
            error.add_note(f"{said[-1]}\n{self.logs()[-3_000:]}")
            raise

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).strip()

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(self.run("docker", "inspect", self.container(service)))
        return dict(found)

    def crash(self, service: str) -> None:
        """End the container's first process as a fault of its own would: the restart policy counts."""
        pid = self.inspect(service)["State"]["Pid"]
        kill = f"import os; os.kill({pid}, 9)"
        self.run("docker", "run", "--rm", "--pid=host", "--user=0", self.name, "python3", "-c", kill)

    def add_device(self, device_id: str, *more: str) -> str:
        """Make a login, remember its password, and return what the operator was shown."""
        shown = self.run("scripts/device", "add", device_id, *more)
        self.passwords[device_id] = shown.split("\n\n")[1].strip()
        return shown

    def client(self, device_id: str) -> Client:
        """A client with the device's login, which this makes if it is missing."""
        if device_id not in self.passwords:
            self.add_device(device_id)
        broker = cast(Broker, self)
        broker.password = self.passwords[device_id]
        return Client(broker, device_id)

    def allow_listening(self, login: str) -> None:
        """Let a login read every topic until the broker's next start: it sees what a device smuggles past its role."""
        broker = ("exec", "-T", "mosquitto")
        password = self.compose(*broker, "cat", "/secrets/admin-password").strip()
        for kind in ("subscribePattern", "publishClientReceive"):
            change = ("dynsec", "addRoleACL", login, kind, "#", "allow")
            self.compose(*broker, "mosquitto_ctrl", "-i", ADMIN, "-u", ADMIN, "-P", password, *change)

    def publish(self, device_id: str, happy: float, *, ca: Path | None = None, client_id: str | None = None) -> None:
        """One batch with mosquitto_pub, which waits for its PUBACK."""
        people = [{"person_id": "1", "cumulative": {"happy": happy}}]
        batch = {"device_id": device_id, "timestamp": "2025-11-14T12:34:56Z", "people": people}
        address = ["-h", "localhost" if ca else self.host, "-p", str(self.port)] + (["--cafile", str(ca)] if ca else [])
        login = ["-i", client_id or device_id, "-u", device_id, "-P", self.passwords[device_id]]
        topic = ["-t", f"emotions/{device_id}/batch", "-m", json.dumps(batch)]
        self.run("mosquitto_pub", "-V", "5", "-q", "1", *address, *login, *topic)

    def get(self, path: str) -> Any:
        """Return the API's answer, or None while there is none."""
        try:
            with self._open(path) as response:
                return json.load(response)
        except (URLError, ConnectionError, TimeoutError):
            return None

    def status(self, path: str, token: str | None = None) -> int | None:
        """The status of the API's answer, or None while there is none."""
        try:
            with self._open(path, token) as response:
                return response.status
        except HTTPError as error:
            with error:
                return error.code
        except (URLError, ConnectionError, TimeoutError):
            return None

    def _open(self, path: str, token: str | None = None) -> HTTPResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        scheme, context = ("https", ssl.create_default_context(cafile=self.ca)) if self.ca else ("http", None)
        request = Request(f"{scheme}://{self.host}:{self.api_port}{path}", headers=headers)
        response: HTTPResponse = urlopen(request, timeout=10, context=context)
        return response

    def summary(self, device_id: str) -> Any:
        return self.get(f"/api/dashboard/summary?device_id={device_id}")

    def happy(self, device_id: str) -> float | None:
        found = self.summary(device_id)
        return None if found is None else float(found["emotion_totals"]["happy"])


def clone(folder: Path) -> Path:
    """A copy of what is in the repository, with nothing that a build or a test has left behind."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@contextmanager
def project(folder: Path, kind: type[Project] = Project) -> Iterator[Project]:
    """A project that is not up yet; nothing of it is left after the block, nor of one whose tests were killed."""
    made = kind(folder)
    PROJECTS.mkdir(exist_ok=True)
    _remove_what_was_left()
    with (PROJECTS / made.name).open("w") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        try:
            yield made
        finally:
            _remove(made.name)
            Path(record.name).unlink(missing_ok=True)


def _remove_what_was_left() -> None:
    """Remove the projects of tests that were killed: they run on, and an engine has some thirty networks to give."""
    for path in PROJECTS.iterdir():
        with suppress(FileNotFoundError, BlockingIOError), path.open() as record:
            fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path.name)
            path.unlink(missing_ok=True)


def _remove(name: str) -> None:
    """Remove all that docker compose has made for the project, also what its docker-compose.yml has named no longer."""
    for kind, options in REMOVE_WITH.items():
        found = _listed(kind, f"label=com.docker.compose.project={name}")
        if kind == "network":
            for network in found:
                _empty(network)
        if found:
            _docker(kind, "rm", *options, *found)


def _empty(network: str) -> None:
    """Remove what still uses a network: a test's own container, or the end of one that was removed at its start."""
    if users := _listed("container", f"network={network}"):
        _docker("container", "rm", "--force", *users)
    names = "{{range .Containers}}{{.Name}} {{end}}"
    for endpoint in _docker("network", "inspect", "--format", names, network).split():
        _docker("network", "disconnect", "--force", network, endpoint)


def _listed(kind: str, condition: str) -> list[str]:
    every = ["--all"] if kind == "container" else []
    return sorted(set(_docker(kind, "ls", *every, "--quiet", "--filter", condition).split()))


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout
