"""device_state.revision in place of daemon_commit: it tells the API whether a response is current."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column(
        "device_state",
        sa.Column(
            "revision",
            sa.BigInteger,
            nullable=False,
            server_default="0",
            comment="raised by every transaction that changes an answer about the device",
        ),
    )
    op.drop_table("daemon_commit")


def downgrade() -> None:
    op.create_table(
        "daemon_commit",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False, comment="1: there is one row"),
        sa.Column("stamped", sa.BigInteger, nullable=False),
        sa.Column("unstamped", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_daemon_commit"),
    )
    with op.batch_alter_table("device_state") as batch:
        batch.drop_column("revision")
