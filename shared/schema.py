"""The tables. The daemon writes them, the API reads them, Alembic (`emotion_daemon/storage/migrations`) makes them."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from shared.batch import EMOTIONS


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in Python, a plain DATETIME holding UTC in the database."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


# PostgreSQL takes a number from the sequence for every upsert, also for one that only updates: 2**31 of them would
# be gone in hours. SQLite wants exactly INTEGER for its rowid.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _seconds() -> list[Column[float]]:
    """The columns of cumulative seconds, one for each emotion."""
    return [Column(f"time_{emotion}", Float, nullable=False, comment="seconds") for emotion in EMOTIONS]


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

person_emotion = Table(
    "person_emotion",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("device_id", Text, nullable=False, index=True),
    Column("person_id", Text, nullable=False, index=True),
    *_seconds(),
    Column("last_seen", UtcDateTime, nullable=False, comment="the batch's timestamp"),
    UniqueConstraint("device_id", "person_id"),
    sqlite_autoincrement=True,
)
"""What each device reported last about each person."""

device = Table(
    "device",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("device_name", Text, comment="set by an operator; null: the setting's name, else the id"),
    Column("updated_at", UtcDateTime, comment="timestamp of the newest applied batch"),
)
"""Every device that ever sent a batch, or that an operator named."""

device_state = Table(
    "device_state",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("received_at", UtcDateTime, comment="when its newest applied batch arrived, by the daemon's clock"),
    Column("people", Integer, comment="how many people that batch had"),
    Column("clock_skew", Float, comment="seconds that its stamp was ahead of the daemon's clock at that moment"),
    Column("status", Text, comment="online or offline, as the device or its last will said"),
    Column("status_at", UtcDateTime, comment="when the daemon heard that"),
    Column(
        "revision",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="raised by every transaction that changes an answer about the device",
    ),
)
"""How each device is doing: its newest batch, what its status topic says, and the revision of all answers about it."""

emotion_minute = Table(
    "emotion_minute",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("minute", UtcDateTime, primary_key=True, comment="its beginning"),
    *_seconds(),
    Column("most_people", Integer, nullable=False, comment="the most people in one batch of this minute"),
    sqlite_with_rowid=False,
)
"""The history: what all people before a camera have shown in each minute; no row where they have shown nothing."""

rejected_message = Table(
    "rejected_message",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("received_at", UtcDateTime, nullable=False),
    Column("topic", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False, comment="the first 64 KiB"),
    Column("payload_size", Integer, nullable=False, comment="bytes that were received"),
    Index("ix_rejected_message_received_at", "received_at", "topic"),
    sqlite_autoincrement=True,
)
"""The newest messages that were no valid batch, kept so that they can be looked at and replayed."""

forgotten_person = Table(
    "forgotten_person",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True, comment="BLAKE2b of the person_id, keyed with salt"),
    Column("salt", LargeBinary, nullable=False, comment="16 random bytes"),
    Column("forgotten_at", UtcDateTime, nullable=False, comment="when the operator had the person erased"),
    Column("until", UtcDateTime, nullable=False, comment="what is stamped up to then is left out"),
)
"""Who was erased, without the id: neither what is still queued nor a camera that sees them may bring them back."""

device_total = Table(
    "device_total",
    metadata,
    Column("device_id", Text, primary_key=True),
    *_seconds(),
)
"""What was shown before a device by people of whom there is no row: all of them, where only totals are stored."""
