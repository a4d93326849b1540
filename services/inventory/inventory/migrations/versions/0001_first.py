"""Stock, reservations, and the kit's tables."""

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
        "stock",
        sa.Column("sku", sa.Text, primary_key=True),
        sa.Column(
            "received", sa.BigInteger, nullable=False, comment="all units that ever came in, less those taken out"
        ),
        sa.Column(
            "on_hand", sa.BigInteger, sa.CheckConstraint("on_hand >= 0"), nullable=False, comment="units nobody holds"
        ),
    )
    op.create_table(
        "reservations",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("skus", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("quantities", sa.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    chassis_tables.create_1()
