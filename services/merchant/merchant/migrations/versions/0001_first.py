"""Merchants, their API keys and payments, and the chassis' tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "merchants",
        sa.Column("merchant_id", sa.Text, primary_key=True),
        sa.Column("saga_id", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("currencies", JSONB, nullable=False),
        sa.Column("basis_points", sa.Integer, nullable=False),
        sa.Column("fixed_minor", JSONB, nullable=False, comment="the fixed part of the fee, by currency"),
        sa.Column("amount_max_minor", JSONB, nullable=False, comment="the most that one payment may be, by currency"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("onboarded_at", sa.DateTime(timezone=True)),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column(
            "digest", sa.LargeBinary, nullable=False, unique=True, comment="SHA-256 of the key, which is not stored"
        ),
        sa.Column("hint", sa.Text, nullable=False, comment="the last letters of the key"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), comment="set when another key replaces it"),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
    )
    op.create_index("api_keys_by_merchant", "api_keys", ["merchant_id"])
    op.create_table(
        "payments",
        sa.Column("payment_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("saga_id", sa.Text, nullable=False, unique=True),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("capture", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("metadata", JSONB, nullable=False),
        sa.Column("method_type", sa.Text, nullable=False),
        sa.Column("holder_name", sa.Text),
        sa.Column("gateway_account", sa.Text, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column(
            "basis_points",
            sa.Integer,
            nullable=False,
            comment="the price when it was accepted, also for later captures",
        ),
        sa.Column("fixed_minor", sa.BigInteger, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("captured_minor", sa.BigInteger, nullable=False),
        sa.Column("gateway_payment_id", sa.Text),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("failure_cause", sa.Text),
        sa.Column("failure_step", sa.Text),
        sa.Column("failure_reason", sa.Text),
        sa.Column("disputed_minor", sa.BigInteger, nullable=False),
        sa.Column("dispute_won_minor", sa.BigInteger, nullable=False),
        sa.Column("dispute_lost_minor", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cancellation_requested_at", sa.DateTime(timezone=True)),
        sa.Column("cancellation_reason", sa.Text, comment="the merchant's words; may be empty"),
        sa.Column("late_void_id", sa.BigInteger, comment="the operation that follows where the cancellation is late"),
        sa.Column("authorized_at", sa.DateTime(timezone=True)),
        sa.Column("captured_at", sa.DateTime(timezone=True)),
        sa.Column("committed_at", sa.DateTime(timezone=True)),
        sa.Column("voided_at", sa.DateTime(timezone=True)),
        sa.Column("failed_at", sa.DateTime(timezone=True)),
        sa.Column("expired_at", sa.DateTime(timezone=True)),
        sa.Column("capture_failed_at", sa.DateTime(timezone=True)),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
    )
    op.create_index("payments_of_merchant", "payments", ["merchant_id", "is_live", sa.text("payment_id DESC")])
    op.create_index("payments_by_reference", "payments", ["merchant_id", "is_live", "reference"])
    op.create_index(
        "payments_open",
        "payments",
        ["created_at"],
        postgresql_where=sa.text("committed_at IS NULL AND failed_at IS NULL"),
    )
    op.create_table(
        "operations",
        sa.Column("operation_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, comment="the merchant's words; may be empty"),
        sa.Column("failure_reason", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
    )
    op.create_index("operations_of_payment", "operations", ["payment_id", "operation_id"])
    op.create_index(
        "operations_open", "operations", ["kind", "created_at"], postgresql_where=sa.text("decided_at IS NULL")
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("digest", sa.LargeBinary, primary_key=True, comment="SHA-256 of merchant, mode, route and key"),
        sa.Column(
            "fingerprint", sa.LargeBinary, nullable=False, comment="of the request's meaning; begins with its rule"
        ),
        sa.Column("payment_id", sa.BigInteger, nullable=False),
        sa.Column("operation_id", sa.BigInteger, comment="null: the request was for the payment itself"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "worker_slots",
        sa.Column("slot", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("holder", sa.Text),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_ms", sa.BigInteger, nullable=False, comment="the last millisecond that a lease of it may use"),
    )
    # Every slot has a row from the beginning: a lease updates one.
    op.execute(
        "INSERT INTO worker_slots (slot, leased_until, last_ms) "
        "SELECT slot, '-infinity', 0 FROM generate_series(0, 1023) AS slot"
    )
    chassis_tables.create_1()
    chassis_tables.hold_2()
