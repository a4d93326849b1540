"""Counts of sagas that are kept as they move, plans that are approved, paused and stopped, and what a console lists.

A process of the release before counts nothing and applies no plan that needs approval. The next owner of a partition
counts its live sagas again, so what such a process recorded is missing in the counts of the ended sagas alone.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BOUNDS_S = (
    0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120,
    180, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 172_800, 345_600, 604_800, 1_209_600, 2_592_000,
)  # fmt: skip
ANOTHER = "lower(btrim({})) <> lower(btrim(planned_by))"


def upgrade() -> None:
    """Add tables, columns and indexes, and count the sagas that are stored."""
    _rollups()
    _plans()
    _letters()
    op.create_index("sagas_by_id_prefix", "sagas", ["saga_id"], postgresql_ops={"saga_id": "text_pattern_ops"})
    op.create_index("operator_log_by_plan", "operator_log", ["plan_id"])
    op.create_index("operator_log_by_seq", "operator_log", ["seq"])
    op.create_index("operator_log_by_actor", "operator_log", ["actor", "seq"])


def _rollups() -> None:
    when, took = "ended, was parked, or else began", "how long it took; 0 until it has ended"
    op.create_table(
        "rollups",
        sa.Column("minute", sa.DateTime(timezone=True), primary_key=True, comment=when),
        sa.Column("partition", sa.SmallInteger, primary_key=True, comment="its owner updates the row alone"),
        sa.Column("saga_type", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("bucket", sa.SmallInteger, primary_key=True, comment=took),
        sa.Column("count", sa.Integer, nullable=False),
        postgresql_with={"fillfactor": 70},
    )
    op.execute(
        sa.text("""
            INSERT INTO rollups (minute, partition, saga_type, state, step, bucket, count)
            SELECT date_trunc('minute', CASE WHEN state IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
                                             THEN coalesce(finished_at, started_at)
                                             WHEN state = 'NEEDS_REVIEW' THEN coalesce(parked_at, started_at)
                                             ELSE started_at END, 'UTC'),
                   partition, saga_type, state, step,
                   CASE WHEN state IN ('CONFIRMED', 'CANCELLED_COMPENSATED') AND finished_at IS NOT NULL
                        THEN 1 + width_bucket(CAST(extract(epoch FROM finished_at - started_at) AS double precision),
                                              CAST(:bounds AS double precision[]))
                        ELSE 0 END,
                   count(*)
            FROM sagas
            GROUP BY 1, 2, 3, 4, 5, 6
        """).bindparams(bounds=[float(each) for each in BOUNDS_S])
    )
    op.create_index("rollups_by_state", "rollups", ["state", "step", "saga_type", "minute"])


def _plans() -> None:
    states = "PLANNED, APPLYING, PAUSED, APPLIED, STOPPED"
    op.alter_column("plans", "state", comment=states, existing_type=sa.Text, existing_nullable=False)
    items = "PLANNED, NOT_RUNNABLE, DONE, CHANGED, STOPPED"
    op.alter_column("plan_items", "state", comment=items, existing_type=sa.Text, existing_nullable=False)
    op.add_column(
        "plans",
        sa.Column(
            "needs_approval", sa.Boolean, nullable=False, server_default=sa.text("false"), comment="as it was planned"
        ),
    )
    op.add_column("plans", sa.Column("approved_by", sa.Text))
    op.add_column("plans", sa.Column("approved_at", sa.DateTime(timezone=True)))
    op.add_column("plans", sa.Column("approval_reason", sa.Text))
    # Plans of the release before are not checked: it compared the names with their capitals.
    for name, condition in (
        ("plans_approved_by_another", f"approved_by IS NULL OR {ANOTHER.format('approved_by')}"),
        ("plans_approved", "NOT needs_approval OR approved_by IS NOT NULL OR state IN ('PLANNED', 'STOPPED')"),
        (
            "plans_resolved_by_another",
            f"act NOT LIKE 'RESOLVE%' OR applied_by IS NULL OR {ANOTHER.format('applied_by')}",
        ),
    ):
        op.create_check_constraint(name, "plans", sa.text(condition), postgresql_not_valid=True)


def _letters() -> None:
    headers = "without those of traces; null: recorded by an earlier release"
    body = "values that may be personal are masked; null: it cannot be decoded"
    op.add_column("dead_letters", sa.Column("headers", JSONB, comment=headers))
    op.add_column("dead_letters", sa.Column("body", JSONB, comment=body))
    op.create_index("dead_letters_by_message", "dead_letters", ["message_id"])
    op.create_index("dead_letters_by_letter", "dead_letters", ["letter_id"])
    op.create_index("dead_letters_latest", "dead_letters", ["recorded_at", "topic", "partition", "offset"])
