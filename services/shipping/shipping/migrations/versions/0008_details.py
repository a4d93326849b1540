"""The details of what settled an attempt, so that a second success with others contradicts it.

A process of the release before neither reads nor writes them; what it settles has none, and nothing contradicts that.
"""

from __future__ import annotations

from chassis.saga import chassis_tables

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    chassis_tables.details_awaited_2()
