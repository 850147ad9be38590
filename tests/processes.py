"""The daemon as the process that an operator starts; the API is in tests/web.py."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.brokers import Broker
from tests.proxies import Proxy
from tests.waiting import DEADLINE_SECONDS, wait_until

ROOT = Path(__file__).resolve().parent.parent
DAEMON = (sys.executable, "-m", "emotion_daemon")
ADMIN = (sys.executable, "-m", "emotion_admin")


def bound_by_permissions(command: tuple[str, ...] = DAEMON) -> tuple[str, ...]:
    """The command, without the capabilities that let root open every file."""
    if os.geteuid() != 0:
        return command
    program = shutil.which("setpriv")
    assert program, "the tests need setpriv: apt-get install util-linux"
    without = "-dac_override,-dac_read_search"
    return program, f"--bounding-set={without}", f"--inh-caps={without}", *command


def without_settings() -> dict[str, str]:
    """This process's environment, in which there is no setting of ours and none of gunicorn's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("EMOTION_", "GUNICORN_"))}


def environment(broker: Broker | Proxy, database_url: str) -> dict[str, str]:
    """This process's environment with the settings of one run."""
    return without_settings() | {
        "EMOTION_DATABASE_URL": database_url,
        "EMOTION_MQTT_HOST": broker.host,
        "EMOTION_MQTT_PORT": str(broker.port),
    }


class Daemon:
    """`python -m emotion_daemon` that a test starts, stops, kills and starts again; ended with the block."""

    def __init__(self, broker: Broker | Proxy, database_url: str, log: Path, **settings: str) -> None:
        self._environment = environment(broker, database_url) | settings
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Daemon":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def start(self, command: Sequence[str] = DAEMON, **settings: str) -> None:
        """Start the daemon, or `command` in its place; `settings` count for this start only."""
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment | settings, stderr=stream)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def peak_memory(self) -> int:
        """The largest resident set of the running process so far, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(kibibytes) * 1024

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, *, seconds: float = DEADLINE_SECONDS) -> int:
        """The exit code, once the process has ended."""
        assert self._process is not None
        wait_until(lambda: self.ended, seconds=seconds, what=f"the daemon ends; its log ends:\n{self.log()[-3_000:]}")
        return self._process.wait()

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_for_log(self, text: str, *, times: int = 1) -> None:
        wait_until(lambda: self.log().count(text) >= times, what=f"the daemon logs {text!r}")
