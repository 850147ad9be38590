"""Room in PostgreSQL's pages for the next version of a row, so that an update changes no index (HOT)."""

from alembic import op

revision = "0009"
down_revision = "0008"

_FILL_FACTORS = {"person_emotion": 80, "device": 50, "device_state": 50, "emotion_minute": 80, "emotion_hour": 50}


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, percent in _FILL_FACTORS.items():
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {percent})")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in _FILL_FACTORS:
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
