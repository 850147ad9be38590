"""Devices that publish without end, the history of what the broker acknowledged, and the rows that follow from it."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import NamedTuple

from sqlalchemy import func, select

from shared.batch import EMOTIONS, Topics, encode
from shared.schema import emotion_minute, person_emotion
from tests.background import repeatedly
from tests.brokers import Broker
from tests.clients import Client
from tests.databases import check_hours, reading
from tests.waiting import wait_until

TOPICS = Topics("emotions")
START = datetime(2025, 11, 14, 12, 0, tzinfo=UTC)
ALONE = "only in"
ALWAYS = "always there"
"""A person in every batch of every device, neutral all the time, and the only one who ever is."""

DEVICES = ("jetson_1", "jetson_2", "jetson_3")

PersonKey = tuple[str, str]


class Row(NamedTuple):
    """A person as stored: seconds, and when they were last seen."""

    happy: float
    sad: float
    angry: float
    neutral: float
    last_seen: datetime


class Acknowledged(NamedTuple):
    """A batch that the broker has sent a PUBACK for, at `at` (monotonic seconds)."""

    at: float
    payload: bytes


def stored_rows(url: str, *, devices: Sequence[str] | None = None) -> dict[PersonKey, Row]:
    """Return the stored row of every person of these devices, or of all."""
    table = person_emotion.c
    columns = (table.time_happy, table.time_sad, table.time_angry, table.time_neutral, table.last_seen)
    query = select(table.device_id, table.person_id, *columns)
    if devices is not None:
        query = query.where(table.device_id.in_(devices))
    with reading(url) as connection:
        found = connection.execute(query).all()
    return {(row[0], row[1]): Row(*row[2:]) for row in found}


def expected_rows(history: Iterable[Acknowledged]) -> dict[PersonKey, Row]:
    """The model: of each person the newest report that was acknowledged; of two with one timestamp, the later."""
    expected: dict[PersonKey, Row] = {}
    for _, payload in history:
        batch = json.loads(payload)
        stamp = datetime.fromisoformat(batch["timestamp"])
        for person in batch["people"]:
            key = batch["device_id"], person["person_id"]
            if key not in expected or expected[key].last_seen <= stamp:
                happy, sad, angry, neutral = (person["cumulative"].get(emotion, 0.0) for emotion in EMOTIONS)
                expected[key] = Row(happy, sad, angry, neutral, stamp)
    return expected


def expected_neutral(history: Iterable[Acknowledged]) -> dict[str, float]:
    """Seconds that each device's history has to have: all of the time since its first batch, each moment of it once."""
    stamps: dict[str, list[datetime]] = {}
    for _, payload in history:
        batch = json.loads(payload)
        stamps.setdefault(batch["device_id"], []).append(datetime.fromisoformat(batch["timestamp"]))
    return {device_id: (max(each) - min(each)).total_seconds() for device_id, each in stamps.items()}


def stored_neutral(url: str) -> dict[str, float]:
    """Return the stored history of each device. Its hours have to be the sums of its minutes."""
    table = emotion_minute.c
    query = select(table.device_id, func.sum(table.time_neutral)).group_by(table.device_id)
    with reading(url) as connection:
        check_hours(connection)
        return {device_id: float(seconds) for device_id, seconds in connection.execute(query)}


class Fleet:
    """Devices that publish all the time, in turn, on a thread of their own, from the start of the block to its end.

    Every batch has a person that no other batch has: a later batch would heal the loss of what they have in common.
    `pace` is the seconds between two batches; with None they publish only what `publish` is told. `asking` gives every
    batch a Response Topic.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        pace: float | None = 0.002,
        asking: bool = False,
        client_id: str = "fleet",
        devices: Sequence[str] = DEVICES,
    ) -> None:
        self._client = Client(broker, client_id)
        self._devices = devices
        self._pace = pace
        self._asking = asking
        self._turn = 0
        self._block = ExitStack()
        self._publishing = ExitStack()

    def __enter__(self) -> "Fleet":
        self._block.enter_context(self._client)
        if self._asking:
            self._client.listen(TOPICS.reply("+"))
        self._block.enter_context(self._publishing)
        if self._pace is not None:
            self._publishing.enter_context(repeatedly(self._keep_publishing, pause=self._pace))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._block.close()

    @property
    def acknowledged(self) -> int:
        """Return the number of batches that the broker has acknowledged."""
        return len(self._client.history)

    def sent_after(self, turn: int) -> list[Acknowledged]:
        """Return the acknowledged batches that were sent after the `turn`-th."""
        stamp = START + timedelta(milliseconds=turn)
        return [
            entry for entry in self.history if datetime.fromisoformat(json.loads(entry.payload)["timestamp"]) > stamp
        ]

    @property
    def sent(self) -> int:
        """Return the number of batches that were sent."""
        return self._turn

    @property
    def history(self) -> list[Acknowledged]:
        return [Acknowledged(*entry) for entry in self._client.history]

    @property
    def answers(self) -> Counter[bytes]:
        """Return the number of replies to each batch, by its Correlation Data."""
        return Counter(seen.correlation_data or b"" for seen in self._client.seen)

    def publish(self, number: int) -> None:
        """The next `number` batches, until the broker has acknowledged them."""
        for _ in range(number):
            self._send_next()
        self._client.wait_for_pubacks()

    def report_again(self, *, since: float, until: float) -> None:
        """A person in a batch that was acknowledged between the two is in the device's next one as well."""
        entries = [entry for entry in self.history if since <= entry.at <= until]
        for device_id in self._devices:
            rows = {key[1]: row for key, row in expected_rows(entries).items() if key[0] == device_id}
            alone = {person_id: row for person_id, row in rows.items() if person_id.startswith(ALONE)}
            if alone:
                people = {person_id: dict(zip(EMOTIONS, row[:4], strict=True)) for person_id, row in alone.items()}
                newest = max(row.last_seen for row in alone.values())
                self._client.send(TOPICS.batch(device_id), encode(device_id, newest, people))

    def wait_for_more(self, number: int) -> None:
        """Until the broker has acknowledged `number` batches more than now."""
        goal = self.acknowledged + number
        wait_until(lambda: self.acknowledged >= goal, what=f"{number} more batches are acknowledged")

    def finish(self) -> None:
        """Publish no more, and wait until the broker has everything."""
        self._publishing.close()
        self._client.wait_for_pubacks()

    def _keep_publishing(self) -> None:
        if self._client.under_way <= 200:
            self._send_next()

    def _send_next(self) -> None:
        self._turn += 1
        device_id, turn = self._devices[self._turn % len(self._devices)], self._turn
        people = {
            str(number): {"happy": turn + number / 8, "sad": turn / 2, "angry": float(number)}
            for number in (turn % 7, turn % 7 + 1)
        }
        people[ALWAYS] = {"neutral": turn / 1000}
        people[f"{ALONE} {turn}"] = {"happy": float(turn), "sad": 0.0, "angry": 0.0}
        self._client.send(
            TOPICS.batch(device_id),
            encode(device_id, START + timedelta(milliseconds=turn), people),
            response_topic=TOPICS.reply(device_id) if self._asking else None,
            correlation_data=str(turn).encode() if self._asking else None,
        )
