"""The ledger's tables.

Transfers, entries, accounts and closed days are never changed: the migration adds triggers that refuse it. A balance
row is the sum of its entries, which the audit computes again.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from chassis.postgres.transient import share_keys
from chassis.saga.schema import service_metadata
from ledger.model.amounts import SUM_DIGITS

metadata = service_metadata()

share_keys(
    "accounts_path",
    "transfers_reference",
    "transfers_resolved",
    "payments_once",
    "payment_refunds_once",
    "payment_disputes_once",
    "receipt_books_once",
    "receipt_books_receipt",
    "loan_books_once",
    "loan_payments_once",
    "loan_disbursements_once",
    "payout_books_once",
)

BLOCKS = Sequence("ledger_blocks", metadata=metadata)
"""The numbers of blocks of transfer ids. A block is taken while the batch holds its locks, so ids grow with the
bookings of every balance row."""

LATE = text("booked_at - effective_at > interval '5 seconds'")
AHEAD = text("effective_at - booked_at > interval '5 seconds'")
"""Entries whose value date is far from their booking: few, so that a search among them is short."""
NEAR = text("effective_at <> booked_at AND NOT is_hold")
"""Entries whose value date is not their booking; those that are near to it are searched within a few seconds."""

TOTAL = Numeric(SUM_DIGITS, 0)


def _at(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


accounts = Table(
    "accounts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("path", Text, nullable=False, comment="chart:code:owner:currency"),
    Column("chart", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("owner", Text),
    Column("kind", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("lanes", SmallInteger, CheckConstraint("lanes > 0"), nullable=False, comment="its number of balance rows"),
    _at("opened_at"),
    UniqueConstraint("path", name="accounts_path"),
    Index("accounts_owner", "owner", "id", postgresql_where=text("owner IS NOT NULL")),
)

balances = Table(
    "balances",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("floor_minor", BigInteger, comment="the least that may be available; null is no limit"),
    Column("ceiling_minor", BigInteger, comment="the most that it may hold; null is no limit"),
    Column("is_closed", Boolean, nullable=False, server_default="false"),
    Column("debits", TOTAL, nullable=False, server_default="0"),
    Column("credits", TOTAL, nullable=False, server_default="0"),
    Column("held_debits", TOTAL, nullable=False, server_default="0"),
    Column("held_credits", TOTAL, nullable=False, server_default="0"),
    Column("booked_at", DateTime(timezone=True), nullable=False, comment="its latest booking"),
    # Half of a page stays free, so that an update finds room beside the row and changes no index.
    postgresql_with={"fillfactor": 50},
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="the block's number and 10 bits"),
    Column("reference", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("of_id", BigInteger, comment="the hold that it resolves, or the transfer that it corrects"),
    _at("booked_at"),
    Column("effective_at", DateTime(timezone=True), nullable=False, comment="the business's value date"),
    _at("expires_at", nullable=True),
    Column("exchange_rate", Numeric, comment="minor units bought for one sold"),
    Column("is_late", Boolean, nullable=False, comment="its effective day was closed when it was booked"),
    Column("entry_count", SmallInteger, nullable=False),
    Column("saga_id", Text),
    Column("step", Text),
    Column("message_id", Text),
    Column("payment_id", Text, comment="the payment that it moved"),
    Column("payment_version", Integer, comment="the payment's version after it"),
    Column("payment_status", Text),
    UniqueConstraint("reference", name="transfers_reference"),
    Index("transfers_saga", "saga_id", postgresql_where=text("saga_id IS NOT NULL")),
    Index("transfers_resolved", "of_id", unique=True, postgresql_where=text("kind IN ('POST', 'VOID')")),
    Index("transfers_late", "effective_at", postgresql_where=text("is_late")),
    Index("transfers_expiring", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
)

entries = Table(
    "transfer_entries",
    metadata,
    Column("transfer_id", BigInteger, primary_key=True, autoincrement=False),
    Column("ordinal", SmallInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("amount_minor", BigInteger, nullable=False, comment="a debit is positive, a credit negative"),
    Column("is_hold", Boolean, nullable=False),
    _at("booked_at"),
    _at("effective_at"),
    Column("debits_after", TOTAL, nullable=False, comment="the posted debits of its balance row, after it"),
    Column("credits_after", TOTAL, nullable=False),
    Index("entries_by_account", "account_id", "lane", "booked_at", "transfer_id", "ordinal"),
    Index("entries_near", "account_id", "booked_at", postgresql_where=NEAR),
    Index("entries_late", "account_id", "booked_at", postgresql_where=LATE),
    Index("entries_ahead", "account_id", "effective_at", postgresql_where=AHEAD),
)

payments = Table(
    "payments",
    metadata,
    Column("payment_id", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="counts the changes"),
    Column("status", Text, nullable=False),
    _at("updated_at"),
    Column("owner", Text, comment="of the merchant's accounts; null for a payment of no merchant"),
    Column("currency", Text),
    Column("authorized_minor", BigInteger),
    Column("captured_minor", BigInteger),
    Column("fee_minor", BigInteger, comment="what we keep of what was captured"),
    Column("refunding_minor", BigInteger, comment="held for refunds under way"),
    Column("refunded_minor", BigInteger),
    Column("disputed_minor", BigInteger, comment="taken back by disputes that are open or lost"),
    PrimaryKeyConstraint("payment_id", name="payments_once"),
)

payment_refunds = Table(
    "payment_refunds",
    metadata,
    Column("refund_id", BigInteger, nullable=False, autoincrement=False),
    Column("payment_id", Text, nullable=False),
    Column("saga_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("state", Text, nullable=False, comment="HELD, COMMITTED, RELEASED or FAILED"),
    PrimaryKeyConstraint("refund_id", name="payment_refunds_once"),
    Index("payment_refunds_saga", "saga_id", unique=True),
)

payment_disputes = Table(
    "payment_disputes",
    metadata,
    Column("dispute_id", Text, nullable=False, comment="the gateway account and its id of the dispute"),
    Column("payment_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("covered_minor", BigInteger, nullable=False, comment="what the merchant's reserve covered"),
    Column("state", Text, nullable=False, comment="OPEN, WON or LOST"),
    PrimaryKeyConstraint("dispute_id", name="payment_disputes_once"),
)

receipt_books = Table(
    "receipt_books",
    metadata,
    Column("saga_id", Text, nullable=False, comment="the saga that recorded it"),
    Column("provider", Text, nullable=False),
    Column("short_code", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("completed_at", DateTime(timezone=True), nullable=False, comment="its value date"),
    _at("recorded_at"),
    Column("state", Text, nullable=False, comment="UNALLOCATED, ALLOCATED, RETURNING or RETURNED"),
    Column("member_id", Text),
    Column("allocated_by", Text, comment="the saga that allocated it"),
    Column("policy", Text),
    Column("policy_version", Integer),
    Column("inputs", JSONB, comment="what its allocation was computed from"),
    Column("returned_by", Text, comment="the saga that returns it"),
    PrimaryKeyConstraint("saga_id", name="receipt_books_once"),
    UniqueConstraint("provider", "short_code", "receipt", name="receipt_books_receipt"),
    Index("receipt_books_returned_by", "returned_by", postgresql_where=text("returned_by IS NOT NULL")),
    Index("receipt_books_open", "short_code", "completed_at", postgresql_where=text("state = 'UNALLOCATED'")),
)

loan_books = Table(
    "loan_books",
    metadata,
    Column("loan_id", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="counts the changes"),
    Column("state", Text, nullable=False, comment="DISBURSING, ACTIVE or PAID"),
    Column("member_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("principal_minor", BigInteger, nullable=False, comment="what is lent"),
    Column("interest_ppm", Integer, nullable=False, comment="a year"),
    Column("term_months", Integer, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("penalty_ppm", Integer, nullable=False, comment="a month, on what is overdue"),
    PrimaryKeyConstraint("loan_id", name="loan_books_once"),
    Index("loan_books_member", "member_id"),
)

loan_disbursements = Table(
    "loan_disbursements",
    metadata,
    Column("loan_id", Text, nullable=False),
    Column("part", Integer, nullable=False, comment="counts from 1 in the order of booking"),
    Column("saga_id", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("value_at", DateTime(timezone=True), nullable=False, comment="interest begins"),
    PrimaryKeyConstraint("loan_id", "part", name="loan_disbursements_once"),
)

loan_payments = Table(
    "loan_payments",
    metadata,
    Column("loan_id", Text, nullable=False),
    Column("number", Integer, nullable=False, comment="counts from 1 in the order of booking"),
    Column("saga_id", Text, nullable=False),
    Column("value_at", DateTime(timezone=True), nullable=False),
    Column("penalties_minor", BigInteger, nullable=False, comment="as booked, with all corrections since"),
    Column("fees_minor", BigInteger, nullable=False),
    Column("interest_minor", BigInteger, nullable=False),
    Column("principal_minor", BigInteger, nullable=False),
    Column("loan_order", Text, nullable=False, comment="the parts in the order of the policy, with commas between"),
    Column("policy", Text, nullable=False),
    Column("policy_version", Integer, nullable=False),
    PrimaryKeyConstraint("loan_id", "number", name="loan_payments_once"),
)

payout_books = Table(
    "payout_books",
    metadata,
    Column("saga_id", Text, nullable=False),
    Column("short_code", Text, nullable=False),
    Column("source", Text, nullable=False, comment="SAVINGS, LOAN or DIVIDEND"),
    Column("member_id", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    _at("held_at"),
    Column("state", Text, nullable=False, comment="HELD, PAID or RELEASED"),
    Column("ended_at", DateTime(timezone=True), comment="its value date once it is paid; when it was released"),
    PrimaryKeyConstraint("saga_id", name="payout_books_once"),
    Index("payout_books_open", "short_code", "held_at", postgresql_where=text("state = 'HELD'")),
    Index("payout_books_ended", "short_code", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

late_captures = Table(
    "late_captures",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("request", Text, comment="JSON: what is captured; null until its event is read"),
    Column("accepted_by", Text, comment="the message that the gateway has accepted it"),
    Column("has_failed", Boolean, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="the block of its transfers' ids"),
    Column("transfer_count", SmallInteger, nullable=False),
    _at("booked_at"),
    Column("partition", SmallInteger, comment="its chain; null until it is sealed"),
    Column("position", BigInteger),
    Column("content_digest", LargeBinary),
    Column("row_digests", LargeBinary, comment="16 bytes a row: each transfer, then its entries"),
    Column("chain_hash", LargeBinary, comment="over the hash before it, its own number, count and digests"),
    _at("sealed_at", nullable=True),
    CheckConstraint("id >= 1 AND id < CAST(1 AS bigint) << 53", name="batches_id"),
    CheckConstraint(
        "(position IS NULL) = (partition IS NULL) AND position >= 1 AND partition = mod(id, 4)", name="batches_place"
    ),
    Index("batches_chain", "partition", "position", unique=True, postgresql_where=text("position IS NOT NULL")),
    Index("batches_unsealed", "id", postgresql_where=text("position IS NULL")),
)

day_closes = Table(
    "day_closes",
    metadata,
    Column("chart", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("closed_until", DateTime(timezone=True), nullable=False, comment="the day's end in the chart's zone"),
    _at("closed_at"),
    Column("root", LargeBinary, nullable=False, comment="over all else in the row, and the day's totals"),
    Column("heads", Text, nullable=False, comment="partition:position:hash of every chain, in order"),
    Column("first_open_id", BigInteger, nullable=False, comment="transfers before it are in the totals, or ahead"),
    Column("next_id", BigInteger, nullable=False, comment="of what is booked after the close"),
    Column("last_account_id", BigInteger, nullable=False, comment="of the chart's accounts"),
    Column(
        "accounts_digest",
        LargeBinary,
        nullable=False,
        comment="over the digest of the day before and the accounts opened since",
    ),
)

day_totals = Table(
    "day_totals",
    metadata,
    Column("chart", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("debits", TOTAL, nullable=False, comment="of all entries effective up to the day's end, when it was closed"),
    Column("credits", TOTAL, nullable=False),
)

manual_postings = Table(
    "manual_postings",
    metadata,
    Column("posting_id", Text, primary_key=True, comment="the id of its saga"),
    Column("key", Text, nullable=False, comment="the proposer's idempotency key"),
    Column("accounts", ARRAY(Text), nullable=False),
    Column("amounts", ARRAY(BigInteger), nullable=False, comment="minor units; a debit is positive"),
    Column("currencies", ARRAY(Text), nullable=False),
    _at("effective_at"),
    Column("reason", Text, nullable=False),
    Column("proposed_by", Text, nullable=False),
    _at("proposed_at"),
    Column("state", Text, nullable=False),
    Column("decided_by", Text),
    _at("decided_at", nullable=True),
    Column("decision_reason", Text),
    Column("outcome", Text, comment="why its saga failed"),
    _at("ended_at", nullable=True),
    CheckConstraint(
        "state IN ('PROPOSED', 'REFUSED') OR (decided_by IS NOT NULL AND lower(decided_by) <> lower(proposed_by))",
        name="manual_postings_two_people",
    ),
    UniqueConstraint("proposed_by", "key", name="manual_postings_once"),
)
