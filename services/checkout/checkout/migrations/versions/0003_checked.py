"""What the audit compares: the rate at which points paid, and where the order goes; and the orders that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that a process of the release before leaves empty, and an index of the orders that wait."""
    for column in (
        sa.Column("rate_points", sa.BigInteger, comment="so many points paid rate_minor; null: none, or one paid one"),
        sa.Column("rate_minor", sa.BigInteger),
        sa.Column("destination", sa.Text, comment="a digest of the address; null: from before it was kept"),
    ):
        op.add_column("orders", column)
    op.create_index("orders_pending", "orders", ["submitted_at"], postgresql_where=sa.text("state = 'PENDING'"))
