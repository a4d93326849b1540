"""When to look at a saga again, which unlike its deadline stays from step to step: no index changes with a step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give sagas that have a deadline a time to wake, and index that in its place.

    What the last release stores while both run has none; this one gives it one when it looks for orphans.
    """
    wake_at = sa.Column(
        "wake_at", sa.DateTime(timezone=True), comment="at or before deadline_at: when to look at it again"
    )
    op.add_column("sagas", wake_at)
    op.execute("UPDATE sagas SET wake_at = deadline_at WHERE deadline_at IS NOT NULL")
    op.drop_index("sagas_due", "sagas")
    op.create_index("sagas_due", "sagas", ["wake_at", "partition"], postgresql_where=sa.text("wake_at IS NOT NULL"))
    op.execute("ALTER TABLE sagas SET (fillfactor = 50)")
