"""What is given up is held in order, and counts its redrives."""

from __future__ import annotations

from chassis.saga import chassis_tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the kit's tables."""
    chassis_tables.hold_2()
