"""Since when a saga waits for the outcome of a step that comes later, which has no deadline.

A process of the release before stores none. It knows no saga that has such a step.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and an index of the sagas that wait."""
    op.add_column(
        "sagas",
        sa.Column(
            "awaits_since", sa.DateTime(timezone=True), comment="since when it waits for an outcome that comes later"
        ),
    )
    op.create_index(
        "sagas_awaiting", "sagas", ["awaits_since", "saga_id"], postgresql_where=sa.text("awaits_since IS NOT NULL")
    )
