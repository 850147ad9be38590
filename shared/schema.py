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


def _seconds(prefix: str = "time", *, default: str | None = None) -> list[Column[float]]:
    """The columns of seconds, one for each emotion."""
    return [
        Column(f"{prefix}_{emotion}", Float, nullable=False, server_default=default, comment="seconds")
        for emotion in EMOTIONS
    ]


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
    # The unique key has the device, too, but in the order of person_id. With it alone SQLite would read a long list of
    # people across the whole table, which takes three to nine times as long.
    Column("device_id", Text, nullable=False, index=True),
    Column("person_id", Text, nullable=False),
    *_seconds(),
    Column("last_seen", UtcDateTime, nullable=False, comment="the batch's timestamp"),
    Column("active_at", UtcDateTime, comment="timestamp of the last batch in which the seconds had grown"),
    Column("emotion_now", Text, comment="the emotion that grew most in that batch; null: not known"),
    UniqueConstraint("device_id", "person_id"),
    sqlite_autoincrement=True,
)
"""Each device's last report about each person."""

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
    Column("received_by", Text, comment="client id of the daemon that received it"),
    Column("people", Integer, comment="how many people were in view then"),
    Column("clock_skew", Float, comment="seconds that the device's clock was ahead of the daemon's then"),
    Column(
        "clock_offset", Float, comment="seconds that the daemon adds to its timestamps, since its clock was set back"
    ),
    Column("status", Text, comment="online or offline, as the device or its last will said"),
    Column("status_at", UtcDateTime, comment="when the daemon heard that"),
    Column("info", Text, comment="statistics of its program, as JSON"),
    Column(
        "revision",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="raised by every transaction that changes an answer about the device",
    ),
    *_seconds(default="0"),
    *_seconds("now", default="0"),
    Column(
        "covered_since",
        UtcDateTime,
        comment="the history's covered is known from here on; null: the daemon has not stored any yet",
    ),
)
"""The state of each device: its newest batch, its presence, and the revision of all responses about it.

`time_happy` and so on are all that the history ever counted. They stay if the history is deleted for its age.
`now_happy` and so on are what all people have shown in the 10 s up to the newest batch.
"""


def _history(step: str) -> Table:
    """A table of the history with one row a device and `step`, minute or hour."""
    return Table(
        f"emotion_{step}",
        metadata,
        Column("device_id", Text, primary_key=True),
        Column(step, UtcDateTime, primary_key=True, comment="its beginning"),
        *_seconds(),
        Column("most_people", Integer, nullable=False, comment=f"the most people in view in one batch of this {step}"),
        Column("covered", Float, comment="seconds for which the device was heard; null: stored by an earlier version"),
        sqlite_with_rowid=False,
    )


emotion_minute = _history("minute")
"""The history: what all people before a camera have shown in each minute, also if they have shown nothing.

A minute without any batch has a row only if a later batch added seconds to it.
"""

emotion_hour = _history("hour")
"""The sums of `emotion_minute` a UTC hour. Every transaction that changes minutes changes their hours, too."""

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
"""The newest dead letters, stored so that an operator can list and replay them."""

forgotten_person = Table(
    "forgotten_person",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True, comment="BLAKE2b of the person_id, keyed with salt"),
    Column("salt", LargeBinary, nullable=False, comment="16 random bytes"),
    Column("forgotten_at", UtcDateTime, nullable=False, comment="when the operator had the person erased"),
    Column("until", UtcDateTime, nullable=False, comment="batches with timestamps up to then omit the person"),
)
"""Erased people, as digests. They stay erased although queued batches or devices still report them."""

device_total = Table(
    "device_total",
    metadata,
    Column("device_id", Text, primary_key=True),
    *_seconds(),
)
"""Seconds that people without a row have shown: all people in totals-only mode."""
