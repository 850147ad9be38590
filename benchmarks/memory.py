"""The daemon's resident memory while it works off a long backlog."""

import tempfile
from pathlib import Path

import psutil

from benchmarks.backlog import batches, is_last_stored, last_batch, open_session, publish
from shared.database import reader_engine
from tests.brokers import Broker
from tests.processes import daemon
from tests.waiting import wait_until


def run(*, messages: int, devices: int, people: int) -> None:
    """Print the largest resident set seen, sampled every 10 ms from start until the last message is stored."""
    largest = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder)
        broker.start()
        url = f"sqlite:///{folder}/emotion.db"
        log = folder / "log"
        try:
            open_session(broker, "emotion-daemon")
            publish(
                broker, batches(messages - 1, devices=devices, people=people)
            )  # the broker keeps 200,000, and one follows
            publish(broker, last_batch())
            with daemon(broker, url, log) as process:
                wait_until(lambda: " connected to " in log.read_text(), what="the daemon is subscribed")
                engine = reader_engine(url)

                def stored() -> bool:
                    nonlocal largest
                    largest = max(largest, psutil.Process(process.pid).memory_info().rss)
                    with engine.connect() as connection:
                        return is_last_stored(connection)

                wait_until(stored, seconds=600, what="the last batch is stored")
                engine.dispose()
        finally:
            broker.kill()
    print(f"{messages:,} messages waiting, {devices:,} devices, {people} people: largest RSS {largest / 1e6:.0f} MB")
