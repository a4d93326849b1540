"""Since when a saga is parked, who answers for dead letters, operators' plans, and the log of what they did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = """
    DO $$
    DECLARE
        login name;
    BEGIN
        FOR login IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_name = 'operator_log' AND grantee <> current_user
        LOOP
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON operator_log FROM %I', login);
        END LOOP;
    END $$
"""
"""Every login but the owner's has its rights on a new table by default privileges (stack/databases.py)."""


def upgrade() -> None:
    """Create the tables. What stands in the log stays: nobody but the owner may change or remove a row of it."""
    op.add_column(
        "sagas", sa.Column("parked_at", sa.DateTime(timezone=True), comment="since when it waits for a person")
    )
    _create_dead_letters()
    _create_plans()
    op.create_table(
        "operator_log",
        sa.Column("act_id", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("saga_id", sa.Text, comment="null: it was about more than one"),
        sa.Column("plan_id", sa.Text),
        sa.Column("detail", sa.Text),
    )
    op.create_index("operator_log_by_saga", "operator_log", ["saga_id"])
    op.execute(APPEND_ONLY)


def _create_dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.SmallInteger, primary_key=True),
        sa.Column("offset", sa.BigInteger, primary_key=True),
        sa.Column("letter_id", sa.Text, nullable=False, comment="the same for every copy; its id on the timeline"),
        sa.Column("message_id", sa.Text, nullable=False, comment="the message that was given up"),
        sa.Column("saga_id", sa.Text, nullable=False, comment="its key, whatever that was"),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("step", sa.Text, comment="null where nobody can tell which step it was"),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("redrive", sa.SmallInteger, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "open",
            sa.Boolean,
            nullable=False,
            comment="no saga answers for it: an operator has to redrive or close it",
        ),
        sa.Column("resolution", sa.Text, comment="REDRIVEN or CLOSED"),
        sa.Column("resolved_by", sa.Text),
        sa.Column("resolved_why", sa.Text),
        sa.Column("resolved_at", sa.DateTime(timezone=True)),
    )
    op.create_index("dead_letters_by_saga", "dead_letters", ["saga_id"])
    op.create_index("dead_letters_open", "dead_letters", ["recorded_at"], postgresql_where=sa.text("open"))


def _create_plans() -> None:
    op.create_table(
        "plans",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("selection", JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False, comment="PLANNED, APPLYING, APPLIED"),
        sa.Column("planned_by", sa.Text, nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("applied_by", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("applied_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("rate_per_s", sa.Integer),
        sa.Column("next_at", sa.DateTime(timezone=True), comment="when the rate lets it go on"),
    )
    op.create_index("plans_applying", "plans", ["next_at"], postgresql_where=sa.text("state = 'APPLYING'"))
    op.create_table(
        "plan_items",
        sa.Column("plan_id", sa.Text, primary_key=True),
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False, comment="the saga's version when it was planned"),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("runs", sa.Text, comment="the commands that would be sent; null: none"),
        sa.Column("state", sa.Text, nullable=False, comment="PLANNED, NOT_RUNNABLE, DONE, CHANGED"),
        sa.Column("detail", sa.Text),
        sa.Column("done_at", sa.DateTime(timezone=True)),
    )
    op.create_index(
        "plan_items_planned", "plan_items", ["plan_id", "saga_id"], postgresql_where=sa.text("state = 'PLANNED'")
    )
