"""Endpoints with secrets, events, deliveries, attempts, what is known of failed sagas, and the chassis' tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    chassis_tables.create_1()
    chassis_tables.hold_2()
    _create_endpoints()
    _create_events()
    _create_deliveries()
    op.create_table(
        "saga_outcomes",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, comment="JSON: what the saga is about, from the event that began it"),
        sa.Column("failure", sa.Text, comment="JSON: how it failed"),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("saga_outcomes_by_age", "saga_outcomes", ["created_at"])


def _create_endpoints() -> None:
    op.create_table(
        "endpoints",
        sa.Column("endpoint_id", sa.Text, primary_key=True),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column(
            "types", sa.ARRAY(sa.Text), nullable=False, comment="the event types that it gets; none: all of them"
        ),
        sa.Column("state", sa.Text, nullable=False, comment="ENABLED, DISABLED or DELETED"),
        sa.Column("disabled_because", sa.Text),
        sa.Column("disabled_at", TIME),
        sa.Column("failing_since", TIME, comment="the first failure since the last success"),
        sa.Column("slow_until", TIME, comment="nothing is sent before"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
    )
    op.create_index("endpoints_of_merchant", "endpoints", ["merchant_id", "is_live", "endpoint_id"])
    op.create_index(
        "endpoints_url",
        "endpoints",
        ["merchant_id", "is_live", "url"],
        unique=True,
        postgresql_where=sa.text("state <> 'DELETED'"),
    )
    op.create_table(
        "endpoint_secrets",
        sa.Column("endpoint_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False, comment="encrypted with the service's key"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, comment="when it signs no more; null: it is the newest"),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("event_id", sa.Text, primary_key=True, comment="the webhook-id"),
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payment_id", sa.BigInteger),
        sa.Column("saga_id", sa.Text),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="the bytes that are sent and signed"),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
    )
    op.create_index("events_of_merchant", "events", ["merchant_id", "is_live", "position"])
    op.create_index("events_by_age", "events", ["created_at"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("is_live", sa.Boolean, nullable=False),
        sa.Column("cause", sa.Text, nullable=False, comment="EVENT, REPLAY or PING"),
        sa.Column("state", sa.Text, nullable=False, server_default="DUE", comment="DUE, DELIVERED or FAILED"),
        sa.Column("attempt_count", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("due_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("lease", sa.Text, comment="the process's, while an attempt is under way; it ends at due_at"),
        sa.Column("last_outcome", sa.Text),
        sa.Column("last_status", sa.SmallInteger),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("ended_at", TIME),
    )
    due = sa.text("state = 'DUE'")
    op.create_index("deliveries_due", "deliveries", ["endpoint_id", "due_at"], postgresql_where=due)
    op.create_index("deliveries_once", "deliveries", ["event_id", "endpoint_id"], unique=True, postgresql_where=due)
    op.create_index("deliveries_of_endpoint", "deliveries", ["endpoint_id", "position"])
    op.create_index("deliveries_of_merchant", "deliveries", ["merchant_id", "is_live", "position"])
    op.create_index("deliveries_by_age", "deliveries", ["created_at"])
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.Text, primary_key=True),
        sa.Column("number", sa.SmallInteger, primary_key=True),
        sa.Column("position", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.SmallInteger),
    )
    op.create_index("attempts_of_endpoint", "attempts", ["endpoint_id", "position"])
    op.create_index("attempts_by_age", "attempts", ["began_at"])
