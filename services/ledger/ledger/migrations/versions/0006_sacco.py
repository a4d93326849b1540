"""A SACCO's receipts, loans and payouts, which the ledger keeps with its bookings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    _create_receipts()
    _create_loans()
    op.create_table(
        "payout_books",
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False, comment="SAVINGS, LOAN or DIVIDEND"),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("held_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="HELD, PAID or RELEASED"),
        sa.Column("ended_at", TIME, comment="its value date once it is paid; when it was released"),
        sa.PrimaryKeyConstraint("saga_id", name="payout_books_once"),
    )
    op.create_index(
        "payout_books_open", "payout_books", ["short_code", "held_at"], postgresql_where=sa.text("state = 'HELD'")
    )
    op.create_index(
        "payout_books_ended",
        "payout_books",
        ["short_code", "ended_at"],
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )


def _create_receipts() -> None:
    op.create_table(
        "receipt_books",
        sa.Column("saga_id", sa.Text, nullable=False, comment="the saga that recorded it"),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("completed_at", TIME, nullable=False, comment="its value date"),
        sa.Column("recorded_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="UNALLOCATED, ALLOCATED, RETURNING or RETURNED"),
        sa.Column("member_id", sa.Text),
        sa.Column("allocated_by", sa.Text, comment="the saga that allocated it"),
        sa.Column("policy", sa.Text),
        sa.Column("policy_version", sa.Integer),
        sa.Column("inputs", JSONB, comment="what its allocation was computed from"),
        sa.Column("returned_by", sa.Text, comment="the saga that returns it"),
        sa.PrimaryKeyConstraint("saga_id", name="receipt_books_once"),
        sa.UniqueConstraint("provider", "short_code", "receipt", name="receipt_books_receipt"),
    )
    op.create_index(
        "receipt_books_returned_by",
        "receipt_books",
        ["returned_by"],
        postgresql_where=sa.text("returned_by IS NOT NULL"),
    )
    op.create_index(
        "receipt_books_open",
        "receipt_books",
        ["short_code", "completed_at"],
        postgresql_where=sa.text("state = 'UNALLOCATED'"),
    )


def _create_loans() -> None:
    op.create_table(
        "loan_books",
        sa.Column("loan_id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, comment="counts the changes"),
        sa.Column("state", sa.Text, nullable=False, comment="DISBURSING, ACTIVE or PAID"),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("principal_minor", sa.BigInteger, nullable=False, comment="what is lent"),
        sa.Column("interest_ppm", sa.Integer, nullable=False, comment="a year"),
        sa.Column("term_months", sa.Integer, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("penalty_ppm", sa.Integer, nullable=False, comment="a month, on what is overdue"),
        sa.PrimaryKeyConstraint("loan_id", name="loan_books_once"),
    )
    op.create_index("loan_books_member", "loan_books", ["member_id"])
    op.create_table(
        "loan_disbursements",
        sa.Column("loan_id", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False, comment="counts from 1 in the order of booking"),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("value_at", TIME, nullable=False, comment="interest begins"),
        sa.PrimaryKeyConstraint("loan_id", "part", name="loan_disbursements_once"),
    )
    op.create_table(
        "loan_payments",
        sa.Column("loan_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, comment="counts from 1 in the order of booking"),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("value_at", TIME, nullable=False),
        sa.Column("penalties_minor", sa.BigInteger, nullable=False, comment="as booked, with all corrections since"),
        sa.Column("fees_minor", sa.BigInteger, nullable=False),
        sa.Column("interest_minor", sa.BigInteger, nullable=False),
        sa.Column("principal_minor", sa.BigInteger, nullable=False),
        sa.Column(
            "loan_order", sa.Text, nullable=False, comment="the parts in the order of the policy, with commas between"
        ),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("loan_id", "number", name="loan_payments_once"),
    )
