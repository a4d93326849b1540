"""The provider's own books."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "money_entries",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False, comment="what it adds to the utility account"),
        sa.Column("own_id", sa.Text, comment="null: it came in"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        comment="what the benchmark's provider of mobile money has done",
    )
