"""The chassis's tables."""

from __future__ import annotations

from chassis.saga import chassis_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    chassis_tables.create_1()
    chassis_tables.hold_2()
