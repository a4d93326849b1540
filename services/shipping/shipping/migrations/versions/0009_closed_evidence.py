"""Operators close evidence that matches no attempt, with a reason.

A process of the release before neither reads nor writes the columns.
"""

from __future__ import annotations

from chassis.saga import chassis_tables

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    chassis_tables.closing_awaited_3()
