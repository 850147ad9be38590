"""`python -m emotion_admin dead-letters`: list the invalid messages, or decode them again."""

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
    """One record: `payload` is at most the first 64 KiB of `payload_size` bytes; `received_at` is aware UTC."""

    id: int
    received_at: datetime
    topic: str
    reason: str
    payload: bytes
    payload_size: int


class Replayed(NamedTuple):
    """How one record fared: `reason` is None where it was stored and the record deleted."""

    id: int
    topic: str
    reason: str | None


def newest(engine: Engine, *, limit: int) -> list[RejectedRow]:
    """The newest `limit` records, newest first."""
    query = select(rejected_message).order_by(rejected_message.c.id.desc()).limit(limit)
    with engine.connect() as connection:
        return [RejectedRow(**row._mapping) for row in connection.execute(query)]


def replay(engine: Engine, topics: Topics, *, totals_only: bool = False) -> Iterator[Replayed]:
    """Decode every record again, oldest first, as if it arrived when it did; one transaction each.

    What is a valid batch now is stored, unless something newer is, and its record deleted; the others stay with
    their new reason. A payload that was not kept whole stays as it is, and one that was not kept.
    """
    store = Store(engine, guarded=False, totals_only=totals_only)  # the daemon may be at work meanwhile
    with engine.connect() as connection:
        ids = connection.scalars(select(rejected_message.c.id).order_by(rejected_message.c.id)).all()
    for row_id in ids:
        replayed = _replay_one(engine, store, topics, row_id)
        if replayed is not None:
            yield replayed


def _replay_one(engine: Engine, store: Store, topics: Topics, row_id: int) -> Replayed | None:
    with engine.connect() as connection:
        found = connection.execute(select(rejected_message).where(rejected_message.c.id == row_id)).first()
    if found is None:  # the daemon dropped it meanwhile, to make room
        return None
    row = RejectedRow(**found._mapping)
    if topics.is_status(row.topic):  # what a device said of itself then says nothing of how it is now
        return Replayed(row_id, row.topic, row.reason)
    if not row.payload and row.payload_size:
        return Replayed(row_id, row.topic, f"its {row.payload_size} bytes were not kept")
    if row.payload_size > len(row.payload):
        return Replayed(row_id, row.topic, f"only {len(row.payload)} of its {row.payload_size} bytes were kept")
    try:
        device_id = topics.device_id(row.topic)
        batch = decode(row.payload, device_id=device_id, received_at=row.received_at)
        batch = replace(batch, received_at=None)  # it says nothing of how the device is doing now
        with store.transaction() as transaction:
            transaction.write(store.fold([batch], transaction.read_state([batch])))
            transaction.connection.execute(delete(rejected_message).where(rejected_message.c.id == row_id))
    except (DecodeError, *LASTING) as error:
        reason = str(error) if isinstance(error, DecodeError) else refusal(error)
        with engine.begin() as connection:
            connection.execute(update(rejected_message).where(rejected_message.c.id == row_id).values(reason=reason))
        return Replayed(row_id, row.topic, reason)
    return Replayed(row_id, row.topic, None)
