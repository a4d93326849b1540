"""Validations, their counters, block lists, versions of the rules, and the kit's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    chassis_tables.create_1()
    chassis_tables.hold_2()
    _create_validations()
    _create_counters()
    op.create_table(
        "blocks",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("added_by", sa.Text, nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("removed_by", sa.Text, nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removal_reason", sa.Text, nullable=True),
    )
    op.create_index(
        "blocks_active", "blocks", ["kind", "value"], unique=True, postgresql_where=sa.text("removed_at IS NULL")
    )
    op.create_table(
        "rule_sets",
        sa.Column(
            "ordinal",
            sa.BigInteger,
            sa.Identity(always=True),
            primary_key=True,
            comment="the last one is active",
        ),
        sa.Column("version", sa.Text, nullable=False, unique=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("stored_by", sa.Text, nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def _create_validations() -> None:
    op.create_table(
        "validations",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("payment_id", sa.BigInteger, nullable=False, unique=True),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("payer", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=True, comment="why it was blocked"),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("score", sa.Integer, nullable=False),
        sa.Column("signals", ARRAY(sa.Text), nullable=False),
        sa.Column("rules_version", sa.Text, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )


def _create_counters() -> None:
    op.create_table(
        "subjects",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("is_live", sa.Boolean, primary_key=True),
        comment="payers and merchants whose payments are counted; a row is the lock of its counters",
    )
    op.create_table(
        "counters",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("is_live", sa.Boolean, primary_key=True),
        sa.Column("minute", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("currency", sa.Text, primary_key=True),
        sa.Column("payments", sa.BigInteger, sa.CheckConstraint("payments >= 0"), nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor >= 0"), nullable=False),
    )
    op.create_index("counters_minute", "counters", ["minute"])
