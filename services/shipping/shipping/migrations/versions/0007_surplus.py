"""What a parcel had besides the pieces of its return. A process of the release before does not write it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    surplus = sa.Column("surplus", JSONB, comment="what arrived besides; null: nothing, or it was not kept")
    op.add_column("collections", surplus)
