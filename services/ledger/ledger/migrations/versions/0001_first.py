"""Entries, and the kit's tables."""

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
        "entries",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("debit_minor", sa.BigInteger, sa.CheckConstraint("debit_minor >= 0"), nullable=False),
        sa.Column("credit_minor", sa.BigInteger, sa.CheckConstraint("credit_minor >= 0"), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
    )
    chassis_tables.create_1()
