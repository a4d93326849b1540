"""The chassis's tables, and those of prompts, payouts, receipts, callbacks, statements and business days."""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa
from alembic import op

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TARIFFS = (
    ("daraja", "PAYOUT", date(2023, 8, 1), 10_000, 0),
    ("daraja", "PAYOUT", date(2023, 8, 1), 150_000, 500),
    ("daraja", "PAYOUT", date(2023, 8, 1), 500_000, 900),
    ("daraja", "PAYOUT", date(2023, 8, 1), 2_000_000, 1_100),
    ("daraja", "PAYOUT", date(2023, 8, 1), 25_000_000, 1_300),
    ("momo", "PAYOUT", date(2023, 8, 1), 1_000_000_000, 0),
)
"""Safaricom's form of August 2023: business pays, registered receiver. It ends at 150,000 shillings."""


def upgrade() -> None:
    """Create the tables."""
    chassis_tables.create_1()
    chassis_tables.hold_2()
    chassis_tables.create_awaited_1()
    chassis_tables.details_awaited_2()
    chassis_tables.closing_awaited_3()
    for create in (
        _create_business_days,
        _create_claims,
        _create_closed_references,
        _create_float_reservations,
        _create_floats,
        _create_lanes,
        _create_limiter_shares,
        _create_outcomes,
        _create_own_ids,
        _create_payouts,
        _create_prompts,
        _create_provider_tariffs,
        _create_provider_tokens,
        _create_pulls,
        _create_questions,
        _create_raw_callbacks,
        _create_receipt_doors,
        _create_receipts,
        _create_reversals,
        _create_statement_files,
        _create_statement_rows,
    ):
        create()
    _add_tariffs()


def _add_tariffs() -> None:
    tariffs = sa.table(
        "provider_tariffs",
        sa.column("provider"),
        sa.column("kind"),
        sa.column("valid_from", sa.Date),
        sa.column("up_to_minor"),
        sa.column("charge_minor"),
    )
    names = ("provider", "kind", "valid_from", "up_to_minor", "charge_minor")
    op.bulk_insert(tariffs, [dict(zip(names, each, strict=True)) for each in TARIFFS])


def _create_business_days() -> None:
    op.create_table(
        "business_days",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="REQUESTED, CLOSED, OPEN or FAILED"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("difference_minor", sa.BigInteger(), nullable=True),
        sa.Column("report", sa.Text(), nullable=False, comment="canonical JSON"),
        sa.Column("report_sha256", sa.Text(), nullable=False),
        sa.Column("signed_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("provider", "short_code", "day", "run"),
        sa.UniqueConstraint("saga_id"),
    )


def _create_claims() -> None:
    op.create_table(
        "claims",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False, comment="of the payout, or of the manual posting"),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="PAID or BOOKED"),
        sa.Column("receipt", sa.Text(), nullable=False, comment="of the statement's row"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="PROPOSED, APPROVED or REFUSED"),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("lower(proposed_by) <> lower(decided_by)", name="claims_two_persons"),
        sa.PrimaryKeyConstraint("id"),
    )


def _create_closed_references() -> None:
    op.create_table(
        "closed_references",
        sa.Column("reference", sa.Text(), nullable=False, comment="in capitals, without blanks and signs"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reference"),
    )


def _create_float_reservations() -> None:
    op.create_table(
        "float_reservations",
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("wave_saga_id", sa.Text(), nullable=True, comment="the wave whose float it is of"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="what is still reserved"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reserved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("saga_id"),
    )
    op.create_index(
        "float_reservations_open",
        "float_reservations",
        ["short_code"],
        unique=False,
        postgresql_where=sa.text("state = 'RESERVED'"),
    )


def _create_floats() -> None:
    op.create_table(
        "floats",
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("utility_minor", sa.BigInteger(), nullable=True, comment="null: the provider has not shown it"),
        sa.Column("working_minor", sa.BigInteger(), nullable=True),
        sa.Column("charges_minor", sa.BigInteger(), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True, comment="by the provider"),
        sa.Column("members_reserve_minor", sa.BigInteger(), nullable=False, comment="what no wave may take"),
        sa.PrimaryKeyConstraint("short_code"),
    )


def _create_lanes() -> None:
    op.create_table(
        "lanes",
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="OPEN or PAUSED"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("short_code", "name"),
    )


def _create_limiter_shares() -> None:
    op.create_table(
        "limiter_shares",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("instance", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", "instance"),
    )


def _create_outcomes() -> None:
    op.create_table(
        "outcomes",
        sa.Column("key", sa.Text(), nullable=False, comment="of the attempt"),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False, comment="of its first evidence; every later one has the same"),
        sa.PrimaryKeyConstraint("key", "receipt"),
    )


def _create_own_ids() -> None:
    op.create_table(
        "own_ids",
        sa.Column("own_id", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("own_id"),
    )


def _create_payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("saga_type", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False, comment="MEMBERS or BULK"),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="REQUESTED, PAID or FAILED"),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("charge_minor", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("saga_id"),
    )
    op.create_index("payouts_by_receipt", "payouts", ["short_code", "receipt"], unique=False)
    op.create_index("payouts_in_state", "payouts", ["short_code", "state", "requested_at"], unique=False)


def _create_prompts() -> None:
    op.create_table(
        "prompts",
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False, comment="what the payment carries"),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="REQUESTED, PAID or FAILED"),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("saga_id"),
    )
    op.create_index("prompts_by_reference", "prompts", ["short_code", "reference"], unique=False)


def _create_provider_tariffs() -> None:
    op.create_table(
        "provider_tariffs",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="PAYOUT"),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("up_to_minor", sa.BigInteger(), nullable=False, comment="the largest amount with this charge"),
        sa.Column("charge_minor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "kind", "valid_from", "up_to_minor"),
    )


def _create_provider_tokens() -> None:
    op.create_table(
        "provider_tokens",
        sa.Column("name", sa.Text(), nullable=False, comment="of the short code"),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("renew_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )


def _create_pulls() -> None:
    op.create_table(
        "pulls",
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("pulled_until", sa.DateTime(timezone=True), nullable=True, comment="everything before it was listed"),
        sa.Column(
            "registered_at", sa.DateTime(timezone=True), nullable=True, comment="where confirmations go; null: not yet"
        ),
        sa.PrimaryKeyConstraint("short_code"),
    )


def _create_questions() -> None:
    op.create_table(
        "questions",
        sa.Column("question_id", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="ATTEMPT, RECEIPT or BALANCE"),
        sa.Column("key", sa.Text(), nullable=True, comment="of the attempt that it is about"),
        sa.Column("receipt", sa.Text(), nullable=True, comment="that it is about"),
        sa.Column("queried_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True, comment="a meaning"),
        sa.PrimaryKeyConstraint("short_code", "question_id"),
    )
    op.create_index("questions_by_key", "questions", ["key", "queried_at"], unique=False)
    op.create_index(
        "questions_open",
        "questions",
        ["short_code", "queried_at"],
        unique=False,
        postgresql_where=sa.text("answered_at IS NULL"),
    )


def _create_raw_callbacks() -> None:
    op.create_table(
        "raw_callbacks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="of the short code"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("remote", sa.Text(), nullable=False, comment="the address it came from"),
        sa.Column("headers", sa.Text(), nullable=False, comment="JSON pairs; none with a credential"),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="as it came"),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fate", sa.Text(), nullable=True, comment="null: nothing is decided yet"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("saga_id", sa.Text(), nullable=True, comment="that it is about"),
        sa.Column("receipt", sa.Text(), nullable=True, comment="that it names"),
        sa.Column("matches", sa.SmallInteger(), nullable=False, comment="how often it was matched in vain"),
        sa.Column("decide_at", sa.DateTime(timezone=True), nullable=True, comment="null: it is decided"),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("raw_callbacks_by_body", "raw_callbacks", ["body_sha256"], unique=False)
    op.create_index("raw_callbacks_by_saga", "raw_callbacks", ["saga_id"], unique=False)
    op.create_index(
        "raw_callbacks_listed",
        "raw_callbacks",
        ["fate", "received_at"],
        unique=False,
        postgresql_where=sa.text("fate IN ('ORPHAN', 'REFUSED')"),
    )
    op.create_index(
        "raw_callbacks_waiting",
        "raw_callbacks",
        ["decide_at"],
        unique=False,
        postgresql_where=sa.text("decide_at IS NOT NULL"),
    )


def _create_receipt_doors() -> None:
    op.create_table(
        "receipt_doors",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False, comment="of the callback, the row, or the claim"),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("is_same", sa.Boolean(), nullable=False, comment="whether it has the receipt's amount"),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "short_code", "receipt", "door"),
    )


def _create_receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.SmallInteger(), nullable=False, comment="counts how often its saga was started"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("door", sa.Text(), nullable=False, comment="that brought it first"),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("collection_id", sa.Text(), nullable=True),
        sa.Column("payer_hash", sa.Text(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "query_at", sa.DateTime(timezone=True), nullable=True, comment="when to ask the provider to confirm it"
        ),
        sa.Column("queries", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "short_code", "receipt"),
        sa.UniqueConstraint("saga_id"),
    )
    op.create_index("receipts_by_collection", "receipts", ["collection_id"], unique=False)
    op.create_index("receipts_by_time", "receipts", ["short_code", "completed_at"], unique=False)
    op.create_index(
        "receipts_listed",
        "receipts",
        ["state", "received_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('UNCONFIRMED', 'FAILED')"),
    )


def _create_reversals() -> None:
    op.create_table(
        "reversals",
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False, comment="that goes back to its payer"),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="REQUESTED, PAID or FAILED"),
        sa.Column("reversal_receipt", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("saga_id"),
    )
    op.create_index("reversals_by_receipt", "reversals", ["short_code", "receipt"], unique=False)


def _create_statement_files() -> None:
    op.create_table(
        "statement_files",
        sa.Column("id", sa.Text(), nullable=False, comment="SHA-256 of the file, its account and its time"),
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("begins_at", sa.DateTime(timezone=True), nullable=False, comment="of the time that it covers"),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("new_rows", sa.Integer(), nullable=False),
        sa.Column("gaps", sa.Integer(), nullable=False),
        sa.Column("last_balance_minor", sa.BigInteger(), nullable=True),
        sa.Column("imported_by", sa.Text(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("statement_files_by_time", "statement_files", ["short_code", "account", "ends_at"], unique=False)


def _create_statement_rows() -> None:
    op.create_table(
        "statement_rows",
        sa.Column("short_code", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="IN, OUT, CHARGE, REVERSAL or TRANSFER"),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False, comment="negative: it went out"),
        sa.Column("balance_minor", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column(
            "party", sa.Text(), nullable=True, comment="as the statement shows it; masked here but for its last digits"
        ),
        sa.Column("file_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("match", sa.Text(), nullable=False, comment="MATCHED or LISTED"),
        sa.Column("saga_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is listed"),
        sa.PrimaryKeyConstraint("short_code", "receipt", "account", "kind"),
    )
    op.create_index("statement_rows_by_time", "statement_rows", ["short_code", "account", "completed_at"], unique=False)
