"""Numbers by which people find a saga. Those of sagas that began before this revision are found by their id alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "saga_references",
        sa.Column("value", sa.Text, primary_key=True, comment="a personal one is hashed"),
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
    )
