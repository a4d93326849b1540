"""Collections of parcels that come back, and the chassis' tables of steps whose outcome comes later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.saga import chassis_tables

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "collections",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("order_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="ARRIVED, LOST, NOT_COLLECTED"),
        sa.Column("collection_id", sa.Text, comment="the courier's number; null: it has none"),
        sa.Column("received", JSONB, nullable=False, comment="what arrived, at most what was approved"),
        sa.Column("refund_minor", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    chassis_tables.create_awaited_1()
