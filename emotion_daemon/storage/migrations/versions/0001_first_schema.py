"""First schema: person_emotion, device, rejected_message."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "person_emotion",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("time_happy", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_sad", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_angry", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_neutral", sa.Float, nullable=False, comment="seconds"),
        sa.Column("last_seen", sa.DateTime, nullable=False, comment="the batch's timestamp"),
        sa.PrimaryKeyConstraint("id", name="pk_person_emotion"),
        sa.UniqueConstraint("device_id", "person_id", name="uq_person_emotion_device_id_person_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_person_emotion_device_id", "person_emotion", ["device_id"])
    op.create_index("ix_person_emotion_person_id", "person_emotion", ["person_id"])
    op.create_table(
        "device",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("device_name", sa.Text, comment="set by an operator; null: the setting's name, else the id"),
        sa.Column("updated_at", sa.DateTime, comment="timestamp of the newest applied batch"),
        sa.PrimaryKeyConstraint("device_id", name="pk_device"),
    )
    op.create_table(
        "rejected_message",
        sa.Column("id", _Id, autoincrement=True, nullable=False),
        sa.Column("received_at", sa.DateTime, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False, comment="the first 64 KiB"),
        sa.Column("payload_size", sa.Integer, nullable=False, comment="bytes that were received"),
        sa.PrimaryKeyConstraint("id", name="pk_rejected_message"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    op.drop_table("rejected_message")
    op.drop_table("device")
    op.drop_table("person_emotion")
