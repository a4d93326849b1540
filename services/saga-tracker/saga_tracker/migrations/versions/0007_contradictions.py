"""Since when a person has to settle that a provider contradicted itself, and who has settled it.

A process of the release before stores none of it. It knows no saga that has a step whose outcome comes later.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and an index of the sagas with a contradiction that is open."""
    since = "since when a person has to settle a contradiction"
    settled = "when the last of its contradictions was settled"
    op.add_column("sagas", sa.Column("contradicted_at", sa.DateTime(timezone=True), comment=since))
    op.add_column("sagas", sa.Column("settled_at", sa.DateTime(timezone=True), comment=settled))
    op.add_column("sagas", sa.Column("settled_by", sa.Text))
    op.create_index(
        "sagas_unsettled",
        "sagas",
        ["contradicted_at", "saga_id"],
        postgresql_where=sa.text("contradicted_at IS NOT NULL AND settled_at IS NULL"),
    )
