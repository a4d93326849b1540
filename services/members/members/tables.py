"""Members's tables as they are declared. The statements on them are in the modules that are named after them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from chassis.saga.schema import service_metadata

metadata = service_metadata()


def _at(name: str, *, is_optional: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=is_optional)


def _amount(name: str) -> Column[Any]:
    return Column(name, BigInteger, CheckConstraint(f"{name} > 0"), nullable=False)


def _text(name: str, *, is_optional: bool = False, comment: str | None = None, is_unique: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=is_optional, comment=comment, unique=is_unique or None)


def _second_person(first: str, second: str) -> CheckConstraint:
    """Return the rule that two persons decide, whatever the case of their names. A refusal has a state of its own."""
    return CheckConstraint(
        f"state IN ('PROPOSED', 'REFUSED') OR lower({first}) <> lower({second})", name=f"{second}_is_another_person"
    )


members = Table(
    "members",
    metadata,
    Column("member_id", Text, primary_key=True),
    _text("saga_id", is_unique=True),
    _text("name"),
    _text("language"),
    _text("state"),
    _text("status", comment="ACTIVE, DORMANT, BLOCKED or DECEASED"),
    _text("status_reason", is_optional=True),
    _text("policy", comment="the name of the allocation policy"),
    _text("destination", comment="of dividends: SAVINGS, SHARES or MOBILE"),
    _text("phone", comment="the one that texts and payouts go to"),
    Column("day_max_minor", BigInteger, comment="what the member may withdraw a day; null: no limit of its own"),
    _text("currency"),
    _text("failure_reason", is_optional=True),
    _at("registered_at", is_optional=False),
    _at("onboarded_at"),
)
member_phones = Table(
    "member_phones",
    metadata,
    Column("phone", Text, primary_key=True, comment="12 digits"),
    Column("member_id", Text, primary_key=True),
    _text("payer_hash", is_optional=True, comment="by which a payer is known; a hint alone"),
    _at("added_at", is_optional=False),
    Index("phones_of_member", "member_id"),
    Index("phones_by_hash", "payer_hash"),
)
accounts = Table(
    "accounts",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    _text("status"),
)
holdings = Table(
    "holdings",
    metadata,
    Column("source", Text, primary_key=True, comment="the saga that brought it, or 'opening'"),
    Column("member_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True, comment="SHARES or DEPOSITS"),
    Column("month", Date, nullable=False, comment="its first day, in Nairobi"),
    _amount("amount_minor"),
    Index("holdings_of_kind", "kind", "member_id", "month"),
)
loans = Table(
    "loans",
    metadata,
    Column("loan_id", Text, primary_key=True),
    _text("member_id"),
    _text("state"),
    _amount("principal_minor"),
    Column("interest_ppm", Integer, nullable=False),
    Column("term_months", Integer, nullable=False),
    Column("loan_fee_minor", BigInteger, nullable=False),
    Column("penalty_ppm", Integer, nullable=False),
    _text("phone"),
    _text("provider"),
    _text("short_code"),
    _text("currency"),
    _text("applied_by"),
    _at("applied_at", is_optional=False),
    _text("proposed_by", is_optional=True),
    _text("proposal_reason", is_optional=True),
    _at("proposed_at"),
    _text("approved_by", is_optional=True),
    _text("approval_reason", is_optional=True),
    _at("approved_at"),
    Column("balance_minor", BigInteger, comment="what is left of the principal, as the ledger last reported it"),
    _at("balance_at"),
    Column("is_paid", Boolean, nullable=False, server_default=false(), comment="the ledger has reported so"),
    _at("ended_at"),
    CheckConstraint("approved_by IS NULL OR lower(approved_by) <> lower(proposed_by)", name="loan_has_two_persons"),
    Index("loans_of_member", "member_id"),
)
loan_parts = Table(
    "loan_parts",
    metadata,
    Column("loan_id", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("generation", Integer, nullable=False, comment="0: not released yet; counts the payouts that were tried"),
    _text("saga_id", is_optional=True, is_unique=True),
    _amount("amount_minor"),
    _text("state"),
    _text("failure_reason", is_optional=True),
    _text("receipt", is_optional=True),
    _at("released_at"),
    _at("ended_at"),
)
policies = Table(
    "policies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    _at("valid_from", is_optional=False),
    Column("loan_order", JSONB, nullable=False),
    Column("targets", JSONB, nullable=False),
    _text("entered_by"),
)
tariffs = Table(
    "tariffs",
    metadata,
    Column("valid_from", DateTime(timezone=True), primary_key=True),
    Column("terms", JSONB, nullable=False),
    _text("entered_by"),
)
short_codes = Table(
    "short_codes",
    metadata,
    Column("short_code", Text, primary_key=True),
    _text("provider"),
    _text("currency"),
    Column("is_open", Boolean, nullable=False),
    Column("rank", Integer, nullable=False, comment="the lowest open one of a currency is used by default"),
)
collections = Table(
    "collections",
    metadata,
    Column("collection_id", Text, primary_key=True, comment="also its saga"),
    _text("member_id"),
    _text("provider"),
    _text("short_code"),
    _text("reference", is_unique=True),
    _text("target"),
    _text("phone"),
    _text("currency"),
    _amount("amount_minor"),
    _text("state"),
    Column("is_paid", Boolean, nullable=False, comment="the prompt is proven paid"),
    _text("failure", is_optional=True, comment="why the prompt is proven not paid: a code"),
    _text("failure_detail", is_optional=True),
    _text("receipt", is_optional=True),
    Column("received_minor", BigInteger, comment="what came; the receipt counts, not the request"),
    _at("requested_at", is_optional=False),
    Column("prompted_at", DateTime(timezone=True), comment="when the provider had taken the prompt; null: not known"),
    _at("ended_at"),
    Index("collections_of_member", "member_id", text("collection_id DESC")),
    Index("collections_open", "requested_at", postgresql_where=text("ended_at IS NULL")),
)
withdrawals = Table(
    "withdrawals",
    metadata,
    Column("withdrawal_id", Text, primary_key=True, comment="also its saga"),
    _text("member_id"),
    _text("provider"),
    _text("short_code"),
    _text("phone"),
    _text("currency"),
    _amount("amount_minor"),
    Column("fee_minor", BigInteger, nullable=False),
    Column("excise_minor", BigInteger, nullable=False),
    _text("state"),
    _text("failure_cause", is_optional=True),
    _text("failure_reason", is_optional=True),
    _text("receipt", is_optional=True),
    _at("requested_at", is_optional=False),
    _at("cancellation_requested_at"),
    _at("ended_at"),
    Index("withdrawals_of_member", "member_id", text("withdrawal_id DESC")),
    Index("withdrawals_of_phone", "phone", "requested_at"),
    Index("withdrawals_open", "requested_at", postgresql_where=text("ended_at IS NULL")),
)
repayments = Table(
    "repayments",
    metadata,
    Column("repayment_id", Text, primary_key=True, comment="also its saga"),
    _text("member_id"),
    _text("loan_id"),
    _text("currency"),
    _amount("amount_minor"),
    _text("state"),
    _text("failure_reason", is_optional=True),
    Column("allocations", JSONB),
    _at("requested_at", is_optional=False),
    _at("ended_at"),
    Index("repayments_of_member", "member_id", text("repayment_id DESC")),
)
receipts = Table(
    "receipts",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("short_code", Text, primary_key=True),
    Column("receipt", Text, primary_key=True),
    _text("saga_id", is_unique=True),
    _text("currency"),
    _amount("amount_minor"),
    _at("completed_at", is_optional=False),
    _text("reference", is_optional=True),
    _text("collection_id", is_optional=True),
    _text("hint_member_id", is_optional=True, comment="whose phone the payer's may be; never decides"),
    _text("member_id", is_optional=True),
    _text("state"),
    _text("reason", is_optional=True, comment="why it waits: a code"),
    _text("policy"),
    Column("policy_version", Integer, nullable=False),
    Column("allocations", JSONB, nullable=False),
    _at("recorded_at", is_optional=False),
    _at("ended_at"),
    Index("receipts_of_member", "member_id", text("recorded_at DESC")),
    Index("receipts_by_number", "receipt"),
    Index("receipts_waiting", "recorded_at", postgresql_where=text("state = 'SUSPENSE'")),
)


UNDECIDED = text("state IN ('PROPOSED', 'APPROVED')")


def _proposals(name: str, *own: Column[Any]) -> Table:
    """Return a table of what one person proposes about a receipt and another decides; its id is also its saga."""
    return Table(
        name,
        metadata,
        Column("proposal_id", Text, primary_key=True),
        _text("provider"),
        _text("short_code"),
        _text("receipt"),
        *own,
        _text("state", comment="PROPOSED, REFUSED, APPROVED, DONE or FAILED"),
        _text("proposed_by"),
        _text("reason"),
        _at("proposed_at", is_optional=False),
        _text("decided_by", is_optional=True),
        _text("decision_reason", is_optional=True),
        _at("decided_at"),
        _text("outcome", is_optional=True),
        _at("ended_at"),
        _second_person("proposed_by", "decided_by"),
        Index(
            f"{name}_open",
            "provider",
            "short_code",
            "receipt",
            unique=True,
            postgresql_where=UNDECIDED,
        ),
    )


assignments = _proposals("assignments", _text("member_id"), _text("target"))
returns = _proposals("returns", _text("source"), _text("member_id", is_optional=True))
dividend_runs = Table(
    "dividend_runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("year", Integer, nullable=False),
    _text("state"),
    _text("saga_id", is_optional=True, is_unique=True),
    Column("dividend_ppm", Integer, nullable=False),
    Column("rebate_ppm", Integer, nullable=False),
    Column("dividend_tax_ppm", Integer, nullable=False),
    Column("rebate_tax_ppm", Integer, nullable=False),
    _text("provider"),
    _text("short_code"),
    _text("currency"),
    Column("line_count", Integer, nullable=False),
    Column("gross_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    _text("lines_sha256"),
    _text("regulator_reference"),
    _text("meeting_reference"),
    _text("proposed_by"),
    _text("reason"),
    _at("proposed_at", is_optional=False),
    _text("approved_by", is_optional=True),
    _text("approval_reason", is_optional=True),
    _at("approved_at"),
    _text("failure_reason", is_optional=True),
    _at("closed_at"),
    CheckConstraint("approved_by IS NULL OR lower(approved_by) <> lower(proposed_by)", name="run_has_two_persons"),
)
dividend_lines = Table(
    "dividend_lines",
    metadata,
    Column("line_id", Text, primary_key=True),
    _text("run_id"),
    _text("member_id"),
    _text("kind", comment="DIVIDEND or REBATE"),
    _text("destination"),
    _amount("gross_minor"),
    Column("tax_minor", BigInteger, nullable=False),
    _amount("net_minor"),
    _text("state"),
    Column("chunk", Integer),
    Column("return_chunk", Integer),
    Column("wave", Integer),
    _text("saga_id", is_optional=True, is_unique=True, comment="of its payout"),
    _at("released_at"),
    _text("receipt", is_optional=True),
    _text("failure_reason", is_optional=True),
    Index("lines_of_run", "run_id", "state", "line_id"),
    Index("lines_of_member", "member_id"),
    Index("lines_to_phones", "run_id", "line_id", postgresql_where=text("state = 'POSTED' AND destination = 'MOBILE'")),
    Index("lines_released", "released_at", postgresql_where=text("state = 'RELEASED'")),
)
dividend_chunks = Table(
    "dividend_chunks",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("chunk", Integer, primary_key=True),
    _text("saga_id", is_unique=True),
    Column("line_count", Integer, nullable=False),
    _text("state", comment="RELEASED, POSTED or FAILED"),
    _text("failure_reason", is_optional=True),
    _at("released_at", is_optional=False),
    _at("ended_at"),
)
dividend_waves = Table(
    "dividend_waves",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("wave", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    _text("saga_id", is_unique=True, comment="of the last attempt"),
    Column("line_count", Integer, nullable=False),
    _amount("amount_minor"),
    Column("charge_minor", BigInteger, nullable=False),
    _text("state", comment="REQUESTED, WAITING or RESERVED"),
    _text("refusal", is_optional=True),
    _at("requested_at", is_optional=False),
    _at("due_at"),
    _at("reserved_at"),
)
keys = Table(
    "keys",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of caller, route and key"),
    Column("body", JSONB, nullable=False, comment="the request's meaning, to name the field that differs"),
    _text("result_id", comment="what the request led to"),
    _at("created_at", is_optional=False),
)

OVERDUE = text("""
    SELECT 'collection', count(*) FROM collections
    WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'withdrawal', count(*) FROM withdrawals
    WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'loan_repayment', count(*) FROM repayments
    WHERE ended_at IS NULL AND requested_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'loan_disbursement', count(*) FROM loan_parts
    WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'member_onboarding', count(*) FROM members
    WHERE state = 'REGISTERED' AND registered_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'suspense_allocation', count(*) FROM assignments
    WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'return_receipt', count(*) FROM returns
    WHERE state = 'APPROVED' AND decided_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'dividend_run', count(*) FROM dividend_runs
    WHERE state = 'APPROVED' AND approved_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'dividend_chunk', count(*) FROM dividend_chunks
    WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'dividend_wave', count(*) FROM dividend_waves
    WHERE state = 'REQUESTED' AND requested_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'dividend_payout', count(*) FROM dividend_lines
    WHERE state = 'RELEASED' AND released_at < now() - interval '10 minutes'
""")
"""A payout that is in doubt is known to the tracker, where its saga waits for an outcome."""
OPENING: Final = "opening"
"""The source of what a member held before this service knew it."""
