"""emotion_minute and device_state: the history, and how each device is doing."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "emotion_minute",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("minute", sa.DateTime, nullable=False, comment="its beginning"),
        sa.Column("time_happy", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_sad", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_angry", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_neutral", sa.Float, nullable=False, comment="seconds"),
        sa.Column("most_people", sa.Integer, nullable=False, comment="the most people in one batch of this minute"),
        sa.PrimaryKeyConstraint("device_id", "minute", name="pk_emotion_minute"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_state",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.DateTime, comment="when its newest applied batch arrived, by the daemon's clock"),
        sa.Column("people", sa.Integer, comment="how many people that batch had"),
        sa.Column("clock_skew", sa.Float, comment="seconds that its timestamp was ahead of the daemon's clock then"),
        sa.Column("status", sa.Text, comment="online or offline, as the device or its last will said"),
        sa.Column("status_at", sa.DateTime, comment="when the daemon heard that"),
        sa.PrimaryKeyConstraint("device_id", name="pk_device_state"),
    )
    op.create_index("ix_rejected_message_received_at", "rejected_message", ["received_at", "topic"])


def downgrade() -> None:
    op.drop_index("ix_rejected_message_received_at", "rejected_message")
    op.drop_table("device_state")
    op.drop_table("emotion_minute")
