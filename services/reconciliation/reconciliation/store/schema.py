"""Reconciliation's tables. Triggers of the migration see to it that runs, their lines and changes never change."""

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
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from chassis.saga.schema import service_metadata

metadata = service_metadata()


def _at(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


records = Table(
    "records",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("source", Text, primary_key=True, comment="LEDGER, or GATEWAY for what a gateway has proven to us"),
    Column("kind", Text, nullable=False),
    Column("movement", Text, nullable=False),
    Column("payment_id", BigInteger, nullable=False),
    Column("refund_id", BigInteger),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("account", Text, nullable=False, comment="the account at the gateway"),
    Column("gateway_payment_id", Text),
    Column("reference", Text, comment="the gateway's id of a refund or of what it reversed"),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False, comment="signed: what the gateway owes us is positive"),
    Column("fee_minor", BigInteger, nullable=False, comment="what we keep of a capture"),
    _at("occurred_at"),
    _at("recorded_at"),
    Index("records_day", "account", "occurred_at"),
    Index("records_new", "account", "recorded_at"),
    Index("records_payment", "payment_id"),
    Index("records_refund", "refund_id", postgresql_where=text("refund_id IS NOT NULL")),
    Index("records_recorded", "recorded_at", postgresql_using="brin"),
    Index("records_by_hour", "occurred_at", postgresql_where=text("source = 'LEDGER'")),
)

payments = Table(
    "payments",
    metadata,
    Column("account", Text, primary_key=True),
    Column("payment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("gateway_payment_id", Text),
    Column("merchant_id", Text, nullable=False),
    Column("is_live", Boolean, nullable=False),
    Column("released_batch", Text, comment="the settlement that made its capture available to the merchant"),
    Index("payments_at_gateway", "account", "gateway_payment_id"),
)

feed_files = Table(
    "feed_files",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("account", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="counts what was delivered under this name"),
    Column("digest", Text, nullable=False, comment="SHA-256 of the raw file, by which it is kept"),
    Column("byte_count", BigInteger, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("refusal", Text, comment="why it cannot be read; null where it was"),
    _at("loaded_at"),
    UniqueConstraint("account", "name", "version", name="feed_files_once"),
)

feed_lines = Table(
    "feed_lines",
    metadata,
    Column("file_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("account", Text, nullable=False),
    Column("line_id", Text, nullable=False),
    Column("category", Text, nullable=False, comment="the gateway's own word"),
    Column("movement", Text, nullable=False),
    Column("is_principal", Boolean, nullable=False),
    Column("payment_id", BigInteger),
    Column("gateway_payment_id", Text),
    Column("reference", Text),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("settlement_currency", Text, nullable=False),
    Column("fee_minor", BigInteger, nullable=False),
    Column("net_minor", BigInteger, nullable=False),
    Column("batch", Text),
    _at("occurred_at"),
    _at("loaded_at"),
    Column("superseded_at", DateTime(timezone=True), comment="when a file that has the line again was loaded"),
    Index("feed_lines_identity", "account", "line_id"),
    Index("feed_lines_payment", "payment_id"),
    Index("feed_lines_at_gateway", "gateway_payment_id"),
    Index("feed_lines_batch", "account", "batch", postgresql_where=text("batch IS NOT NULL")),
    Index("feed_lines_day", "occurred_at", postgresql_using="brin"),
    Index("feed_lines_loaded", "loaded_at", postgresql_using="brin"),
    Index("feed_lines_superseded", "superseded_at", postgresql_where=text("superseded_at IS NOT NULL")),
)

runs = Table(
    "runs",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("day", Date, comment="null: whatever changed, or everything"),
    _at("as_of"),
    _at("began_at"),
    _at("finished_at"),
    Column("requested_by", Text),
    Column("line_count", Integer, nullable=False),
    Column("open_count", Integer, nullable=False, comment="divergences of the run that no person has explained"),
    Column("opened", Integer, nullable=False),
    Column("closed", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Index("runs_by_account", "account", "kind", "day"),
)

run_counts = Table(
    "run_counts",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, primary_key=True),
    Column("count", Integer, nullable=False),
)

run_lines = Table(
    "run_lines",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("item", Text, nullable=False, comment="the payment, or the gateway's id of one that we do not know"),
    Column("movement", Text, nullable=False),
    Column("key", Text, nullable=False, comment="the gateway's id of a refund; empty for other movements"),
    Column("payment_id", BigInteger),
    Column("currency", Text, nullable=False),
    Column("ledger_minor", BigInteger),
    Column("gateway_minor", BigInteger, comment="by our records of what the gateway has proven"),
    Column("feed_minor", BigInteger),
    Column("feed_currency", Text),
    Column("fee_minor", BigInteger),
    Column("batch", Text),
    _at("occurred_at"),
    Column("check_at", DateTime(timezone=True), comment="when one that is pending is no longer"),
    Index("run_lines_state", "run", "state", "number", postgresql_where=text("state <> 'MATCHED'")),
)

run_scope = Table(
    "run_scope",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False, comment="the run under way, and no other"),
    Column("item", Text, primary_key=True),
    Column("payment_id", BigInteger),
)

run_changes = Table(
    "run_changes",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("divergence_id", Text, primary_key=True),
    Column("change", Text, nullable=False, comment="OPENED, CHANGED or CLOSED"),
    Column("kind_before", Text),
    Column("kind_after", Text),
)

divergences = Table(
    "divergences",
    metadata,
    Column("divergence_id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("movement", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payment_id", BigInteger),
    Column("detail", Text, nullable=False),
    Column("state", Text, nullable=False, comment="OPEN, RESOLVED by a run, or EXPLAINED by a person"),
    Column("first_run", Integer, nullable=False),
    Column("last_run", Integer, nullable=False),
    _at("opened_at"),
    _at("closed_at", nullable=True),
    Column("closed_by", Text),
    Column("reason", Text),
    CheckConstraint("state IN ('OPEN', 'RESOLVED', 'EXPLAINED')", name="divergences_state"),
    CheckConstraint(
        "state <> 'EXPLAINED' OR (closed_by IS NOT NULL AND reason IS NOT NULL)", name="divergences_explained"
    ),
    Index("divergences_open", "account", "kind", postgresql_where=text("state = 'OPEN'")),
    Index("divergences_payment", "payment_id"),
)

pending = Table(
    "pending",
    metadata,
    Column("account", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("movement", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _at("check_at"),
    Index("pending_due", "account", "check_at"),
)

progress = Table(
    "progress",
    metadata,
    Column("account", Text, primary_key=True),
    _at("since"),
    Column("run_at", DateTime(timezone=True), comment="when its last hourly run began"),
    Column("fetched_at", DateTime(timezone=True)),
)

run_requests = Table(
    "run_requests",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("day", Date),
    Column("as_of", DateTime(timezone=True)),
    Column("requested_by", Text, nullable=False),
    _at("requested_at"),
    Column("run", Integer),
    Column("failure", Text),
    Index("run_requests_open", "requested_at", postgresql_where=text("run IS NULL AND failure IS NULL")),
)

settlements = Table(
    "settlements",
    metadata,
    Column("account", Text, primary_key=True),
    Column("batch", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("saga_id", Text, nullable=False, unique=True),
    Column("paid_minor", BigInteger, nullable=False),
    Column("cost_minor", BigInteger, nullable=False),
    Column("settled_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False, comment="REPORTED, BOOKED or FAILED"),
    Column("failure", Text),
    _at("reported_at"),
    _at("ended_at", nullable=True),
)

lake_sweeps = Table(
    "lake_sweeps",
    metadata,
    Column(
        "id", SmallInteger, CheckConstraint("id = 1", name="lake_sweeps_one"), primary_key=True, autoincrement=False
    ),
    Column("swept_until", DateTime(timezone=True), nullable=False, comment="hours up to it had their files"),
)

lake_hours = Table(
    "lake_hours",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),
    _at("written_at"),
    Column("entry_count", Integer, nullable=False),
    Column("is_merged", Boolean, nullable=False, comment="it is in the file of its day"),
)
