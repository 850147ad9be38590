"""The time when a person was active, the offset of a clock that was set back, and the totals of the history."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TIMES = ("time_happy", "time_sad", "time_angry", "time_neutral")

_COMMENTS = (
    ("device_state", "people", sa.Integer, True, "how many people that batch had", "how many people were in view then"),
    (
        "device_state",
        "clock_skew",
        sa.Float,
        True,
        "seconds that its timestamp was ahead of the daemon's clock then",
        "seconds that the device's clock was ahead of the daemon's then",
    ),
    (
        "emotion_minute",
        "most_people",
        sa.Integer,
        False,
        "the most people in one batch of this minute",
        "the most people in view in one batch of this minute",
    ),
)


def upgrade() -> None:
    op.add_column(
        "person_emotion",
        sa.Column("active_at", sa.DateTime, comment="timestamp of the last batch in which the seconds had grown"),
    )
    op.execute("UPDATE person_emotion SET active_at = last_seen")
    op.add_column(
        "device_state",
        sa.Column(
            "clock_offset",
            sa.Float,
            comment="seconds that the daemon adds to its timestamps, since its clock was set back",
        ),
    )
    for name in _TIMES:
        op.add_column("device_state", sa.Column(name, sa.Float, nullable=False, server_default="0", comment="seconds"))
    sums = ", ".join(
        f"{name} = (SELECT coalesce(sum(m.{name}), 0) FROM emotion_minute m WHERE m.device_id = device_state.device_id)"
        for name in _TIMES
    )
    op.execute(f"UPDATE device_state SET {sums}")
    if op.get_bind().dialect.name != "sqlite":  # SQLite has no comments
        for table, column, kind, nullable, old, new in _COMMENTS:
            op.alter_column(
                table, column, existing_type=kind(), existing_nullable=nullable, existing_comment=old, comment=new
            )


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        for table, column, kind, nullable, old, new in _COMMENTS:
            op.alter_column(
                table, column, existing_type=kind(), existing_nullable=nullable, existing_comment=new, comment=old
            )
    with op.batch_alter_table("device_state") as batch:
        for name in (*_TIMES, "clock_offset"):
            batch.drop_column(name)
    with op.batch_alter_table("person_emotion") as batch:
        batch.drop_column("active_at")
