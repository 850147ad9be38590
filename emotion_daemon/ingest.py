"""The loop: receive, decode, fold, commit, acknowledge, in this order and on one thread."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from sqlalchemy.exc import DBAPIError

from emotion_daemon.monitoring.group import Group
from emotion_daemon.monitoring.outage import OutageKind
from emotion_daemon.monitoring.report import Report
from emotion_daemon.mqtt.publish_packet import Message
from emotion_daemon.retention import Retention
from emotion_daemon.rules.outcome import Info, Rejected, Status
from emotion_daemon.storage.errors import LASTING, is_temporary, reason, refusal
from emotion_daemon.storage.store import Store
from shared.batch import Batch, DecodeError, InvalidPart, Topics, decode
from shared.messages import STATUSES, ReplyError, ReplyOk, decode_info

IDLE_SECONDS = 0.5
"""Seconds that one step waits for messages. The loop notices a stop within this time."""

CHECK_SECONDS = 15.0
"""Seconds after the last group or check until an idle loop checks the database; in an outage it does so earlier."""

SHORTEST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 0.5
"""Seconds between two attempts in a long outage: a promoted standby of PostgreSQL gets its first commit so soon."""
STOP_PATIENCE_SECONDS = 6.0
"""Seconds for which a stopping daemon goes on trying to commit its last group."""

_STATUSES = {status.encode(): status for status in STATUSES} | {b"": None}

_encode = msgspec.json.Encoder().encode


class Source(Protocol):
    """The part of Subscriber that the loop uses."""

    def receive(self, *, timeout: float) -> list[Message]: ...
    def wait(self, seconds: float, *, until: Callable[[], bool] = ...) -> None: ...
    def clear_retained(self, topics: Iterable[str]) -> None: ...
    def ack(self, messages: Iterable[Message]) -> int: ...
    def reply(self, message: Message, payload: bytes) -> None: ...


class LeftWithBrokerError(Exception):
    """Raised when a stopping daemon could not commit its last group. The broker still has those messages."""

    def __init__(self, messages: int) -> None:
        super().__init__(f"cannot commit the last {messages} messages; the broker sends them again at the next start")
        self.messages = messages


@dataclass(slots=True)
class _Entry:
    """One message on its way through the steps."""

    message: Message
    outcome: Batch | Status | Info | Rejected
    updated_count: int = 0

    @property
    def outlives_its_use(self) -> bool:
        """Return True if the broker retains a message that is not for later subscribers, unlike a valid status or info.

        A retained batch or an invalid message may name a person, and would do so after the person was erased.
        """
        return self.message.retain and bool(self.message.payload) and not isinstance(self.outcome, Status | Info)

    def tried_before(self) -> None:
        """Mark a rejected message as perhaps recorded: a server that dies may have committed without saying so."""
        if isinstance(self.outcome, Rejected):
            self.outcome = self.outcome._replace(sent_again=True)

    def answer(self) -> bytes:
        if isinstance(self.outcome, Rejected):
            return _encode(ReplyError(self.outcome.reason))
        return _encode(ReplyOk(self.updated_count))


class Ingest:
    """Runs the five steps until `stopping` says so. Each message is committed or recorded as rejected, then acked.

    `own_id` is the daemon's client id: its own status is not a device's. `retention` deletes rows for their age.
    """

    def __init__(
        self,
        *,
        source: Source,
        store: Store,
        topics: Topics,
        report: Report,
        own_id: str = "",
        retention: Retention | None = None,
        stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._store = store
        self._topics = topics
        self._report = report
        self._own_id = own_id
        self._retention = retention
        self._now = now
        self._monotonic = monotonic
        self._stopping = stopping
        self._check_due = monotonic() + CHECK_SECONDS

    def run(self) -> None:
        """Step until stopped. Raises LeftWithBrokerError, and errors of the database that a retry does not mend."""
        while not self._stopping():
            self.step()

    def step(self) -> int:
        """Take one group from receive to ack, and return how many messages it had.

        1. receive the messages that have arrived, 2. decode each payload, 3. fold the batches over the known rows,
        4. write the group in one transaction and commit, 5. acknowledge every message and reply to those that ask.
        Before 5 it clears retained messages that the broker must not hold.
        After each group retention may delete a few rows. If no message arrives, the loop checks the database.
        """
        retention = self._retention
        messages = self._source.receive(timeout=0 if retention is not None and retention.is_due else IDLE_SECONDS)
        if messages:
            self._report.received(len(messages))
            received_at = self._now()
            entries = [self._decode(message, received_at) for message in messages]
            self._commit_or_halve(entries)
            self._source.clear_retained({entry.message.topic for entry in entries if entry.outlives_its_use})
            self._source.ack(messages)
            self._report.acknowledged()
            for entry in entries:
                if entry.message.response_topic is not None:
                    self._reply(entry, entry.message.response_topic)
            self._check_due = self._monotonic() + CHECK_SECONDS
        elif self._monotonic() >= self._check_due:
            self._check_database()
            pause = LONGEST_RETRY_SECONDS if self._report.database_fails else CHECK_SECONDS
            self._check_due = self._monotonic() + pause
        if retention is not None:
            with self._report.waiting_for_database():
                retention.step(idle=not messages)
        self._report.turned()
        return len(messages)

    def _decode(self, message: Message, received_at: datetime) -> _Entry:
        try:
            if self._topics.is_status(message.topic):
                return _Entry(message, self._status(message, received_at))
            if self._topics.is_info(message.topic):
                return _Entry(message, self._info(message))
            device_id = self._topics.device_id(message.topic)
            batch = decode(message.payload, device_id=device_id, received_at=received_at)
            if message.retain and batch.clock_skew is not None:
                raise DecodeError(
                    "a retained batch with an impossible timestamp may be of any age: publish batches without retain",
                    "retained",
                )
            if message.dup or message.retain:
                batch = msgspec.structs.replace(batch, received_at=None)
        except DecodeError as error:
            return self._reject(message, str(error), received_at, error.kind)
        return _Entry(message, batch)

    def _status(self, message: Message, received_at: datetime) -> Status:
        device_id = self._topics.status_device_id(message.topic)
        if message.payload not in _STATUSES:
            raise DecodeError("a status is online, offline, or empty to clear it", "status")
        return Status(device_id, _STATUSES[message.payload], received_at)

    def _info(self, message: Message) -> Info:
        device_id = self._topics.info_device_id(message.topic)
        if not message.payload:
            return Info(device_id, None)
        try:
            return Info(device_id, decode_info(message.payload))
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"no statistics of a device: {error}", "info") from error

    def _reject(self, message: Message, why: str, received_at: datetime, kind: InvalidPart) -> _Entry:
        owner = self._topics.owner(message.topic)
        return _Entry(message, Rejected(message.topic, why, message.payload, received_at, message.dup, kind, owner))

    def _commit_or_halve(self, entries: list[_Entry]) -> None:
        """Commit the group; if the database will never take it, halve it until the one bad message stands alone."""
        try:
            self._commit_patiently(entries)
        except LASTING as error:
            if len(entries) > 1:
                middle = len(entries) // 2
                self._commit_or_halve(entries[:middle])
                self._commit_or_halve(entries[middle:])
                return
            (entry,) = entries
            if isinstance(entry.outcome, Rejected):
                raise  # the database refused even the record of the rejected message
            entry.outcome = self._reject(entry.message, refusal(error), self._now(), "database").outcome
            self._commit_patiently(entries)

    def _commit_patiently(self, entries: list[_Entry]) -> None:
        """Commit the group, and retry during an outage however long it lasts. Nothing is acked or dropped meanwhile."""
        for delay in _retry_delays():
            try:
                return self._commit(entries)
            except DBAPIError as error:
                lasted = self._report.commit_failed(*self._outage(error))
            if self._stopping() and lasted > STOP_PATIENCE_SECONDS:
                raise LeftWithBrokerError(len(entries))
            self._source.wait(delay, until=self._stopping)
            for entry in entries:
                entry.tried_before()

    def _check_database(self) -> None:
        """Check whether a commit would reach the database."""
        try:
            with self._report.waiting_for_database():
                self._store.ping()
        except DBAPIError as error:
            self._report.database_failed(*self._outage(error))
        else:
            self._report.database_answers()

    def _outage(self, error: DBAPIError) -> tuple[str, OutageKind]:
        """Return a sentence about a temporary error, and its kind of outage. Raises any other error."""
        if not is_temporary(error):
            raise error
        return f"cannot commit: {reason(error)}", self._store.outage_kind(error)

    def _commit(self, entries: list[_Entry]) -> None:
        """Write the group in one transaction. Once it is committed, tell the report."""
        began = self._monotonic()
        batches = [(entry, entry.outcome) for entry in entries if isinstance(entry.outcome, Batch)]
        statuses = [each.outcome for each in entries if isinstance(each.outcome, Status)]
        foreign = [each for each in statuses if each.device_id != self._own_id]
        infos = [each.outcome for each in entries if isinstance(each.outcome, Info)]
        rejected = [entry.outcome for entry in entries if isinstance(entry.outcome, Rejected)]
        with self._report.waiting_for_database(), self._store.transaction() as transaction:
            known = transaction.read_state([batch for _, batch in batches], [*foreign, *infos])
            folded = self._store.fold((batch for _, batch in batches), known)
            transaction.write(folded, between=self._stay_connected)
            transaction.write_presence([*foreign, *infos])
            omitted = transaction.reject(rejected, between=self._stay_connected)
        for (entry, _), updated_count in zip(batches, folded.updated_counts, strict=True):
            entry.updated_count = updated_count
        seconds = self._monotonic() - began
        traffic = [(entry.outcome.device_id, entry.message.size) for entry in entries]
        self._report.committed(
            Group(
                [batch for _, batch in batches], folded, len(statuses) + len(infos), rejected, omitted, seconds, traffic
            )
        )

    def _stay_connected(self) -> None:
        self._source.wait(0)

    def _reply(self, entry: _Entry, topic: str) -> None:
        """Reply, but only on the device's own reply topic or below it: no other device may read the reply."""
        try:
            device_id = self._topics.device_id(entry.message.topic)
        except DecodeError:
            return
        if self._topics.may_reply_to(topic, device_id):
            self._source.reply(entry.message, entry.answer())
        else:
            self._report.not_answered(device_id, topic)


def _retry_delays() -> Iterator[float]:
    """Yield the seconds between attempts: 0.1, 0.2, 0.4, 0.5, 0.5 …"""
    delay = SHORTEST_RETRY_SECONDS
    while True:
        yield delay
        delay = min(LONGEST_RETRY_SECONDS, 2 * delay)
