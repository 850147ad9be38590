"""The daemon that received a device's newest batch."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("device_state", sa.Column("received_by", sa.Text, comment="client id of the daemon that received it"))


def downgrade() -> None:
    with op.batch_alter_table("device_state") as batch:
        batch.drop_column("received_by")
