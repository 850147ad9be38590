"""`scripts/dead-letters`: list invalid messages, print one, decode them again, or delete those of one device."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import Engine, delete, select, update

from emotion_daemon.storage.errors import LASTING, refusal
from emotion_daemon.storage.store import Store
from shared.batch import DecodeError, Topics, decode
from shared.schema import rejected_message


class RejectedRow(NamedTuple):
    """One invalid message: `payload` has at most the first 64 KiB of `payload_size` bytes; `received_at` is UTC."""

    id: int
    received_at: datetime
    topic: str
    reason: str
    payload: bytes
    payload_size: int

    @property
    def has_payload(self) -> bool:
        """Return False if the payload was not stored or was deleted, because it may name a person."""
        return bool(self.payload) or not self.payload_size


class Replayed(NamedTuple):
    """The outcome for one message: `reason` is None if it was stored now, and its record deleted."""

    id: int
    topic: str
    reason: str | None


def newest(engine: Engine, *, limit: int) -> list[RejectedRow]:
    """Return the newest `limit` records, newest first."""
    query = select(rejected_message).order_by(rejected_message.c.id.desc()).limit(limit)
    with engine.connect() as connection:
        return [RejectedRow(**row._mapping) for row in connection.execute(query)]


def record(engine: Engine, row_id: int) -> RejectedRow | None:
    """Return one record, or None if there is none."""
    with engine.connect() as connection:
        found = connection.execute(select(rejected_message).where(rejected_message.c.id == row_id)).first()
    return None if found is None else RejectedRow(**found._mapping)


def replay(engine: Engine, topics: Topics, *, totals_only: bool = False) -> Iterator[Replayed]:
    """Decode every record again, oldest first and as of its `received_at`, in one transaction each.

    A batch that is valid now is stored, unless a newer one is, and its record is deleted. Other records stay with their
    new reason. A record whose payload was not stored completely stays as it is.
    """
    store = Store(engine, guarded=False, totals_only=totals_only)  # the daemon may write meanwhile
    with engine.connect() as connection:
        ids = connection.scalars(select(rejected_message.c.id).order_by(rejected_message.c.id)).all()
    for row_id in ids:
        replayed = _replay_one(engine, store, topics, row_id)
        if replayed is not None:
            yield replayed


def delete_of(engine: Engine, topics: Topics, device_id: str) -> int:
    """Delete every record of the device's topics, and return how many there were."""
    column = rejected_message.c.topic
    with engine.begin() as connection:
        deleted = delete(rejected_message).where(
            column.in_([topic(device_id) for topic in (topics.batch, topics.status, topics.info)])
        )
        return connection.execute(deleted).rowcount


def _replay_one(engine: Engine, store: Store, topics: Topics, row_id: int) -> Replayed | None:
    row = record(engine, row_id)
    if row is None:  # the daemon has deleted it meanwhile
        return None
    if topics.is_status(row.topic) or topics.is_info(row.topic):  # an old one says nothing about the device now
        return Replayed(row_id, row.topic, row.reason)
    if not row.has_payload:
        return Replayed(row_id, row.topic, "its payload was not stored")
    if row.payload_size > len(row.payload):
        return Replayed(row_id, row.topic, f"only {len(row.payload)} of its {row.payload_size} bytes were stored")
    try:
        device_id = topics.device_id(row.topic)
        batch = decode(row.payload, device_id=device_id, received_at=row.received_at)
        batch = replace(batch, received_at=None)  # so that the device does not count as heard from now
        with store.transaction() as transaction:
            transaction.write(store.fold([batch], transaction.read_state([batch])))
            transaction.connection.execute(delete(rejected_message).where(rejected_message.c.id == row_id))
    except (DecodeError, *LASTING) as error:
        reason = str(error) if isinstance(error, DecodeError) else refusal(error)
        with engine.begin() as connection:
            connection.execute(update(rejected_message).where(rejected_message.c.id == row_id).values(reason=reason))
        return Replayed(row_id, row.topic, reason)
    return Replayed(row_id, row.topic, None)
