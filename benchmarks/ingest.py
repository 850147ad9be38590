"""A backlog that waits in the broker: how fast the daemon stores it, against a subscriber that does nothing."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from sqlalchemy import select

from benchmarks.backlog import batches, is_last_stored, last_batch, open_session, publish, seconds
from shared.schema import person_emotion
from tests.brokers import Broker
from tests.databases import reading
from tests.processes import ROOT, Daemon
from tests.waiting import wait_until


def run(*, messages: int, devices: int, people: int, rounds: int) -> None:
    """Print each round's rates and the median ratio. Raises AssertionError where a value is not stored exactly."""
    ratios = []
    for number in range(1, rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            noop, ours = _round(Path(folder), messages=messages, devices=devices, people=people)
        ratios.append(ours / noop)
        print(f"round {number}: no-op {noop:,.0f}/s, daemon {ours:,.0f}/s, ratio {ours / noop:.2f}", flush=True)
    print(
        f"{messages:,} messages, {devices:,} devices, {people} people: "
        f"median ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def _round(folder: Path, *, messages: int, devices: int, people: int) -> tuple[float, float]:
    broker = Broker(folder)
    broker.start()
    try:
        open_session(broker, "noop")
        open_session(broker, "emotion-daemon")
        publish(broker, batches(messages, devices=devices, people=people))
        publish(broker, last_batch())
        noop = messages / _noop_seconds(broker, messages + 1)
        ours = messages / _daemon_seconds(broker, folder)
        _check(folder, messages=messages, devices=devices, people=people)
    finally:
        broker.kill()
    return noop, ours


def _noop_seconds(broker: Broker, expected: int) -> float:
    command = [sys.executable, "-m", "benchmarks.noop", broker.host, str(broker.port), "noop", str(expected)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600).stdout)


def _daemon_seconds(broker: Broker, folder: Path) -> float:
    with Daemon(broker, _url(folder), folder / "daemon.log") as daemon:
        daemon.wait_for_log(" connected to ")
        began = time.perf_counter()
        with reading(_url(folder)) as connection:
            wait_until(lambda: is_last_stored(connection), seconds=600, what="the last batch is stored")
        ended = time.perf_counter()
        daemon.stop()
    return ended - began


def _check(folder: Path, *, messages: int, devices: int, people: int) -> None:
    with reading(_url(folder)) as connection:
        rows = connection.execute(select(person_emotion)).all()
    stored = {(row.device_id, row.person_id): (row.time_happy, row.time_sad, row.time_angry) for row in rows}
    expected = {}
    for number in range(max(0, messages - devices), messages):
        for n in range(people):
            expected[f"camera_{number % devices}", str(n)] = tuple(seconds(number // devices, n).values())
    assert stored == expected, "what is stored is not what was published"


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/emotion.db"
