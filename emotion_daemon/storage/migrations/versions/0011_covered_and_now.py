"""The seconds for which a device was heard, and the emotions of the last seconds."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_NOW = ("now_happy", "now_sad", "now_angry", "now_neutral")
_HISTORY = ("emotion_minute", "emotion_hour")


def upgrade() -> None:
    for table in _HISTORY:
        comment = "seconds for which the device was heard; null: stored by an earlier version"
        op.add_column(table, sa.Column("covered", sa.Float, comment=comment))
    op.add_column(
        "person_emotion",
        sa.Column("emotion_now", sa.Text, comment="the emotion that grew most in that batch; null: not known"),
    )
    for name in _NOW:
        op.add_column("device_state", sa.Column(name, sa.Float, nullable=False, server_default="0", comment="seconds"))
    op.add_column(
        "device_state",
        sa.Column(
            "covered_since",
            sa.DateTime,
            comment="the history's covered is known from here on; null: the daemon has not stored any yet",
        ),
    )


def downgrade() -> None:
    for name in ("covered_since", *_NOW):
        op.drop_column("device_state", name)
    op.drop_column("person_emotion", "emotion_now")
    for table in _HISTORY:
        op.drop_column(table, "covered")
