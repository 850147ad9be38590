"""The loop: receive, decode, fold, commit, acknowledge, in this order and on one thread."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from sqlalchemy.exc import DBAPIError

from emotion_daemon.monitoring.event_log import Notices
from emotion_daemon.monitoring.heartbeat import Heartbeat
from emotion_daemon.monitoring.metrics import Metrics
from emotion_daemon.monitoring.outage import Trouble
from emotion_daemon.mqtt.publish_packet import Message
from emotion_daemon.retention import Retention
from emotion_daemon.rules.arrival_order import ArrivalOrder
from emotion_daemon.storage.file_guard import DatabaseWrittenError
from emotion_daemon.storage.store import LASTING, Rejected, Status, Store, is_temporary, reason, refusal
from shared.batch import Batch, DecodeError, Topics, decode
from shared.messages import STATUSES, ReplyError, ReplyOk

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
"""How long one step waits for messages; a stop is noticed after this at the latest."""

LOOK_SECONDS = 15.0
"""How long after the last group, or look, it is looked whether the database is still there; sooner in trouble."""

SHORTEST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 5.0
STOP_PATIENCE_SECONDS = 6.0
"""How long a stopping daemon goes on trying to commit its last group."""

_STATUSES = {status.encode(): status for status in STATUSES} | {b"": None}

_encode = msgspec.json.Encoder().encode


class Source(Protocol):
    """What the loop needs of a subscriber."""

    @property
    def waiting(self) -> int: ...
    def receive(self, *, timeout: float) -> list[Message]: ...
    def wait(self, seconds: float, *, until: Callable[[], bool] = ...) -> None: ...
    def ack(self, messages: Iterable[Message]) -> int: ...
    def reply(self, message: Message, payload: bytes) -> None: ...


class LeftWithBrokerError(Exception):
    """Raised when a stopping daemon could not commit its last group: the broker keeps those messages."""

    def __init__(self, messages: int) -> None:
        super().__init__(f"{messages} messages could not be committed; the broker keeps them for the next start")
        self.messages = messages


@dataclass(slots=True)
class _Entry:
    """One message on its way through the steps."""

    message: Message
    outcome: Batch | Status | Rejected
    updated_count: int = 0

    def tried_before(self) -> None:
        """The commit may have been done although it failed: a server that dies can say so no more."""
        if isinstance(self.outcome, Rejected):
            self.outcome = self.outcome._replace(sent_again=True)

    def answer(self) -> bytes:
        if isinstance(self.outcome, Rejected):
            return _encode(ReplyError(self.outcome.reason))
        return _encode(ReplyOk(self.updated_count))


class Ingest:
    """Runs the five steps until `stopping` says so. Each message ends committed or recorded as rejected, then acked.

    `own_id` is the daemon's name among the status topics, where it says online itself. `retention` deletes what is too
    old, None nothing.
    """

    def __init__(
        self,
        *,
        source: Source,
        store: Store,
        topics: Topics,
        notices: Notices,
        own_id: str = "",
        heartbeat: Heartbeat | None = None,
        metrics: Metrics | None = None,
        retention: Retention | None = None,
        stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._store = store
        self._topics = topics
        self._notices = notices
        self._own_id = own_id
        self._heartbeat = heartbeat or Heartbeat()
        self._metrics = metrics or Metrics(self._heartbeat)
        self._retention = retention
        self._now = now
        self._monotonic = monotonic
        self._stopping = stopping
        self._look_due = monotonic() + LOOK_SECONDS
        self._order = ArrivalOrder()
        self._trouble = Trouble(log, then="nothing is acknowledged, trying again until it works")

    def run(self) -> None:
        """Step until stopped. Raises LeftWithBrokerError, and whatever is not temporary trouble."""
        while not self._stopping():
            self.step()

    def step(self) -> int:
        """One group, from receive to ack; returns how many messages it had.

        1. receive what is there, 2. decode each payload, 3. fold the batches over the known rows, 4. write the
        group in one transaction and commit, 5. acknowledge every message of it, and reply to those that asked.
        In between, where there is time for it, a little of what is too old is deleted; and where nothing comes, it is
        looked whether the database is still there.
        """
        retention = self._retention
        messages = self._source.receive(timeout=0 if retention is not None and retention.is_due else IDLE_SECONDS)
        if messages:
            self._metrics.in_hand = len(messages)
            received_at = self._now()
            entries = [self._decode(message, received_at) for message in messages]
            self._commit_or_halve(entries)
            self._source.ack(messages)
            self._metrics.in_hand = 0
            for entry in entries:
                if entry.message.response_topic is not None:
                    self._reply(entry, entry.message.response_topic)
            self._look_due = self._monotonic() + LOOK_SECONDS
        elif self._monotonic() >= self._look_due:
            self._look()
            well = self._trouble.began is None
            self._look_due = self._monotonic() + (LOOK_SECONDS if well else LONGEST_RETRY_SECONDS)
        if retention is not None:
            with self._heartbeat.waiting_for("the database"):
                retention.step(idle=not messages)
        self._notices.report(now=self._monotonic())
        return len(messages)

    def _decode(self, message: Message, received_at: datetime) -> _Entry:
        try:
            if self._topics.is_status(message.topic):
                return _Entry(message, self._status(message, received_at))
            device_id = self._topics.device_id(message.topic)
            batch = decode(message.payload, device_id=device_id, received_at=received_at)
            if message.retain and batch.clock_skew is not None:
                raise DecodeError(
                    "a retained batch whose timestamp cannot be right: nobody knows how old it is", "retained"
                )
            batch = self._order.settle(batch, received_at=received_at)
            if message.dup:
                batch = msgspec.structs.replace(batch, received_at=None)
        except DecodeError as error:
            return self._reject(message, str(error), received_at, error.kind)
        self._notices.accepted(batch)
        return _Entry(message, batch)

    def _status(self, message: Message, received_at: datetime) -> Status:
        device_id = self._topics.status_device_id(message.topic)
        if message.payload not in _STATUSES:
            raise DecodeError("a status is online or offline, or empty to take it back", "status")
        self._notices.status()
        return Status(device_id, _STATUSES[message.payload], received_at)

    def _reject(self, message: Message, why: str, received_at: datetime, kind: str) -> _Entry:
        self._notices.rejected(message.topic, why)
        return _Entry(message, Rejected(message.topic, why, message.payload, received_at, message.dup, kind))

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
                raise  # recording it failed too: nothing is left to try
            entry.outcome = self._reject(entry.message, refusal(error), self._now(), "database").outcome
            self._commit_patiently(entries)

    def _commit_patiently(self, entries: list[_Entry]) -> None:
        """Commit the group, through temporary trouble however long it lasts; nothing is acked or dropped meanwhile."""
        for delay in _retry_delays():
            try:
                with self._heartbeat.waiting_for("the database"):
                    self._commit(entries)
                break
            except (DatabaseWrittenError, DBAPIError) as error:
                lasted, kind = self._in_the_way(error)
            self._metrics.commit_failed(kind)
            if self._stopping() and lasted > STOP_PATIENCE_SECONDS:
                raise LeftWithBrokerError(len(entries))
            self._source.wait(delay, until=self._stopping)
            for entry in entries:
                entry.tried_before()
        if self._trouble.began is not None:
            lasted = self._trouble.over(now=self._monotonic())
            self._heartbeat.database(None)
            waited = len(entries) + self._source.waiting
            log.warning(
                "committing again after %.1f s; %d messages had waited here, others with the broker", lasted, waited
            )

    def _in_the_way(self, error: DatabaseWrittenError | DBAPIError) -> tuple[float, str]:
        """Say what keeps us from committing: for how many seconds by now, and which of `metrics.TROUBLES` it is.

        Raises `error` where it is not temporary.
        """
        if isinstance(error, DatabaseWrittenError):
            why, kind = str(error), "other"
        elif is_temporary(error):
            why, kind = reason(error), self._store.trouble_kind(error)
        else:
            raise error
        sentence = f"cannot commit: {why}"
        self._heartbeat.database(sentence)
        return self._trouble.failed(sentence, now=self._monotonic()), kind

    def _look(self) -> None:
        """Whether a commit could find the database; a trouble is the same as where one fails, and ends with either."""
        try:
            with self._heartbeat.waiting_for("the database"):
                self._store.look()
        except (DatabaseWrittenError, DBAPIError) as error:
            _, kind = self._in_the_way(error)
            self._metrics.database_fails(kind)
            return
        if self._trouble.began is not None:
            lasted = self._trouble.over(now=self._monotonic())
            self._heartbeat.database(None)
            self._metrics.database_answers()
            log.warning("the database answers after %.1f s; nothing had waited", lasted)

    def _commit(self, entries: list[_Entry]) -> None:
        began = self._monotonic()
        batches = [(entry, entry.outcome) for entry in entries if isinstance(entry.outcome, Batch)]
        statuses = [entry.outcome for entry in entries if isinstance(entry.outcome, Status)]
        rejected = [entry.outcome for entry in entries if isinstance(entry.outcome, Rejected)]
        with self._store.transaction() as transaction:
            known = transaction.known([batch for _, batch in batches])
            folded = self._store.fold((batch for _, batch in batches), known)
            transaction.write(folded, between=self._stay_connected)
            transaction.write_statuses(each for each in statuses if each.device_id != self._own_id)
            transaction.reject(rejected, topics=self._topics, between=self._stay_connected)
        self._metrics.committed(
            [batch for _, batch in batches],
            statuses=len(statuses),
            heard=folded.heard.values(),
            seconds=self._monotonic() - began,
        )
        for each in rejected:
            self._metrics.rejected(each.kind, self._topics.owner(each.topic))
        for (entry, _), updated_count in zip(batches, folded.updated_counts, strict=True):
            entry.updated_count = updated_count
        for device_id, seconds in folded.cut.items():
            self._notices.cut(device_id, seconds)
            self._metrics.implausible(seconds)
        if folded.left_out:
            self._notices.left_out(folded.left_out)
            self._metrics.left_out(folded.left_out)

    def _stay_connected(self) -> None:
        self._source.wait(0)

    def _reply(self, entry: _Entry, topic: str) -> None:
        """Answer, but only where the device that asked may listen: its own reply topic or below it."""
        try:
            device_id = self._topics.device_id(entry.message.topic)
        except DecodeError:
            return
        if self._topics.may_reply_to(topic, device_id):
            self._source.reply(entry.message, entry.answer())
        else:
            self._notices.not_answered(device_id, topic)


def _retry_delays() -> Iterator[float]:
    """Seconds between attempts: 0.1, 0.2, 0.4 … 5, 5, 5 …"""
    delay = SHORTEST_RETRY_SECONDS
    while True:
        yield delay
        delay = min(LONGEST_RETRY_SECONDS, 2 * delay)
