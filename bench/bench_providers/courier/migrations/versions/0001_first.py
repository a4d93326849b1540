"""The courier's records. A home of an earlier benchmark has them already: shipping's revision 0004 left them there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table where it is missing."""
    op.create_table(
        "courier_records",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        comment="what the benchmark's courier inside of the process has done",
        if_not_exists=True,
    )
