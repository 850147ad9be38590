"""forgotten_person and device_total: who was erased and must not come back, and totals without people."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "forgotten_person",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="BLAKE2b of the person_id, keyed with salt"),
        sa.Column("salt", sa.LargeBinary, nullable=False, comment="16 random bytes"),
        sa.Column("forgotten_at", sa.DateTime, nullable=False, comment="when the operator had the person erased"),
        sa.Column("until", sa.DateTime, nullable=False, comment="batches with timestamps up to then omit the person"),
        sa.PrimaryKeyConstraint("device_id", "digest", name="pk_forgotten_person"),
    )
    op.create_table(
        "device_total",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("time_happy", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_sad", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_angry", sa.Float, nullable=False, comment="seconds"),
        sa.Column("time_neutral", sa.Float, nullable=False, comment="seconds"),
        sa.PrimaryKeyConstraint("device_id", name="pk_device_total"),
    )


def downgrade() -> None:
    op.drop_table("device_total")
    op.drop_table("forgotten_person")
