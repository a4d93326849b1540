"""Payments, and the kit's tables."""

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
        "payments",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("authorization_id", sa.Text),
        sa.Column("capture_id", sa.Text),
        sa.Column("refund_id", sa.Text),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    chassis_tables.create_1()
