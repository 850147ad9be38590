"""Statistics of each device's program, as the device sent them last."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("device_state", sa.Column("info", sa.Text, comment="statistics of its program, as JSON"))


def downgrade() -> None:
    with op.batch_alter_table("device_state") as batch:
        batch.drop_column("info")
