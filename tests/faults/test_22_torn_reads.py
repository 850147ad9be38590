"""Summaries that are read while batches commit: each is one batch, whole, and none is older than one seen before."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from shared.batch import encode
from tests.background import repeatedly
from tests.brokers import Broker
from tests.clients import Client
from tests.faults.history import START, TOPICS
from tests.faults.rig import SUBSCRIBED
from tests.processes import Daemon
from tests.waiting import DEADLINE_SECONDS, wait_until
from tests.web import HOST, SUMMARY, Answer, Api, ask

DEVICE = "jetson_1"
PEOPLE = 40
READERS = 4
MILLISECOND = timedelta(milliseconds=1)

HAPPY_AND_SAD = 1e6
"""The seconds of the two together, of every person in every batch."""


def test_no_summary_is_torn_or_older_than_one_seen_before(
    broker: Broker,
    database_url: str,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    record_property: Callable[[str, object], None],
) -> None:
    reads = 10_000 if pytestconfig.getoption("--full") else 500
    seed = pytestconfig.getoption("--seed")
    with (
        Daemon(broker, database_url, tmp_path / "daemon.log") as daemon,
        Api(database_url, tmp_path / "api.log") as api,
    ):
        daemon.wait_for_log(SUBSCRIBED)
        with publishing(broker) as publisher, ThreadPoolExecutor(READERS) as pool:
            wait_until(lambda: batch_number(api.summary()) > 0, what="the first batch is shown")
            seen = Seen(bodies=reads // 20)
            readers = [
                pool.submit(read, api, reads // READERS, seen, Random(f"{seed} {number}")) for number in range(READERS)
            ]
            for reader in readers:
                reader.result()
        wait_until(lambda: batch_number(api.summary()) == publisher.last, what="the last batch is shown")
        at_last = [batch_number(api.summary()) for _ in range(20)]  # by every worker

    print(f"{publisher.last} batches published, {len(seen.bodies)} different ones read; 304: {seen.unchanged} times")
    record_property("rounds", reads)
    assert at_last == [publisher.last] * 20
    assert seen.enough


class Publisher:
    """Publishes one batch after the other, in little bursts."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.last = 0

    def publish(self) -> None:
        if self._client.under_way <= 20:
            self.last += 1
            self._client.send(TOPICS.batch(DEVICE), encode(DEVICE, stamp(self.last), people(self.last)))
        if self.last % 5 == 0:
            time.sleep(0.02)


@contextmanager
def publishing(broker: Broker) -> Iterator[Publisher]:
    """Batches are published from the start of the block to its end; then the broker has all of them."""
    with Client(broker, "publisher") as client:
        publisher = Publisher(client)
        with repeatedly(publisher.publish, pause=0.001):
            yield publisher
        client.wait_for_pubacks()


class Seen:
    """The summaries that all readers have received."""

    def __init__(self, *, bodies: int) -> None:
        self._lock = threading.Lock()
        self._wanted = bodies
        self.newest = 0
        self.unchanged = 0
        self.bodies: dict[str, bytes] = {}

    @property
    def enough(self) -> bool:
        """Return True once enough different bodies were read, and a 304: fewer say little about changing responses.

        How many answers that takes depends on how fast this machine commits beside the readers.
        """
        return len(self.bodies) > self._wanted and self.unchanged > 0

    def add(self, answer: Answer, *, after: int) -> None:
        """Check a summary that was asked for when the batch `after` had been seen."""
        tag = answer.headers["etag"]
        with self._lock:
            assert answer.status == 200 or tag in self.bodies
            body = self.bodies.setdefault(tag, answer.body) if answer.status == 200 else self.bodies[tag]
        assert answer.body == (body if answer.status == 200 else b""), "two bodies have one ETag"
        number = batch_number(json.loads(body))
        assert number >= after, f"batch {number} was shown after batch {after}"
        with self._lock:
            self.newest = max(self.newest, number)
            self.unchanged += answer.status == 304


def read(api: Api, times: int, seen: Seen, chance: Random) -> None:
    """Ask so many times or more, on a connection that now and then is a new one, half of the time for what has changed.

    It goes on until all readers together have seen enough.
    """
    connection, tag = HTTPConnection(HOST, api.port, timeout=DEADLINE_SECONDS), ""
    for turn in count():
        if turn >= times and seen.enough:
            break
        if chance.random() < 0.05:
            connection.close()  # the next request opens it again, perhaps to the other worker
        wanted = {"If_None_Match": tag} if tag and chance.random() < 0.5 else {}
        newest = seen.newest
        answer = ask(connection, SUMMARY, **wanted)
        assert answer.status == 200 or (answer.status == 304 and wanted), answer
        assert not (answer.status == 200 and wanted and answer.headers["etag"] == tag), "sent again unchanged"
        seen.add(answer, after=newest)
        tag = answer.headers["etag"]
    connection.close()


def batch_number(summary: Any) -> int:
    """Return the number of the batch that a summary shows, 0 if none. Raises AssertionError if they differ."""
    if summary["updated_at"] is None:
        assert summary["current_people"] == []
        return 0
    number = (datetime.fromisoformat(summary["updated_at"]) - START) // MILLISECOND
    shown = {
        person["person_id"]: {emotion: person[f"time_{emotion}"] for emotion in ("happy", "sad", "angry")}
        for person in summary["current_people"]
    }
    assert shown == people(number)
    assert {person["last_seen"] for person in summary["current_people"]} == {summary["updated_at"]}
    assert summary["emotion_totals"] == totals(number)
    return number


def stamp(number: int) -> datetime:
    return START + number * MILLISECOND


def people(number: int) -> dict[str, dict[str, float]]:
    """Return the people of a batch: no person has the same seconds in two batches."""
    happy = [float(number + person) for person in range(PEOPLE)]
    return {
        str(person): {"happy": seconds, "sad": HAPPY_AND_SAD - seconds, "angry": float(person)}
        for person, seconds in enumerate(happy)
    }


def totals(number: int) -> dict[str, float]:
    happy = float(PEOPLE * number + sum(range(PEOPLE)))
    return {"happy": happy, "sad": PEOPLE * HAPPY_AND_SAD - happy, "angry": float(sum(range(PEOPLE))), "neutral": 0.0}
