"""Merchants' payments at gateways, their refunds, what gateways report, and the tables of awaited steps.

A process of the release before neither reads nor writes them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chassis.saga import chassis_tables

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    _create_awaited()
    _create_payments()
    _create_notices()


def _create_awaited() -> None:
    chassis_tables.create_awaited_1()
    chassis_tables.details_awaited_2()
    chassis_tables.closing_awaited_3()


def _create_payments() -> None:
    op.create_table(
        "merchant_payments",
        sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("saga_id", sa.Text, nullable=False, unique=True, comment="the saga that made the payment"),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("account", sa.Text, nullable=False, comment="at a gateway, by its name in the gateway accounts"),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("reference", sa.Text, nullable=False, comment="the merchant's own"),
        sa.Column("payer", sa.Text, nullable=False, comment="a keyed hash"),
        sa.Column("capture", sa.Text, nullable=False, comment="NOW or LATER"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False, comment="stripe or adyen; empty until it has authorized"),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("authorized_minor", sa.BigInteger, nullable=False),
        sa.Column("captured_minor", sa.BigInteger, nullable=False),
        sa.Column("refunded_minor", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), comment="when the authorization ends; null: unknown"),
        sa.Column("acting_saga_id", sa.Text, comment="that captures or voids it, or did so last"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("merchant_payments_at_gateway", "merchant_payments", ["account", "gateway_payment_id"])
    op.create_table(
        "merchant_refunds",
        sa.Column("refund_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("gateway_refund_id", sa.Text),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("merchant_refunds_of_payment", "merchant_refunds", ["payment_id"])


def _create_notices() -> None:
    op.create_table(
        "gateway_notices",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("dedupe", sa.Text, nullable=False, comment="the same for each delivery of one item"),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fate", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, comment="of a report"),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("payment_id", sa.BigInteger),
        sa.Column("gateway_reference", sa.Text),
        sa.Column("amount_minor", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("attempt_key", sa.Text),
        sa.Column("headers", sa.Text, nullable=False, comment="JSON pairs"),
        sa.Column("body", sa.LargeBinary, comment="as it came; null: the evidence has it"),
        sa.Column("tries", sa.SmallInteger, nullable=False),
        sa.Column("decide_at", sa.DateTime(timezone=True), comment="null: it is decided"),
        sa.Column("closed_by", sa.Text, comment="who has put right what was strange"),
        sa.Column("closed_reason", sa.Text),
        sa.UniqueConstraint("account", "dedupe", name="gateway_notices_once"),
    )
    op.create_index(
        "gateway_notices_waiting", "gateway_notices", ["decide_at"], postgresql_where=sa.text("decide_at IS NOT NULL")
    )
    op.create_index("gateway_notices_by_reference", "gateway_notices", ["account", "gateway_reference"])
    op.create_table(
        "gateway_reversals",
        sa.Column("reversal_id", sa.Text, primary_key=True, comment="also the id of its saga"),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("gateway_reference", sa.Text, nullable=False),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("refund_id", sa.BigInteger),
        sa.Column("reversed_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("notice_id", sa.Text, nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), comment="when its saga has ended; null: it runs"),
    )
    op.create_index("gateway_reversals_of_payment", "gateway_reversals", ["payment_id"])
