"""The daemon and the API as the processes that an operator starts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.brokers import Broker
from tests.waiting import accepts_connections, free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent


def environment(broker: Broker, database_url: str) -> dict[str, str]:
    """This process's environment with the settings of one run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EMOTION_")}
    return kept | {
        "EMOTION_DATABASE_URL": database_url,
        "EMOTION_MQTT_HOST": broker.host,
        "EMOTION_MQTT_PORT": str(broker.port),
    }


@contextmanager
def daemon(broker: Broker, database_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m emotion_daemon`, stopped with SIGTERM at the end of the block."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "emotion_daemon"], cwd=ROOT, env=environment(broker, database_url), stderr=stream
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=15)


@contextmanager
def api(broker: Broker, database_url: str, log: Path) -> Iterator[str]:
    """gunicorn with the repository's configuration; yields its base URL."""
    port = free_port()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "emotion_api:create_app()"],
            cwd=ROOT,
            env=environment(broker, database_url),
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_until(lambda: accepts_connections("127.0.0.1", port), what="the API listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)
