"""Merchants' payments: their amounts beside their status, their refunds and their disputes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and create the tables."""
    for column in (
        sa.Column("owner", sa.Text, comment="of the merchant's accounts; null for a payment of no merchant"),
        sa.Column("currency", sa.Text),
        sa.Column("authorized_minor", sa.BigInteger),
        sa.Column("captured_minor", sa.BigInteger),
        sa.Column("fee_minor", sa.BigInteger, comment="what we keep of what was captured"),
        sa.Column("refunding_minor", sa.BigInteger, comment="held for refunds under way"),
        sa.Column("refunded_minor", sa.BigInteger),
        sa.Column("disputed_minor", sa.BigInteger, comment="taken back by disputes that are open or lost"),
    ):
        op.add_column("payments", column)
    op.create_table(
        "payment_refunds",
        sa.Column("refund_id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("payment_id", sa.Text, nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="HELD, COMMITTED, RELEASED or FAILED"),
        sa.PrimaryKeyConstraint("refund_id", name="payment_refunds_once"),
    )
    op.create_index("payment_refunds_saga", "payment_refunds", ["saga_id"], unique=True)
    op.create_table(
        "payment_disputes",
        sa.Column("dispute_id", sa.Text, nullable=False, comment="the gateway account and its id of the dispute"),
        sa.Column("payment_id", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("covered_minor", sa.BigInteger, nullable=False, comment="what the merchant's reserve covered"),
        sa.Column("state", sa.Text, nullable=False, comment="OPEN, WON or LOST"),
        sa.PrimaryKeyConstraint("dispute_id", name="payment_disputes_once"),
    )
    op.create_table(
        "late_captures",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("request", sa.Text, comment="JSON: what is captured; null until its event is read"),
        sa.Column("accepted_by", sa.Text, comment="the message that the gateway has accepted it"),
        sa.Column("has_failed", sa.Boolean, nullable=False),
    )
