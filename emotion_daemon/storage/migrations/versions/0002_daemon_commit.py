"""daemon_commit, so that the API need not build every answer anew after every commit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "daemon_commit",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False, comment="1: there is one row"),
        sa.Column(
            "stamped",
            sa.BigInteger,
            nullable=False,
            comment="how many commits gave every device that they changed another updated_at",
        ),
        sa.Column("unstamped", sa.BigInteger, nullable=False, comment="how many did not, as with a late batch"),
        sa.PrimaryKeyConstraint("id", name="pk_daemon_commit"),
    )


def downgrade() -> None:
    op.drop_table("daemon_commit")
