"""One valid device login attacks for a minute: no other device loses a batch.

Loopback has no rate limit: under systemd only port 8883 has one. So a QoS 0 flood from this machine may delay the
PUBACKs of others by more than a second, and after each attack the daemon may have a backlog. The other promises hold
here, too: no loss, no restart, bounded memory, and a daemon that receives again within ten seconds. tests/compose also
checks the second and the backlog.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
from sqlalchemy import text

from emotion_admin.__main__ import main
from tests.brokers import LOGINS_FILE, Broker, systemd_rules
from tests.compose.project import clone
from tests.databases import reading
from tests.faults.attacks import Attack
from tests.faults.bystanders import (
    BROKER_BYTES,
    BYSTANDERS,
    DEAD_LETTERS,
    Bystander,
    Site,
    bystanders,
    each_attack,
    withstand,
)
from tests.faults.conftest import Rounds
from tests.faults.history import TOPICS, PersonKey, Row, stored_rows
from tests.faults.rig import SUBSCRIBED, integrity
from tests.processes import ROOT, Daemon, without_settings
from tests.waiting import accepts_connections, free_port, wait_until

ADDRESS_SPACE = 3 * 2**30
"""The most that the broker of scripts/run can take, which has no limit of its own: other tests run here, too."""


class Local(Site):
    """A system without Docker: its processes and files are this machine's."""

    broker_pid: int

    def __init__(self, url: str, *, broker_store: Path, secrets: Path) -> None:
        self.url = url
        self._broker_store = broker_store
        self._secrets = secrets

    def broker_memory(self) -> int:
        status = Path(f"/proc/{self.broker_pid}/status").read_text()
        (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(kibibytes) * 1024

    def broker_disk(self) -> int:
        return size(self._broker_store.glob("mosquitto.db*"))

    def database_disk(self) -> int:
        path = Path(self.url.removeprefix("sqlite:///"))
        return size(path.parent.glob(f"{path.name}*"))

    def rows(self) -> dict[PersonKey, Row]:
        return stored_rows(self.url, devices=BYSTANDERS)

    def query(self, statement: str) -> str:
        with reading(self.url) as connection:
            return str(connection.scalars(text(statement)).one())

    def integrity(self) -> str:
        return integrity(self.url)

    def traces(self, device_id: str) -> list[str]:
        return [*self.files_with(device_id), *self.dead_letters(device_id)]

    def dead_letters(self, device_id: str) -> list[str]:
        number = int(self.query(DEAD_LETTERS.format(device_id)))
        return [f"{number} dead letters"] if number else []

    def files_with(self, name: str) -> list[str]:
        """The broker's files and secrets that have it."""
        files = [*self._broker_store.glob("*.db"), *self._broker_store.glob("*.json"), *self._secrets.rglob("*")]
        return [str(file) for file in files if file.is_file() and name.encode() in file.read_bytes()]


def size(files: Iterator[Path]) -> int:
    return sum(file.stat().st_size for file in files)


class Systemd(Local):
    """The broker that scripts/install configures, with its memory limit, and a daemon."""

    broker_bytes = BROKER_BYTES // 2

    def __init__(self, folder: Path, block: ExitStack) -> None:
        store = folder / "store"
        super().__init__(f"sqlite:///{folder}/emotion.db", broker_store=store, secrets=folder / "secrets")
        store.mkdir()
        self._broker = Broker(store, systemd_rules(store), quiet=True)
        self._broker.logins = self._secrets / "broker" / LOGINS_FILE
        self.port = self._broker.port
        self._admin("secrets")
        self._broker.start()
        block.callback(self._broker.kill)
        self.broker_pid = self._broker.pid
        run([str(ROOT / "deploy/systemd/broker-memory"), str(self.broker_pid)], ROOT, without_settings())
        login = {
            "EMOTION_MQTT_USERNAME": "emotion-daemon",
            "EMOTION_MQTT_PASSWORD_FILE": f"{self._secrets}/daemon/password",
        }
        self._daemon = Daemon(self._broker, self.url, folder / "daemon.log", **login)
        block.enter_context(self._daemon)
        self._daemon.wait_for_log(SUBSCRIBED)

    def add_device(self, device_id: str) -> str:
        return self._admin("device", "add", device_id).split("\n\n")[1].strip()

    def remove_device(self, device_id: str) -> None:
        self._admin("device", "remove", device_id)
        self._admin("dead-letters", "delete", device_id)

    def stop_daemon(self) -> None:
        self._daemon.stop()

    def start_daemon(self) -> None:
        self._daemon.start()

    def processes(self) -> dict[str, object]:
        pids = {"broker": self._broker.pid} | ({} if self._daemon.ended else {"daemon": self._daemon.pid})
        return {name: pid for name, pid in pids.items() if is_running(pid)}

    def _admin(self, *arguments: str) -> str:
        settings = patch.dict(os.environ, EMOTION_DATABASE_URL=self.url)
        with settings, redirect_stdout(StringIO()) as said:
            main(["--secrets", str(self._secrets), "--broker", f"{self.host}:{self.port}", *arguments])
        return said.getvalue()


class Run(Local):
    """scripts/run in a clone. Its processes end together, so its daemon is halted instead of stopped."""

    def __init__(self, folder: Path, block: ExitStack) -> None:
        data = folder / "data"
        super().__init__(f"sqlite:///{data}/emotion.db", broker_store=data / "broker", secrets=data / "secrets")
        self._folder = clone(folder)
        self._environment = without_settings()
        venv = folder / ".venv"
        venv.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (venv / name).symlink_to(Path(sys.prefix) / name)
        shutil.copy(folder / "pyproject.toml", venv / "installed-server,run")
        self.port, api_port, metrics_port = free_port(), free_port(), free_port()
        ports = ("--mqtt-port", self.port, "--api-port", api_port, "--metrics-port", metrics_port)
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["scripts/run", *map(str, ports)],
                cwd=folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        block.callback(self._end)
        wait_until(lambda: SUBSCRIBED in (folder / "log").read_text(), what="scripts/run is up")
        wait_until(lambda: accepts_connections("127.0.0.1", api_port), what="the API of scripts/run is up")
        self.broker_pid = self._pids()["broker"]
        resource.prlimit(self.broker_pid, resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))

    def add_device(self, device_id: str) -> str:
        return self._run("scripts/device", "--system", "run", "add", device_id).split("\n\n")[1].strip()

    def remove_device(self, device_id: str) -> None:
        self._run("scripts/device", "--system", "run", "remove", device_id)
        self._run("scripts/dead-letters", "--system", "run", "delete", device_id)

    def traces(self, device_id: str) -> list[str]:
        """Login, retained and queued messages; no command finds the sessions of a client that chooses its client id."""
        names = (f'"{device_id}"', TOPICS.batch(device_id), TOPICS.status(device_id))
        return [*(file for name in names for file in self.files_with(name)), *self.dead_letters(device_id)]

    def stop_daemon(self) -> None:
        os.kill(self._pids()["daemon"], signal.SIGSTOP)

    def start_daemon(self) -> None:
        os.kill(self._pids()["daemon"], signal.SIGCONT)

    def processes(self) -> dict[str, object]:
        return dict(self._pids())

    def _pids(self) -> dict[str, int]:
        """The processes that run, by the part of the system that they are."""
        parts = {"mosquitto": "broker", "emotion_daemon": "daemon", "gunicorn": "API"}
        found: dict[str, int] = {}
        for process in psutil.Process(self._process.pid).children(recursive=True):
            words = {Path(word).name for word in process.cmdline()}
            for word in parts.keys() & words:
                found.setdefault(parts[word], process.pid)
        return found

    def _run(self, *command: str) -> str:
        return run(list(command), self._folder, self._environment)

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, f"{command}: {finished.stderr}"
    return finished.stdout


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@contextmanager
def started(kind: type[Systemd] | type[Run], folder: Path) -> Iterator[Site]:
    with ExitStack() as block:
        yield kind(folder, block)


@pytest.fixture(scope="module", params=[Systemd, Run], ids=["systemd", "scripts-run"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with started(request.param, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def others(site: Site) -> Iterator[list[Bystander]]:
    with bystanders(site) as others:
        yield others


pytest_generate_tests = each_attack


def test_one_hostile_device_harms_no_other(
    attacks: list[Attack], site: Site, others: list[Bystander], rounds: Rounds, pytestconfig: pytest.Config
) -> None:
    for _ in rounds(1, full=3):
        withstand(attacks, site, others, limited=False, seconds=60 if pytestconfig.getoption("--full") else 1)
