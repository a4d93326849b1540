"""What is given up is held in order, and counts its redrives."""

from __future__ import annotations

from messaging import kit_tables

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the kit's tables."""
    kit_tables.hold_2()
