"""The courier inside of the process is the benchmark's, which has migrations of its own.

The table goes where it is empty, as it is in every home but a benchmark's. One that holds rows stays: it is what an
earlier benchmark's courier did, and the audit judges that home's orders by it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Drop the table where it is empty."""
    if not op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM courier_records)")):
        op.drop_table("courier_records")
