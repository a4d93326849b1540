"""Sagas, their timelines, the outbox, consumed offsets and watermarks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    _create_sagas()
    _create_timeline()
    chassis_tables.create_outbox_1()
    op.create_table(
        "consumed_offsets",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.SmallInteger, primary_key=True),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "watermarks",
        sa.Column("partition", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "recorded_until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="everything before is on the timeline",
        ),
    )


def _create_sagas() -> None:
    op.create_table(
        "sagas",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("saga_type", sa.Text, nullable=False),
        sa.Column("saga_version", sa.SmallInteger, nullable=False),
        sa.Column("subject", sa.Text, comment="whom the saga is for; unknown until its starting event is recorded"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False, comment="under way, being compensated, or the one that failed"),
        sa.Column("cause", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("progress", JSONB, nullable=False, comment="what is known, and which commands were issued"),
        sa.Column("waiting", sa.Text, comment="what deadline_at is the deadline of"),
        sa.Column("deadline_at", sa.DateTime(timezone=True)),
        sa.Column("traceparent", sa.Text),
        sa.Column("version", sa.Integer, nullable=False, comment="counts the changes"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_index("sagas_by_start", "sagas", ["started_at", "saga_id"])
    op.create_index("sagas_by_state", "sagas", ["state", "started_at", "saga_id"])
    op.create_index("sagas_by_subject", "sagas", ["subject", "started_at", "saga_id"])
    op.create_index(
        "sagas_due", "sagas", ["deadline_at", "partition"], postgresql_where=sa.text("deadline_at IS NOT NULL")
    )


def _create_timeline() -> None:
    op.create_table(
        "timeline",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("step", sa.Text),
        sa.Column("attempt", sa.SmallInteger),
        sa.Column("causation_id", sa.Text),
        sa.Column("late", sa.Boolean, nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True)),
        sa.Column("detail", sa.Text),
        sa.Column("topic", sa.Text),
        sa.Column("partition", sa.SmallInteger),
        sa.Column("offset", sa.BigInteger),
    )
    op.create_index("timeline_late", "timeline", ["saga_id"], postgresql_where=sa.text("late"))
