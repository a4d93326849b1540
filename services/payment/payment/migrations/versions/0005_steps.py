"""A saga may have several payments: a row belongs to the step that made it.

A process of the release before inserts without the step, which is then today's, and changes rows by the saga's id
alone. No saga of that release has two.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the step and take it into the primary key."""
    op.add_column("payments", sa.Column("step", sa.Text, nullable=False, server_default="authorize_payment"))
    op.drop_constraint("payments_pkey", "payments")
    op.create_primary_key("payments_pkey", "payments", ["saga_id", "step"])
