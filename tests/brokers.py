"""A real Mosquitto on a free loopback port, with a session store that survives a restart."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.waiting import accepts_connections, free_port, wait_until


class Broker:
    """Starts, stops, kills and restarts one Mosquitto; the port stays the same."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.port = free_port()
        self._folder = folder
        self._config = folder / "mosquitto.conf"
        # "user root" counts only where the tests run as root, as in a container: the folder is root's then.
        self._config.write_text(
            f"listener {self.port} {self.host}\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {folder}/\n"
            f"max_queued_messages 200000\nmax_queued_bytes 0\n{extra}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert program, "the tests need Mosquitto: apt-get install mosquitto"
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-v", "-c", self._config], stdout=log, stderr=log)
        wait_until(lambda: accepts_connections(self.host, self.port), what="Mosquitto listens")

    def stop(self) -> None:
        """An orderly stop: Mosquitto saves its sessions."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def log(self) -> str:
        return (self._folder / "mosquitto.log").read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=15)
            self._process = None
