"""The chassis' tables as migrations create them: one function for each revision, never changed after its release.

A service's first migration calls :func:`create_1`. A later change of these tables is a new function here, and a new
migration of one line in each service.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


def create_1() -> None:
    """Create the effects, the outbox and the deferred messages."""
    op.create_table(
        "effects",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("deadline_at", sa.DateTime(timezone=True)),
        sa.Column("closing", sa.Boolean, nullable=False, server_default="false"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
    create_outbox_1()
    op.create_table(
        "deferred",
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column("handler", sa.Text, primary_key=True),
        sa.Column("saga_id", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("headers", sa.Text, nullable=False, comment="JSON pairs, bytes read as latin-1"),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("deferred_saga_id", "deferred", ["saga_id"])
    op.create_index("deferred_due", "deferred", ["partition", "due_at"])


def hold_2() -> None:
    """Let deferred messages wait in order, and count how often they were redriven."""
    op.add_column("deferred", sa.Column("redrive", sa.SmallInteger, nullable=False, server_default="0"))
    op.add_column("deferred", sa.Column("behind", sa.Boolean, nullable=False, server_default="false"))
    place = sa.Column(
        "place", sa.BigInteger, sa.Identity(always=True), nullable=False, comment="the order within a saga"
    )
    op.add_column("deferred", place)


def create_outbox_1() -> None:
    """Create the outbox alone, for a process that has no steps of its own."""
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("aggregatetype", sa.Text, nullable=False, comment="the topic"),
        sa.Column("aggregateid", sa.Text, nullable=False, comment="the saga id, which is the key"),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.Text, nullable=False, comment="JSON pairs, bytes read as latin-1"),
        sa.Column("partition", sa.SmallInteger),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
