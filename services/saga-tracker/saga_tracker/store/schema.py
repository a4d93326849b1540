"""The declaration of the tracker's tables. Migrations create them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from chassis.saga.outbox import outbox_table

METADATA = MetaData()

SAGAS_FILLFACTOR = 50
"""A page keeps room for the next versions of its sagas, so that versions which change no index stay on it."""

SAGAS = Table(
    "sagas",
    METADATA,
    Column("saga_id", Text, primary_key=True),
    Column("saga_type", Text, nullable=False),
    Column("saga_version", SmallInteger, nullable=False),
    Column("subject", Text, comment="whom the saga is for; unknown until its starting event is recorded"),
    Column("state", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("step", Text, nullable=False, comment="under way, being compensated, or the one that failed"),
    Column("cause", Text),
    Column("reason", Text),
    Column("partition", SmallInteger, nullable=False),
    Column("progress", JSONB, nullable=False, comment="what is known, and which commands were issued"),
    Column("waiting", Text, comment="what deadline_at is the deadline of"),
    Column("deadline_at", DateTime(timezone=True)),
    Column("wake_at", DateTime(timezone=True), comment="at or before deadline_at: when to look at it again"),
    Column("traceparent", Text),
    Column("version", Integer, nullable=False, comment="counts the changes"),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("finished_at", DateTime(timezone=True)),
    Column("parked_at", DateTime(timezone=True), comment="since when it waits for a person"),
    Column("awaits_since", DateTime(timezone=True), comment="since when it waits for an outcome that comes later"),
    Column("contradicted_at", DateTime(timezone=True), comment="since when a person has to settle a contradiction"),
    Column("settled_at", DateTime(timezone=True), comment="when the last of its contradictions was settled"),
    Column("settled_by", Text),
    Index("sagas_by_start", "started_at", "saga_id"),
    Index("sagas_by_state", "state", "started_at", "saga_id"),
    Index("sagas_by_subject", "subject", "started_at", "saga_id"),
    postgresql_with={"fillfactor": SAGAS_FILLFACTOR},
)
Index("sagas_due", SAGAS.c.wake_at, SAGAS.c.partition, postgresql_where=SAGAS.c.wake_at.is_not(None))
Index("sagas_awaiting", SAGAS.c.awaits_since, SAGAS.c.saga_id, postgresql_where=SAGAS.c.awaits_since.is_not(None))
UNSETTLED = SAGAS.c.contradicted_at.is_not(None) & SAGAS.c.settled_at.is_(None)
Index("sagas_unsettled", SAGAS.c.contradicted_at, SAGAS.c.saga_id, postgresql_where=UNSETTLED)

SOUGHT_FOR_ORPHANS = """state IN ('PENDING', 'NEEDS_REVIEW')
      AND (awaits_since IS NULL OR wake_at IS NOT NULL OR state = 'NEEDS_REVIEW')"""
"""Those under way that wait for evidence and for no deadline are none, and there may be a million of them. The columns
are those of other indexes, so a change of any other column still changes no index."""
Index("sagas_sought", SAGAS.c.state, SAGAS.c.started_at, SAGAS.c.saga_id, postgresql_where=text(SOUGHT_FOR_ORPHANS))

Index("sagas_by_id_prefix", SAGAS.c.saga_id, postgresql_ops={"saga_id": "text_pattern_ops"})

ROLLUPS_FILLFACTOR = 70
"""A count changes many times and no index with it, so its versions stay on its page."""

ROLLUPS = Table(
    "rollups",
    METADATA,
    Column("minute", DateTime(timezone=True), primary_key=True, comment="ended, was parked, or else began"),
    Column("partition", SmallInteger, primary_key=True, comment="its owner updates the row alone"),
    Column("saga_type", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("bucket", SmallInteger, primary_key=True, comment="how long it took; 0 until it has ended"),
    Column("count", Integer, nullable=False),
    Index("rollups_by_state", "state", "step", "saga_type", "minute"),
    postgresql_with={"fillfactor": ROLLUPS_FILLFACTOR},
)

TIMELINE = Table(
    "timeline",
    METADATA,
    Column("saga_id", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("kind", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("step", Text),
    Column("attempt", SmallInteger),
    Column("causation_id", Text),
    Column("late", Boolean, nullable=False),
    Column("deadline_at", DateTime(timezone=True)),
    Column("detail", Text),
    Column("topic", Text),
    Column("partition", SmallInteger),
    Column("offset", BigInteger),
)
Index("timeline_late", TIMELINE.c.saga_id, postgresql_where=TIMELINE.c.late)

REFERENCES = Table(
    "saga_references",
    METADATA,
    Column("value", Text, primary_key=True, comment="a personal one is hashed"),
    Column("saga_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
)

OUTBOX = outbox_table(METADATA)

CONSUMED_OFFSETS = Table(
    "consumed_offsets",
    METADATA,
    Column("topic", Text, primary_key=True),
    Column("partition", SmallInteger, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("topic_id", Text, comment="Kafka's; null until it is known"),
)

WATERMARKS = Table(
    "watermarks",
    METADATA,
    Column("partition", SmallInteger, primary_key=True),
    Column("recorded_until", DateTime(timezone=True), nullable=False, comment="everything before is on the timeline"),
)

DEAD_LETTERS = Table(
    "dead_letters",
    METADATA,
    Column("topic", Text, primary_key=True),
    Column("partition", SmallInteger, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("letter_id", Text, nullable=False, comment="the same for every copy; its id on the timeline"),
    Column("message_id", Text, nullable=False, comment="the message that was given up"),
    Column("saga_id", Text, nullable=False, comment="its key, whatever that was"),
    Column("service", Text, nullable=False),
    Column("step", Text, comment="null where nobody can tell which step it was"),
    Column("type", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("redrive", SmallInteger, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("open", Boolean, nullable=False, comment="no saga answers for it: an operator has to redrive or close it"),
    Column("resolution", Text, comment="REDRIVEN or CLOSED"),
    Column("resolved_by", Text),
    Column("resolved_why", Text),
    Column("resolved_at", DateTime(timezone=True)),
    Column("headers", JSONB, comment="without those of traces; null: recorded by an earlier release"),
    Column("body", JSONB, comment="values that may be personal are masked; null: it cannot be decoded"),
    Index("dead_letters_by_saga", "saga_id"),
    Index("dead_letters_by_message", "message_id"),
    Index("dead_letters_by_letter", "letter_id"),
    Index("dead_letters_latest", "recorded_at", "topic", "partition", "offset"),
)
Index("dead_letters_open", DEAD_LETTERS.c.recorded_at, postgresql_where=DEAD_LETTERS.c.open)

ANOTHER = "lower(btrim({})) <> lower(btrim(planned_by))"
"""Two names that differ in capitals alone are one person."""

PLANS = Table(
    "plans",
    METADATA,
    Column("plan_id", Text, primary_key=True),
    Column("act", Text, nullable=False),
    Column("selection", JSONB, nullable=False),
    Column("state", Text, nullable=False, comment="PLANNED, APPLYING, PAUSED, APPLIED, STOPPED"),
    Column("planned_by", Text, nullable=False),
    Column("planned_at", DateTime(timezone=True), nullable=False),
    Column("applied_by", Text),
    Column("reason", Text),
    Column("applied_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("rate_per_s", Integer),
    Column("next_at", DateTime(timezone=True), comment="when the rate lets it go on"),
    Column("needs_approval", Boolean, nullable=False, server_default=text("false"), comment="as it was planned"),
    Column("approved_by", Text),
    Column("approved_at", DateTime(timezone=True)),
    Column("approval_reason", Text),
    CheckConstraint(text(f"approved_by IS NULL OR {ANOTHER.format('approved_by')}"), name="plans_approved_by_another"),
    CheckConstraint(
        text("NOT needs_approval OR approved_by IS NOT NULL OR state IN ('PLANNED', 'STOPPED')"), name="plans_approved"
    ),
    CheckConstraint(
        text(f"act NOT LIKE 'RESOLVE%' OR applied_by IS NULL OR {ANOTHER.format('applied_by')}"),
        name="plans_resolved_by_another",
    ),
)
Index("plans_applying", PLANS.c.next_at, postgresql_where=PLANS.c.state == "APPLYING")

PLAN_ITEMS = Table(
    "plan_items",
    METADATA,
    Column("plan_id", Text, primary_key=True),
    Column("saga_id", Text, primary_key=True),
    Column("partition", SmallInteger, nullable=False),
    Column("revision", Integer, nullable=False, comment="the saga's version when it was planned"),
    Column("step", Text, nullable=False),
    Column("runs", Text, comment="the commands that would be sent; null: none"),
    Column("state", Text, nullable=False, comment="PLANNED, NOT_RUNNABLE, DONE, CHANGED, STOPPED"),
    Column("detail", Text),
    Column("done_at", DateTime(timezone=True)),
)
_PLANNED = PLAN_ITEMS.c.state == "PLANNED"
Index("plan_items_planned", PLAN_ITEMS.c.plan_id, PLAN_ITEMS.c.saga_id, postgresql_where=_PLANNED)

OPERATOR_LOG = Table(
    "operator_log",
    METADATA,
    Column("act_id", Text, primary_key=True),
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("saga_id", Text, comment="null: it was about more than one"),
    Column("plan_id", Text),
    Column("detail", Text),
    Index("operator_log_by_saga", "saga_id"),
    Index("operator_log_by_plan", "plan_id"),
    Index("operator_log_by_seq", "seq"),
    Index("operator_log_by_actor", "actor", "seq"),
)
