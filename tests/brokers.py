"""A real Mosquitto on a free loopback port, with a session store that survives a restart; and a script of one."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from types import TracebackType

from emotion_admin.logins import Logins
from shared.batch import Topics
from tests.waiting import DEADLINE_SECONDS, accepts_connections, free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent


LOGINS_FILE = "dynamic-security.json"
"""The file of logins in a broker's folder."""

_COPY = "running.json"
"""The copy of that file that the broker reads and rewrites."""


def logins(folder: Path) -> Logins:
    """The logins of the broker whose folder that is."""
    return Logins(folder / LOGINS_FILE, Topics("emotions"))


def shipped_rules(folder: Path) -> str:
    """Return the rules and limits of ./mosquitto.conf, with the logins that the broker in `folder` starts with.

    They leave out the container's files and the plugin for persistence, which Debian's Mosquitto does not have.
    """
    left_out = ("listener", "include_dir", "plugin ", "plugin_opt_sync", "plugin_opt_flush", "persistence_", "log_")
    text = (ROOT / "mosquitto.conf").read_text().replace(f"/tmp/broker/{LOGINS_FILE}", str(folder / _COPY))
    lines = [line for line in text.splitlines() if not line.startswith((*left_out, "connection_messages", "#"))]
    option = next(number for number, line in enumerate(lines) if line.startswith("plugin_opt_config_file"))
    lines.insert(option, f"plugin {find_plugin()}")
    return "\n".join(lines) + "\n"


def systemd_rules(folder: Path) -> str:
    """Return deploy/systemd/mosquitto.conf without its listener, for a broker in `folder`."""
    text = (ROOT / "deploy/systemd/mosquitto.conf").read_text()
    text = text.replace(f"/run/mosquitto/{LOGINS_FILE}", str(folder / _COPY))
    text = text.replace("/opt/emotion-analytics/mosquitto_dynamic_security.so", str(find_plugin()))
    return "\n".join(line for line in text.splitlines() if not line.startswith(("listener", "#"))) + "\n"


def allow_listening(path: Path, login: str) -> None:
    """Let a login of that file read every topic: it sees what a device smuggles past its role."""
    document = json.loads(path.read_text())
    (role,) = [role for role in document["roles"] if role["rolename"] == login]
    kinds = ("subscribePattern", "publishClientReceive")
    role["acls"] += [{"acltype": kind, "topic": topic, "allow": True} for kind in kinds for topic in ("#", "$SYS/#")]
    path.write_text(json.dumps(document))


def find_plugin() -> Path:
    """Return the path of Mosquitto's plugin for logins and roles. Raises AssertionError."""
    found = [*Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")]
    assert found, "the tests need Debian's Mosquitto: apt-get install mosquitto"
    return found[0]


def find_mosquitto() -> str:
    """Debian has it where a user's PATH does not lead. Raises AssertionError."""
    program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert program, "the tests need Mosquitto: apt-get install mosquitto"
    return program


class Broker:
    """Starts, stops, kills and restarts one Mosquitto; the port stays the same.

    Where it wants a login, `password` is what every client of a test gives, with its client id as the username. If it
    is `quiet`, its log has only what the configuration asks for. `ca` is set only where clients reach it with TLS.
    """

    host = "127.0.0.1"
    ca: Path | None = None

    def __init__(self, folder: Path, extra: str = "", *, quiet: bool = False) -> None:
        self._log_everything = [] if quiet else ["-v"]
        self.port = free_port()
        self.password: str | None = None
        self.folder = folder
        self.logins = folder / LOGINS_FILE
        self._config = folder / "mosquitto.conf"
        # "user root" counts only where the tests run as root, as in a container: the folder is root's then.
        self._config.write_text(
            f"listener {self.port} {self.host}\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
            f"max_queued_messages 200000\nmax_queued_bytes 0\n{extra}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        program = find_mosquitto()
        if self.logins.exists():
            shutil.copy(self.logins, self.folder / _COPY)
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *self._log_everything, "-c", self._config], stdout=log, stderr=log
            )
        wait_until(lambda: accepts_connections(self.host, self.port), what="Mosquitto listens")

    def stop(self) -> None:
        """An orderly stop: Mosquitto saves its sessions."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def wait_for_save(self) -> None:
        """Until Mosquitto has written to disk what it knows now; `autosave_interval 1` does so every two seconds."""
        before = self._saved()
        wait_until(lambda: self._saved() != before, what="Mosquitto saves its sessions")

    def wipe(self) -> None:
        """Forget every session and message; call it while the broker is down."""
        for path in self.folder.glob("mosquitto.db*"):
            path.unlink()

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def _saved(self) -> int | None:
        """Return a value that differs for each save: Mosquitto writes a new file each time, and renames it."""
        path = self.folder / "mosquitto.db"
        return path.stat().st_mtime_ns if path.exists() else None

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=DEADLINE_SECONDS)
            self._process = None


HANG_UP = b"hang up"
"""An answer that closes the connection instead."""


class ScriptedBroker:
    """Answers a connection's packets with `answers`, one each, then only listens: for what Mosquitto never says.

    It takes whatever arrives together for one packet, which holds for a client that waits for its answers. With `tls`,
    an answer is one TLS record.
    """

    host = "127.0.0.1"

    def __init__(self, *answers: bytes, tls: ssl.SSLContext | None = None) -> None:
        self._answers = answers
        self._tls = tls
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="scripted broker", daemon=True)

    def __enter__(self) -> "ScriptedBroker":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join(timeout=15)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(15)
            with connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True) as client:
                answers = iter(self._answers)
                with contextlib.suppress(OSError):
                    while client.recv(65_536):
                        answer = next(answers, b"")
                        if answer is HANG_UP:
                            break
                        client.sendall(answer)
