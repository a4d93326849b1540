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


def create_awaited_1() -> None:
    """Create the awaited steps, their attempts and the evidence, for a service whose first awaited step is new."""
    op.create_table(
        "awaited_steps",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, nullable=False, comment="of its trigger, as the columns that follow"),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("headers", sa.Text, nullable=False, comment="JSON pairs, bytes read as latin-1"),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("query_at", sa.DateTime(timezone=True), comment="null: it is settled, or the queries have ended"),
        sa.Column("queries", sa.SmallInteger, nullable=False),
        sa.Column("queried_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redrive", sa.SmallInteger, nullable=False),
    )
    op.create_index(
        "awaited_steps_due",
        "awaited_steps",
        ["partition", "query_at"],
        postgresql_where=sa.text("query_at IS NOT NULL"),
    )
    _create_attempts_1()
    _create_evidence_1()


def details_awaited_2() -> None:
    """Keep with an attempt what the evidence of its success says, so that another success can contradict it."""
    detail = sa.Column("detail", sa.Text, comment="of the evidence that proved its success; null: unknown")
    op.add_column("attempts", detail)


def closing_awaited_3() -> None:
    """Keep who closed a piece of evidence that matches no attempt, and why."""
    closed_at = sa.Column("closed_at", sa.DateTime(timezone=True), comment="when an operator closed it unmatched")
    for column in (closed_at, sa.Column("closed_by", sa.Text), sa.Column("closed_reason", sa.Text)):
        op.add_column("evidence", column)


def _create_attempts_1() -> None:
    op.create_table(
        "attempts",
        sa.Column("saga_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("number", sa.SmallInteger, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cancel", sa.Text, nullable=False),
        sa.Column("sends", sa.SmallInteger, nullable=False),
        sa.Column("first_sent_at", sa.DateTime(timezone=True)),
        sa.Column("last_sent_at", sa.DateTime(timezone=True)),
        sa.Column("was_not_found", sa.Boolean, nullable=False),
        sa.Column("is_contradicted", sa.Boolean, nullable=False),
        sa.Column("provider_id", sa.Text),
    )
    op.create_index("attempts_by_provider_id", "attempts", ["provider_id"])
    op.create_index(
        "attempts_one_live",
        "attempts",
        ["saga_id", "step"],
        unique=True,
        postgresql_where=sa.text("state IN ('OPEN', 'SUCCEEDED')"),
    )


def _create_evidence_1() -> None:
    op.create_table(
        "evidence",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("headers", sa.Text, nullable=False, comment="JSON pairs"),
        sa.Column("body", sa.LargeBinary, nullable=False, comment="as it came"),
        sa.Column("outcome", sa.Text, comment="null: the adapter cannot read it"),
        sa.Column("key", sa.Text),
        sa.Column("provider_id", sa.Text),
        sa.Column("reference", sa.Text, comment="for people"),
        sa.Column("detail", sa.Text, comment="what else it says, in a form of the adapter's"),
        sa.Column("saga_id", sa.Text, comment="null: it matches no attempt yet"),
        sa.Column("step", sa.Text),
        sa.Column("number", sa.SmallInteger),
        sa.Column("partition", sa.SmallInteger),
        sa.Column("matches", sa.SmallInteger, nullable=False, comment="how often it was matched in vain"),
        sa.Column("match_at", sa.DateTime(timezone=True), comment="null: it is matched"),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, comment="when to decide about it"),
        sa.Column("handled_at", sa.DateTime(timezone=True)),
        sa.Column("fate", sa.Text, comment="SETTLED, REPEATED, CONTRADICTED"),
    )
    op.create_index("evidence_by_saga", "evidence", ["saga_id"])
    op.create_index(
        "evidence_waiting",
        "evidence",
        ["partition", "due_at"],
        postgresql_where=sa.text("handled_at IS NULL"),
    )
    op.create_index("evidence_orphans", "evidence", ["match_at"], postgresql_where=sa.text("match_at IS NOT NULL"))


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
