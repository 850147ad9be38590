"""emotion_hour: the history's minutes added up, so that years are read from few rows."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TIMES = ("time_happy", "time_sad", "time_angry", "time_neutral")


def upgrade() -> None:
    op.create_table(
        "emotion_hour",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("hour", sa.DateTime, nullable=False, comment="its beginning"),
        *(sa.Column(name, sa.Float, nullable=False, comment="seconds") for name in _TIMES),
        sa.Column(
            "most_people", sa.Integer, nullable=False, comment="the most people in view in one batch of this hour"
        ),
        sa.PrimaryKeyConstraint("device_id", "hour", name="pk_emotion_hour"),
        sqlite_with_rowid=False,
    )
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    hour = "substr(minute, 1, 13) || ':00:00.000000'" if on_sqlite else "date_trunc('hour', minute)"
    sums = ", ".join(f"sum({name})" for name in _TIMES)
    op.execute(
        f"INSERT INTO emotion_hour (device_id, hour, {', '.join(_TIMES)}, most_people) "
        f"SELECT device_id, {hour}, {sums}, max(most_people) FROM emotion_minute GROUP BY 1, 2"
    )


def downgrade() -> None:
    op.drop_table("emotion_hour")
