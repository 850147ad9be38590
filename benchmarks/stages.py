"""The processor time that each step of the daemon takes of a message of a waiting backlog."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from benchmarks.backlog import TOPICS, batches, open_session, publish
from benchmarks.report import Report
from emotion_daemon.ingest import Ingest
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.monitoring.report import Report as Monitoring
from emotion_daemon.mqtt.client import Client
from emotion_daemon.mqtt.subscriber import Subscriber
from emotion_daemon.storage.state_cache import StateCache
from emotion_daemon.storage.statements import Statement
from emotion_daemon.storage.store import Store
from emotion_daemon.storage.transaction import Transaction
from shared.database import writer_engine
from tests.brokers import Broker
from tests.databases import disposing, migrated

CLIENT_ID = "stages"
REST = "rest"

STEPS: tuple[tuple[type, str, str], ...] = (
    (Ingest, "step", REST),
    (Subscriber, "receive", "select"),
    (Client, "read", "read packets"),
    (Ingest, "_decode", "decode JSON"),
    (Transaction, "read_state", "read state"),
    (Store, "fold", "fold"),
    (Transaction, "write", "make rows"),
    (Statement, "execute", "statements"),
    (StateCache, "committed", "remember"),
    (Subscriber, "ack", "acknowledge"),
    (Monitoring, "committed", "count for metrics"),
)
"""Class, method, and the step that it is. A step's time is without that of the steps that it calls."""


def run(report: Report, *, messages: int, devices: int, people: int, rounds: int) -> None:
    """Microseconds of processor time a message, by step. The loop runs in this process, on SQLite."""
    costs: dict[str, list[float]] = {step: [] for step in (*(step for *_, step in STEPS), "commit")}
    for number in range(1, rounds + 1):
        report.progress(f"stages, {messages:,} messages of {devices:,} devices, {people} people: round {number}")
        spent = _spent(messages, devices, people)
        for step, values in costs.items():
            values.append(spent[step] / messages * 1e6)
    costs["all"] = [sum(values) for values in zip(*costs.values(), strict=True)]
    parameters = {"devices": devices, "people a batch": people}
    report.add("stages", parameters, "µs of processor time a message", costs)


def _spent(messages: int, devices: int, people: int) -> Mapping[str, float]:
    """Seconds by step."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/emotion.db"
        with migrated(url):
            pass
        broker = Broker(Path(folder))
        broker.start()
        try:
            open_session(broker, CLIENT_ID)
            publish(broker, batches(messages, devices=devices, people=people))
            with disposing(writer_engine(url)) as engine, _Watch(engine) as watch:
                _drain(broker, engine, messages)
        finally:
            broker.kill()
    return watch.spent


def _drain(broker: Broker, engine: Engine, messages: int) -> None:
    heartbeat = Heartbeat()
    subscriber = Subscriber(host=broker.host, port=broker.port, client_id=CLIENT_ID, topics=TOPICS)
    monitoring = Monitoring(heartbeat, Metrics(heartbeat))
    ingest = Ingest(source=subscriber, store=Store(engine), topics=TOPICS, report=monitoring)
    left = messages
    while left > 0:
        left -= ingest.step()
    subscriber.close()


class _Watch:
    """Adds up the processor time of each step in `spent` during the block."""

    def __init__(self, engine: Engine) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]
        self._methods: list[tuple[Any, str, Any]] = []
        self._watched = [*STEPS, (engine.dialect, "do_commit", "commit")]

    def __enter__(self) -> "_Watch":
        for owner, name, step in self._watched:
            method = getattr(owner, name)
            self._methods.append((owner, name, method))
            setattr(owner, name, self._timed(method, step))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, method in self._methods:
            setattr(owner, name, method)

    def _timed(self, method: Callable[..., Any], step: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            began = time.thread_time()
            try:
                return method(*arguments, **options)
            finally:
                took = time.thread_time() - began
                self.spent[step] += took - self._inner.pop()
                self._inner[-1] += took

        return timed
