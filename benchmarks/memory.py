"""The daemon's resident memory while it works off a long backlog."""

import tempfile
from pathlib import Path

import psutil

from benchmarks.backlog import batches, is_last_stored, last_batch, open_session, publish
from benchmarks.report import Report
from tests.brokers import Broker
from tests.databases import reading
from tests.processes import Daemon
from tests.waiting import wait_until


def run(report: Report, *, messages: int, devices: int, people: int, rounds: int) -> None:
    """The largest resident set seen, sampled every 10 ms from start until the last message is stored."""
    largest = []
    for number in range(1, rounds + 1):
        report.progress(f"memory, {messages:,} messages waiting: round {number}")
        with tempfile.TemporaryDirectory() as name:
            largest.append(_round(Path(name), messages, devices, people) / 1e6)
    parameters = {"messages waiting": messages, "devices": devices, "people a batch": people}
    report.add("memory", parameters, "MB", {"largest resident set": largest})


def _round(folder: Path, messages: int, devices: int, people: int) -> int:
    """In bytes."""
    largest = 0
    broker = Broker(folder)
    broker.start()
    url = f"sqlite:///{folder}/emotion.db"
    try:
        open_session(broker, "emotion-daemon")
        most = messages - 1  # the broker keeps 200,000, and one follows
        publish(broker, batches(most, devices=devices, people=people))
        publish(broker, last_batch())
        with Daemon(broker, url, folder / "log") as daemon:
            daemon.wait_for_log(" connected to ")
            with reading(url) as connection:

                def stored() -> bool:
                    nonlocal largest
                    largest = max(largest, psutil.Process(daemon.pid).memory_info().rss)
                    return is_last_stored(connection)

                wait_until(stored, seconds=600, what="the last batch is stored")
            daemon.stop()
    finally:
        broker.kill()
    return largest
