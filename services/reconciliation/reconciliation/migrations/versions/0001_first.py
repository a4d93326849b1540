"""Records of what moved, files of feeds, runs, divergences and settlements, and the kit's tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("runs", "run_counts", "run_lines", "run_changes")


def upgrade() -> None:
    """Create the tables."""
    chassis_tables.create_1()
    chassis_tables.hold_2()
    op.create_table(
        "divergences",
        sa.Column("divergence_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("movement", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="OPEN, RESOLVED by a run, or EXPLAINED by a person"),
        sa.Column("first_run", sa.Integer(), nullable=False),
        sa.Column("last_run", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state <> 'EXPLAINED' OR (closed_by IS NOT NULL AND reason IS NOT NULL)", name="divergences_explained"
        ),
        sa.CheckConstraint("state IN ('OPEN', 'RESOLVED', 'EXPLAINED')", name="divergences_state"),
        sa.PrimaryKeyConstraint("divergence_id"),
    )
    op.create_index(
        "divergences_open", "divergences", ["account", "kind"], unique=False, postgresql_where=sa.text("state = 'OPEN'")
    )
    op.create_index("divergences_payment", "divergences", ["payment_id"], unique=False)
    op.create_table(
        "feed_files",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts what was delivered under this name"),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of the raw file, by which it is kept"),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=True, comment="why it cannot be read; null where it was"),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "name", "version", name="feed_files_once"),
    )
    op.create_table(
        "feed_lines",
        sa.Column("file_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("line_id", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False, comment="the gateway's own word"),
        sa.Column("movement", sa.Text(), nullable=False),
        sa.Column("is_principal", sa.Boolean(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.Column("gateway_payment_id", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("settlement_currency", sa.Text(), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("net_minor", sa.BigInteger(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "superseded_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a file that has the line again was loaded",
        ),
        sa.PrimaryKeyConstraint("file_id", "number"),
    )
    op.create_index("feed_lines_at_gateway", "feed_lines", ["gateway_payment_id"], unique=False)
    op.create_index(
        "feed_lines_batch",
        "feed_lines",
        ["account", "batch"],
        unique=False,
        postgresql_where=sa.text("batch IS NOT NULL"),
    )
    op.create_index("feed_lines_day", "feed_lines", ["occurred_at"], unique=False, postgresql_using="brin")
    op.create_index("feed_lines_identity", "feed_lines", ["account", "line_id"], unique=False)
    op.create_index("feed_lines_loaded", "feed_lines", ["loaded_at"], unique=False, postgresql_using="brin")
    op.create_index("feed_lines_payment", "feed_lines", ["payment_id"], unique=False)
    op.create_index(
        "feed_lines_superseded",
        "feed_lines",
        ["superseded_at"],
        unique=False,
        postgresql_where=sa.text("superseded_at IS NOT NULL"),
    )
    op.create_table(
        "lake_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.Column("is_merged", sa.Boolean(), nullable=False, comment="it is in the file of its day"),
        sa.PrimaryKeyConstraint("hour"),
    )
    op.create_table(
        "lake_sweeps",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("swept_until", sa.DateTime(timezone=True), nullable=False, comment="hours up to it had their files"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "payments",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gateway_payment_id", sa.Text(), nullable=True),
        sa.Column("merchant_id", sa.Text(), nullable=False),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        sa.Column(
            "released_batch",
            sa.Text(),
            nullable=True,
            comment="the settlement that made its capture available to the merchant",
        ),
        sa.PrimaryKeyConstraint("account", "payment_id"),
    )
    op.create_index("payments_at_gateway", "payments", ["account", "gateway_payment_id"], unique=False)
    op.create_table(
        "pending",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("movement", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("check_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "item", "movement", "key"),
    )
    op.create_index("pending_due", "pending", ["account", "check_at"], unique=False)
    op.create_table(
        "progress",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=True, comment="when its last hourly run began"),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("account"),
    )
    op.create_table(
        "records",
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column(
            "source", sa.Text(), nullable=False, comment="LEDGER, or GATEWAY for what a gateway has proven to us"
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("movement", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=False),
        sa.Column("refund_id", sa.BigInteger(), nullable=True),
        sa.Column("merchant_id", sa.Text(), nullable=False),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False, comment="the account at the gateway"),
        sa.Column("gateway_payment_id", sa.Text(), nullable=True),
        sa.Column("reference", sa.Text(), nullable=True, comment="the gateway's id of a refund or of what it reversed"),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column(
            "amount_minor", sa.BigInteger(), nullable=False, comment="signed: what the gateway owes us is positive"
        ),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False, comment="what we keep of a capture"),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("saga_id", "source"),
    )
    op.create_index(
        "records_by_hour", "records", ["occurred_at"], unique=False, postgresql_where=sa.text("source = 'LEDGER'")
    )
    op.create_index("records_day", "records", ["account", "occurred_at"], unique=False)
    op.create_index("records_new", "records", ["account", "recorded_at"], unique=False)
    op.create_index("records_payment", "records", ["payment_id"], unique=False)
    op.create_index("records_recorded", "records", ["recorded_at"], unique=False, postgresql_using="brin")
    op.create_index(
        "records_refund", "records", ["refund_id"], unique=False, postgresql_where=sa.text("refund_id IS NOT NULL")
    )
    op.create_table(
        "run_changes",
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("divergence_id", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False, comment="OPENED, CHANGED or CLOSED"),
        sa.Column("kind_before", sa.Text(), nullable=True),
        sa.Column("kind_after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run", "divergence_id"),
    )
    op.create_table(
        "run_counts",
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run", "state"),
    )
    op.create_table(
        "run_lines",
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "item", sa.Text(), nullable=False, comment="the payment, or the gateway's id of one that we do not know"
        ),
        sa.Column("movement", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="the gateway's id of a refund; empty for other movements"),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("ledger_minor", sa.BigInteger(), nullable=True),
        sa.Column(
            "gateway_minor", sa.BigInteger(), nullable=True, comment="by our records of what the gateway has proven"
        ),
        sa.Column("feed_minor", sa.BigInteger(), nullable=True),
        sa.Column("feed_currency", sa.Text(), nullable=True),
        sa.Column("fee_minor", sa.BigInteger(), nullable=True),
        sa.Column("batch", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "check_at", sa.DateTime(timezone=True), nullable=True, comment="when one that is pending is no longer"
        ),
        sa.PrimaryKeyConstraint("run", "number"),
    )
    op.create_index(
        "run_lines_state",
        "run_lines",
        ["run", "state", "number"],
        unique=False,
        postgresql_where=sa.text("state <> 'MATCHED'"),
    )
    op.create_table(
        "run_requests",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run", sa.Integer(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_index(
        "run_requests_open",
        "run_requests",
        ["requested_at"],
        unique=False,
        postgresql_where=sa.text("run IS NULL AND failure IS NULL"),
    )
    op.create_table(
        "run_scope",
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False, comment="the run under way, and no other"),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("run", "item"),
    )
    op.create_table(
        "runs",
        sa.Column("run", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=True, comment="null: whatever changed, or everything"),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column(
            "open_count", sa.Integer(), nullable=False, comment="divergences of the run that no person has explained"
        ),
        sa.Column("opened", sa.Integer(), nullable=False),
        sa.Column("closed", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run"),
    )
    op.create_index("runs_by_account", "runs", ["account", "kind", "day"], unique=False)
    op.create_table(
        "settlements",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("saga_id", sa.Text(), nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), nullable=False),
        sa.Column("cost_minor", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="REPORTED, BOOKED or FAILED"),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("account", "batch", "currency"),
        sa.UniqueConstraint("saga_id"),
    )
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% of % is refused: a run is never changed, and another one is made.', TG_OP, TG_TABLE_NAME;
        END $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
