"""Which topic an offset belongs to: one that is made anew, or another cluster's, has the same name and another id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give offsets a topic's id. The worker stores it with an assignment; the last release never does."""
    op.add_column("consumed_offsets", sa.Column("topic_id", sa.Text, comment="Kafka's; null until it is known"))
