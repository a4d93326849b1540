"""Members, what they request, receipts, loans, dividend runs, and the chassis's tables, with the first terms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AT = sa.DateTime(timezone=True)
FIRST_DAY = "2000-01-01T00:00:00Z"
"""Receipts are never older, so each has a policy and a tariff."""
LOAN_ORDER = ["PENALTIES", "FEES", "INTEREST", "PRINCIPAL"]
TARGETS = [{"kind": "LOAN", "limit_minor": None}, {"kind": "SAVINGS", "limit_minor": None}]
CHARGES = [(10_000, 0), (150_000, 500), (500_000, 900), (2_000_000, 1_100), (25_000_000, 1_300)]
"""What the provider charges for a payout: a form of August 2023; its last band is read on up to the limit."""
TARIFF = {
    "withdrawal_bands": [
        {"up_to_minor": up_to, "fee_minor": fee}
        for up_to, fee in [(100_000, 2_000), (1_000_000, 3_500), (25_000_000, 6_000)]
    ],
    "payout_bands": [{"up_to_minor": up_to, "fee_minor": fee} for up_to, fee in CHARGES],
    "excise_ppm": 150_000,
    "payout_min_minor": 1_000,
    "payout_max_minor": 25_000_000,
    "phone_day_max_minor": 50_000_000,
    "prompt_min_minor": 100,
    "prompt_max_minor": 25_000_000,
    "repeat_within_s": 120,
    "dividend_tax_ppm": 50_000,
    "rebate_tax_ppm": 150_000,
}
SHORT_CODES = [("600100", "daraja", 0), ("700200", "momo", 1)]
"""Those of a stack on one machine. A deployment closes them, and enters its own."""


def upgrade() -> None:
    """Create the tables, and enter the first terms."""
    chassis_tables.create_1()
    chassis_tables.hold_2()
    _people()
    _loans()
    _terms()
    _requests()
    _receipts()
    _dividends()
    _first_terms()


def _first_terms() -> None:
    policies = sa.table(
        "policies",
        sa.column("name"),
        sa.column("version"),
        sa.column("valid_from", AT),
        sa.column("loan_order", JSONB),
        sa.column("targets", JSONB),
        sa.column("entered_by"),
    )
    tariffs = sa.table("tariffs", sa.column("valid_from", AT), sa.column("terms", JSONB), sa.column("entered_by"))
    short_codes = sa.table(
        "short_codes",
        sa.column("short_code"),
        sa.column("provider"),
        sa.column("currency"),
        sa.column("is_open"),
        sa.column("rank"),
    )
    op.bulk_insert(
        policies,
        [
            {
                "name": "standard",
                "version": 1,
                "valid_from": FIRST_DAY,
                "loan_order": LOAN_ORDER,
                "targets": TARGETS,
                "entered_by": "migration",
            }
        ],
    )
    op.bulk_insert(tariffs, [{"valid_from": FIRST_DAY, "terms": TARIFF, "entered_by": "migration"}])
    op.bulk_insert(
        short_codes,
        [
            {"short_code": digits, "provider": provider, "currency": "KES", "is_open": True, "rank": rank}
            for digits, provider, rank in SHORT_CODES
        ],
    )


def _people() -> None:
    op.create_table(
        "members",
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False, comment="ACTIVE, DORMANT, BLOCKED or DECEASED"),
        sa.Column("status_reason", sa.Text),
        sa.Column("policy", sa.Text, nullable=False, comment="the name of the allocation policy"),
        sa.Column("destination", sa.Text, nullable=False, comment="of dividends: SAVINGS, SHARES or MOBILE"),
        sa.Column("phone", sa.Text, nullable=False, comment="the one that texts and payouts go to"),
        sa.Column(
            "day_max_minor", sa.BigInteger, comment="what the member may withdraw a day; null: no limit of its own"
        ),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("registered_at", AT, nullable=False),
        sa.Column("onboarded_at", AT),
        sa.PrimaryKeyConstraint("member_id"),
        sa.UniqueConstraint("saga_id"),
    )
    op.create_table(
        "member_phones",
        sa.Column("phone", sa.Text, nullable=False, comment="12 digits"),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("payer_hash", sa.Text, comment="by which a payer is known; a hint alone"),
        sa.Column("added_at", AT, nullable=False),
        sa.PrimaryKeyConstraint("phone", "member_id"),
    )
    op.create_index("phones_by_hash", "member_phones", ["payer_hash"])
    op.create_index("phones_of_member", "member_phones", ["member_id"])
    op.create_table(
        "accounts",
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("member_id", "kind"),
    )
    op.create_table(
        "holdings",
        sa.Column("source", sa.Text, nullable=False, comment="the saga that brought it, or 'opening'"),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False, comment="SHARES or DEPOSITS"),
        sa.Column("month", sa.Date, nullable=False, comment="its first day, in Nairobi"),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.PrimaryKeyConstraint("source", "member_id", "kind"),
    )
    op.create_index("holdings_of_kind", "holdings", ["kind", "member_id", "month"])


def _loans() -> None:
    op.create_table(
        "loans",
        sa.Column("loan_id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("principal_minor", sa.BigInteger, sa.CheckConstraint("principal_minor > 0"), nullable=False),
        sa.Column("interest_ppm", sa.Integer, nullable=False),
        sa.Column("term_months", sa.Integer, nullable=False),
        sa.Column("loan_fee_minor", sa.BigInteger, nullable=False),
        sa.Column("penalty_ppm", sa.Integer, nullable=False),
        sa.Column("phone", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("applied_by", sa.Text, nullable=False),
        sa.Column("applied_at", AT, nullable=False),
        sa.Column("proposed_by", sa.Text),
        sa.Column("proposal_reason", sa.Text),
        sa.Column("proposed_at", AT),
        sa.Column("approved_by", sa.Text),
        sa.Column("approval_reason", sa.Text),
        sa.Column("approved_at", AT),
        sa.Column(
            "balance_minor", sa.BigInteger, comment="what is left of the principal, as the ledger last reported it"
        ),
        sa.Column("balance_at", AT),
        sa.Column(
            "is_paid", sa.Boolean, server_default=sa.false(), nullable=False, comment="the ledger has reported so"
        ),
        sa.Column("ended_at", AT),
        sa.CheckConstraint(
            "approved_by IS NULL OR lower(approved_by) <> lower(proposed_by)", name="loan_has_two_persons"
        ),
        sa.PrimaryKeyConstraint("loan_id"),
    )
    op.create_index("loans_of_member", "loans", ["member_id"])
    op.create_table(
        "loan_parts",
        sa.Column("loan_id", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column(
            "generation", sa.Integer, nullable=False, comment="0: not released yet; counts the payouts that were tried"
        ),
        sa.Column("saga_id", sa.Text),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("receipt", sa.Text),
        sa.Column("released_at", AT),
        sa.Column("ended_at", AT),
        sa.PrimaryKeyConstraint("loan_id", "part"),
        sa.UniqueConstraint("saga_id"),
    )


def _terms() -> None:
    op.create_table(
        "policies",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("valid_from", AT, nullable=False),
        sa.Column("loan_order", JSONB, nullable=False),
        sa.Column("targets", JSONB, nullable=False),
        sa.Column("entered_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", "version"),
    )
    op.create_table(
        "tariffs",
        sa.Column("valid_from", AT, nullable=False),
        sa.Column("terms", JSONB, nullable=False),
        sa.Column("entered_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("valid_from"),
    )
    op.create_table(
        "short_codes",
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False, comment="the lowest open one of a currency is used by default"),
        sa.PrimaryKeyConstraint("short_code"),
    )
    op.create_table(
        "keys",
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of caller, route and key"),
        sa.Column("body", JSONB, nullable=False, comment="the request's meaning, to name the field that differs"),
        sa.Column("result_id", sa.Text, nullable=False, comment="what the request led to"),
        sa.Column("created_at", AT, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )


def _requests() -> None:
    op.create_table(
        "collections",
        sa.Column("collection_id", sa.Text, nullable=False, comment="also its saga"),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("phone", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("is_paid", sa.Boolean, nullable=False, comment="the prompt is proven paid"),
        sa.Column("failure", sa.Text, comment="why the prompt is proven not paid: a code"),
        sa.Column("failure_detail", sa.Text),
        sa.Column("receipt", sa.Text),
        sa.Column("received_minor", sa.BigInteger, comment="what came; the receipt counts, not the request"),
        sa.Column("requested_at", AT, nullable=False),
        sa.Column("prompted_at", AT, comment="when the provider had taken the prompt; null: not known"),
        sa.Column("ended_at", AT),
        sa.PrimaryKeyConstraint("collection_id"),
        sa.UniqueConstraint("reference"),
    )
    op.create_index("collections_of_member", "collections", ["member_id", sa.literal_column("collection_id DESC")])
    op.create_index("collections_open", "collections", ["requested_at"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "withdrawals",
        sa.Column("withdrawal_id", sa.Text, nullable=False, comment="also its saga"),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("phone", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("excise_minor", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure_cause", sa.Text),
        sa.Column("failure_reason", sa.Text),
        sa.Column("receipt", sa.Text),
        sa.Column("requested_at", AT, nullable=False),
        sa.Column("cancellation_requested_at", AT),
        sa.Column("ended_at", AT),
        sa.PrimaryKeyConstraint("withdrawal_id"),
    )
    op.create_index("withdrawals_of_member", "withdrawals", ["member_id", sa.literal_column("withdrawal_id DESC")])
    op.create_index("withdrawals_of_phone", "withdrawals", ["phone", "requested_at"])
    op.create_index("withdrawals_open", "withdrawals", ["requested_at"], postgresql_where=sa.text("ended_at IS NULL"))
    op.create_table(
        "repayments",
        sa.Column("repayment_id", sa.Text, nullable=False, comment="also its saga"),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("loan_id", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure_reason", sa.Text),
        sa.Column("allocations", JSONB),
        sa.Column("requested_at", AT, nullable=False),
        sa.Column("ended_at", AT),
        sa.PrimaryKeyConstraint("repayment_id"),
    )
    op.create_index("repayments_of_member", "repayments", ["member_id", sa.literal_column("repayment_id DESC")])


def _receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("completed_at", AT, nullable=False),
        sa.Column("reference", sa.Text),
        sa.Column("collection_id", sa.Text),
        sa.Column("hint_member_id", sa.Text, comment="whose phone the payer's may be; never decides"),
        sa.Column("member_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, comment="why it waits: a code"),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("policy_version", sa.Integer, nullable=False),
        sa.Column("allocations", JSONB, nullable=False),
        sa.Column("recorded_at", AT, nullable=False),
        sa.Column("ended_at", AT),
        sa.PrimaryKeyConstraint("provider", "short_code", "receipt"),
        sa.UniqueConstraint("saga_id"),
    )
    op.create_index("receipts_by_number", "receipts", ["receipt"])
    op.create_index("receipts_of_member", "receipts", ["member_id", sa.literal_column("recorded_at DESC")])
    op.create_index("receipts_waiting", "receipts", ["recorded_at"], postgresql_where=sa.text("state = 'SUSPENSE'"))
    op.create_table(
        "assignments",
        sa.Column("proposal_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="PROPOSED, REFUSED, APPROVED, DONE or FAILED"),
        sa.Column("proposed_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("proposed_at", AT, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decision_reason", sa.Text),
        sa.Column("decided_at", AT),
        sa.Column("outcome", sa.Text),
        sa.Column("ended_at", AT),
        sa.CheckConstraint(
            "state IN ('PROPOSED', 'REFUSED') OR lower(proposed_by) <> lower(decided_by)",
            name="decided_by_is_another_person",
        ),
        sa.PrimaryKeyConstraint("proposal_id"),
    )
    op.create_index(
        "assignments_open",
        "assignments",
        ["provider", "short_code", "receipt"],
        unique=True,
        postgresql_where=sa.text("state IN ('PROPOSED', 'APPROVED')"),
    )
    op.create_table(
        "returns",
        sa.Column("proposal_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False, comment="PROPOSED, REFUSED, APPROVED, DONE or FAILED"),
        sa.Column("proposed_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("proposed_at", AT, nullable=False),
        sa.Column("decided_by", sa.Text),
        sa.Column("decision_reason", sa.Text),
        sa.Column("decided_at", AT),
        sa.Column("outcome", sa.Text),
        sa.Column("ended_at", AT),
        sa.CheckConstraint(
            "state IN ('PROPOSED', 'REFUSED') OR lower(proposed_by) <> lower(decided_by)",
            name="decided_by_is_another_person",
        ),
        sa.PrimaryKeyConstraint("proposal_id"),
    )
    op.create_index(
        "returns_open",
        "returns",
        ["provider", "short_code", "receipt"],
        unique=True,
        postgresql_where=sa.text("state IN ('PROPOSED', 'APPROVED')"),
    )


def _dividends() -> None:
    op.create_table(
        "dividend_runs",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("year", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("saga_id", sa.Text),
        sa.Column("dividend_ppm", sa.Integer, nullable=False),
        sa.Column("rebate_ppm", sa.Integer, nullable=False),
        sa.Column("dividend_tax_ppm", sa.Integer, nullable=False),
        sa.Column("rebate_tax_ppm", sa.Integer, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("short_code", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("line_count", sa.Integer, nullable=False),
        sa.Column("gross_minor", sa.BigInteger, nullable=False),
        sa.Column("tax_minor", sa.BigInteger, nullable=False),
        sa.Column("net_minor", sa.BigInteger, nullable=False),
        sa.Column("lines_sha256", sa.Text, nullable=False),
        sa.Column("regulator_reference", sa.Text, nullable=False),
        sa.Column("meeting_reference", sa.Text, nullable=False),
        sa.Column("proposed_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("proposed_at", AT, nullable=False),
        sa.Column("approved_by", sa.Text),
        sa.Column("approval_reason", sa.Text),
        sa.Column("approved_at", AT),
        sa.Column("failure_reason", sa.Text),
        sa.Column("closed_at", AT),
        sa.CheckConstraint(
            "approved_by IS NULL OR lower(approved_by) <> lower(proposed_by)", name="run_has_two_persons"
        ),
        sa.PrimaryKeyConstraint("run_id"),
        sa.UniqueConstraint("saga_id"),
    )
    op.create_table(
        "dividend_lines",
        sa.Column("line_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False, comment="DIVIDEND or REBATE"),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("gross_minor", sa.BigInteger, sa.CheckConstraint("gross_minor > 0"), nullable=False),
        sa.Column("tax_minor", sa.BigInteger, nullable=False),
        sa.Column("net_minor", sa.BigInteger, sa.CheckConstraint("net_minor > 0"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("chunk", sa.Integer),
        sa.Column("return_chunk", sa.Integer),
        sa.Column("wave", sa.Integer),
        sa.Column("saga_id", sa.Text, comment="of its payout"),
        sa.Column("released_at", AT),
        sa.Column("receipt", sa.Text),
        sa.Column("failure_reason", sa.Text),
        sa.PrimaryKeyConstraint("line_id"),
        sa.UniqueConstraint("saga_id"),
    )
    op.create_index("lines_of_member", "dividend_lines", ["member_id"])
    op.create_index(
        "lines_to_phones",
        "dividend_lines",
        ["run_id", "line_id"],
        postgresql_where=sa.text("state = 'POSTED' AND destination = 'MOBILE'"),
    )
    op.create_index("lines_released", "dividend_lines", ["released_at"], postgresql_where=sa.text("state = 'RELEASED'"))
    op.create_index("lines_of_run", "dividend_lines", ["run_id", "state", "line_id"])
    op.create_table(
        "dividend_chunks",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("chunk", sa.Integer, nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("line_count", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="RELEASED, POSTED or FAILED"),
        sa.Column("failure_reason", sa.Text),
        sa.Column("released_at", AT, nullable=False),
        sa.Column("ended_at", AT),
        sa.PrimaryKeyConstraint("run_id", "kind", "chunk"),
        sa.UniqueConstraint("saga_id"),
    )
    op.create_table(
        "dividend_waves",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("saga_id", sa.Text, nullable=False, comment="of the last attempt"),
        sa.Column("line_count", sa.Integer, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, sa.CheckConstraint("amount_minor > 0"), nullable=False),
        sa.Column("charge_minor", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="REQUESTED, WAITING or RESERVED"),
        sa.Column("refusal", sa.Text),
        sa.Column("requested_at", AT, nullable=False),
        sa.Column("due_at", AT),
        sa.Column("reserved_at", AT),
        sa.PrimaryKeyConstraint("run_id", "wave"),
        sa.UniqueConstraint("saga_id"),
    )
