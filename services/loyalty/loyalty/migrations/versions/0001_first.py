"""Accounts, burns, and the kit's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "accounts",
        sa.Column("customer_id", sa.Text, primary_key=True),
        sa.Column(
            "granted", sa.BigInteger, nullable=False, comment="all points ever granted, less those withdrawn by hand"
        ),
        sa.Column("balance", sa.BigInteger, sa.CheckConstraint("balance >= 0"), nullable=False),
    )
    op.create_table(
        "burns",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("points", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    chassis_tables.create_1()
