"""The open returns, which are counted every few seconds beside the pending orders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("returns_open", "returns", ["requested_at"], postgresql_where=sa.text("decided_at IS NULL"))
