"""The tables of statements, business days, claims and pulls."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from mobile_money.tables import metadata

UTILITY, WORKING, CHARGES = "UTILITY", "WORKING", "CHARGES"
ACCOUNTS: Final = (UTILITY, WORKING, CHARGES)

statement_files = Table(
    "statement_files",
    metadata,
    Column("id", Text, primary_key=True, comment="SHA-256 of the file, its account and its time"),
    Column("short_code", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("begins_at", DateTime(timezone=True), nullable=False, comment="of the time that it covers"),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("new_rows", Integer, nullable=False),
    Column("gaps", Integer, nullable=False),
    Column("last_balance_minor", BigInteger),
    Column("imported_by", Text, nullable=False),
    Column("imported_at", DateTime(timezone=True), nullable=False),
    Index("statement_files_by_time", "short_code", "account", "ends_at"),
)
statement_rows = Table(
    "statement_rows",
    metadata,
    Column("short_code", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="IN, OUT, CHARGE, REVERSAL or TRANSFER"),
    Column("completed_at", DateTime(timezone=True), nullable=False),
    Column("amount_minor", BigInteger, nullable=False, comment="negative: it went out"),
    Column("balance_minor", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("reference", Text),
    Column("party", Text, comment="as the statement shows it; masked here but for its last digits"),
    Column("file_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("match", Text, nullable=False, comment="MATCHED or LISTED"),
    Column("saga_id", Text),
    Column("reason", Text, comment="why it is listed"),
    PrimaryKeyConstraint("short_code", "receipt", "account", "kind"),
    Index("statement_rows_by_time", "short_code", "account", "completed_at"),
)
business_days = Table(
    "business_days",
    metadata,
    Column("provider", Text, nullable=False),
    Column("short_code", Text, nullable=False),
    Column("day", Text, nullable=False),
    Column("run", Integer, nullable=False),
    Column("saga_id", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False, comment="REQUESTED, CLOSED, OPEN or FAILED"),
    Column("reason", Text),
    Column("difference_minor", BigInteger),
    Column("report", Text, nullable=False, comment="canonical JSON"),
    Column("report_sha256", Text, nullable=False),
    Column("signed_by", Text, nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("decided_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("provider", "short_code", "day", "run"),
)
claims = Table(
    "claims",
    metadata,
    Column("id", Text, primary_key=True),
    Column("short_code", Text, nullable=False),
    Column("saga_id", Text, nullable=False, comment="of the payout, or of the manual posting"),
    Column("step", Text, nullable=False),
    Column("outcome", Text, nullable=False, comment="PAID or BOOKED"),
    Column("receipt", Text, nullable=False, comment="of the statement's row"),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False, comment="PROPOSED, APPROVED or REFUSED"),
    Column("proposed_by", Text, nullable=False),
    Column("proposed_at", DateTime(timezone=True), nullable=False),
    Column("decided_by", Text),
    Column("decided_at", DateTime(timezone=True)),
    CheckConstraint("lower(proposed_by) <> lower(decided_by)", name="claims_two_persons"),
)
pulls = Table(
    "pulls",
    metadata,
    Column("short_code", Text, primary_key=True),
    Column("pulled_until", DateTime(timezone=True), comment="everything before it was listed"),
    Column("registered_at", DateTime(timezone=True), comment="where confirmations go; null: not yet"),
)
