"""An index of the sagas among which orphans are sought: without those that only wait for evidence.

A process of the release before does not use it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SOUGHT = """state IN ('PENDING', 'NEEDS_REVIEW')
      AND (awaits_since IS NULL OR wake_at IS NOT NULL OR state = 'NEEDS_REVIEW')"""


def upgrade() -> None:
    """Add the index."""
    op.create_index("sagas_sought", "sagas", ["state", "started_at", "saga_id"], postgresql_where=sa.text(SOUGHT))
