"""Manual postings: one person proposes, another approves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "manual_postings",
        sa.Column("posting_id", sa.Text, primary_key=True, comment="the id of its saga"),
        sa.Column("key", sa.Text, nullable=False, comment="the proposer's idempotency key"),
        sa.Column("accounts", ARRAY(sa.Text), nullable=False),
        sa.Column("amounts", ARRAY(sa.BigInteger), nullable=False, comment="minor units; a debit is positive"),
        sa.Column("currencies", ARRAY(sa.Text), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("proposed_by", sa.Text, nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.Column("decision_reason", sa.Text),
        sa.Column("outcome", sa.Text, comment="why its saga failed"),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "state IN ('PROPOSED', 'REFUSED') OR (decided_by IS NOT NULL AND lower(decided_by) <> lower(proposed_by))",
            name="manual_postings_two_people",
        ),
        sa.UniqueConstraint("proposed_by", "key", name="manual_postings_once"),
    )
