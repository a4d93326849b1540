"""Mobile money's tables of what is requested of providers, and their statements; each takes a whole batch.

Rows are locked in one order everywhere: payouts, then reservations, then floats.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Row,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.attempts import attempt_key
from chassis.saga.schema import service_metadata

OVERDUE = text("""
    SELECT 'receipt', count(*) FROM receipts
    WHERE state = 'RECEIVED' AND received_at < now() - interval '10 minutes'
    UNION ALL
    SELECT 'end_of_day', count(*) FROM business_days
    WHERE state = 'REQUESTED' AND requested_at < now() - interval '10 minutes'
""")

metadata = service_metadata(has_awaited_steps=True)


def prompts_table(metadata: MetaData) -> Table:
    """Return the prompts of members' phones."""
    return Table(
        "prompts",
        metadata,
        Column("saga_id", Text, primary_key=True),
        Column("member_id", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("short_code", Text, nullable=False),
        Column("reference", Text, nullable=False, comment="what the payment carries"),
        Column("phone", Text, nullable=False),
        Column("currency", Text, nullable=False),
        Column("amount_minor", BigInteger, nullable=False),
        Column("state", Text, nullable=False, comment="REQUESTED, PAID or FAILED"),
        Column("receipt", Text),
        Column("reason", Text),
        Column("requested_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("ended_at", DateTime(timezone=True)),
        Index("prompts_by_reference", "short_code", "reference"),
    )


def payouts_table(metadata: MetaData) -> Table:
    """Return the payouts to phones."""
    return Table(
        "payouts",
        metadata,
        Column("saga_id", Text, primary_key=True),
        Column("saga_type", Text, nullable=False),
        Column("member_id", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("short_code", Text, nullable=False),
        Column("phone", Text, nullable=False),
        Column("currency", Text, nullable=False),
        Column("amount_minor", BigInteger, nullable=False),
        Column("lane", Text, nullable=False, comment="MEMBERS or BULK"),
        Column("source", Text, nullable=False),
        Column("state", Text, nullable=False, comment="REQUESTED, PAID or FAILED"),
        Column("receipt", Text),
        Column("charge_minor", BigInteger, nullable=False),
        Column("completed_at", DateTime(timezone=True)),
        Column("reason", Text),
        Column("requested_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("ended_at", DateTime(timezone=True)),
        Index("payouts_by_receipt", "short_code", "receipt"),
        Index("payouts_in_state", "short_code", "state", "requested_at"),
    )


def reversals_table(metadata: MetaData) -> Table:
    """Return the reversals of receipts."""
    return Table(
        "reversals",
        metadata,
        Column("saga_id", Text, primary_key=True),
        Column("provider", Text, nullable=False),
        Column("short_code", Text, nullable=False),
        Column("receipt", Text, nullable=False, comment="that goes back to its payer"),
        Column("currency", Text, nullable=False),
        Column("amount_minor", BigInteger, nullable=False),
        Column("state", Text, nullable=False, comment="REQUESTED, PAID or FAILED"),
        Column("reversal_receipt", Text),
        Column("reason", Text),
        Column("requested_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("ended_at", DateTime(timezone=True)),
        Index("reversals_by_receipt", "short_code", "receipt"),
    )


def own_ids_table(metadata: MetaData) -> Table:
    """Return our ids of attempts as providers have them: derived, and stored before the first call."""
    return Table(
        "own_ids",
        metadata,
        Column("own_id", Text, primary_key=True),
        Column("short_code", Text, nullable=False),
        Column("saga_id", Text, nullable=False),
        Column("step", Text, nullable=False),
        Column("number", SmallInteger, nullable=False),
    )


def questions_table(metadata: MetaData) -> Table:
    """Return the queries whose answers come by callback, by the provider's id of each."""
    table = Table(
        "questions",
        metadata,
        Column("question_id", Text, nullable=False),
        Column("short_code", Text, nullable=False),
        Column("kind", Text, nullable=False, comment="ATTEMPT, RECEIPT or BALANCE"),
        Column("key", Text, comment="of the attempt that it is about"),
        Column("receipt", Text, comment="that it is about"),
        Column("queried_at", DateTime(timezone=True), nullable=False),
        Column("answered_at", DateTime(timezone=True)),
        Column("answer", Text, comment="a meaning"),
        PrimaryKeyConstraint("short_code", "question_id"),
        Index("questions_by_key", "key", "queried_at"),
    )
    Index("questions_open", table.c.short_code, table.c.queried_at, postgresql_where=table.c.answered_at.is_(None))
    return table


for _add in (prompts_table, payouts_table, reversals_table, own_ids_table, questions_table):
    _add(metadata)

PROMPT = Columns.of(metadata.tables["prompts"], without=["state", "receipt", "reason", "requested_at", "ended_at"])
PAYOUT = Columns.of(
    metadata.tables["payouts"],
    without=["state", "receipt", "charge_minor", "completed_at", "reason", "requested_at", "ended_at"],
)
REVERSAL = Columns.of(
    metadata.tables["reversals"], without=["state", "reversal_receipt", "reason", "requested_at", "ended_at"]
)
OWN_ID = Columns.of(metadata.tables["own_ids"])

ADD_PROMPTS = Statement(f"""
    INSERT INTO prompts ({PROMPT.names}, state)
    SELECT {PROMPT.values}, 'REQUESTED' FROM {PROMPT.rows}
    ON CONFLICT (saga_id) DO NOTHING
""")
ADD_PAYOUTS = Statement(f"""
    INSERT INTO payouts ({PAYOUT.names}, state, charge_minor)
    SELECT {PAYOUT.values}, 'REQUESTED', 0 FROM {PAYOUT.rows}
    ON CONFLICT (saga_id) DO NOTHING
""")
ADD_REVERSALS = Statement(f"""
    INSERT INTO reversals ({REVERSAL.names}, state)
    SELECT {REVERSAL.values}, 'REQUESTED' FROM {REVERSAL.rows}
    ON CONFLICT (saga_id) DO NOTHING
""")
COLLECTED_AS = Statement("""
    SELECT receipts.short_code, receipts.receipt, own_ids.own_id
    FROM unnest(CAST(%(short_codes)s AS text[]), CAST(%(receipts)s AS text[])) AS wanted (short_code, receipt)
    JOIN receipts ON receipts.short_code = wanted.short_code AND receipts.receipt = wanted.receipt
    JOIN own_ids ON own_ids.saga_id = receipts.collection_id AND own_ids.step = 'send_prompt'
    JOIN attempts ON attempts.saga_id = own_ids.saga_id AND attempts.step = own_ids.step
        AND attempts.number = own_ids.number
    ORDER BY own_ids.number
""")
ADD_OWN_IDS = Statement(f"""
    INSERT INTO own_ids ({OWN_ID.names})
    SELECT {OWN_ID.values} FROM {OWN_ID.rows}
    ON CONFLICT (own_id) DO NOTHING
""")

NUMBERS = Statement("""
    SELECT saga_id, max(number) AS number FROM attempts
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND step = %(step)s
    GROUP BY saga_id
""")

PROMPTED_AT = Statement("SELECT saga_id, requested_at FROM prompts WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))")

END_PROMPTS = Statement("""
    UPDATE prompts
    SET state = row.state, receipt = row.receipt, reason = row.reason, ended_at = now()
    FROM unnest(CAST(%(saga_id)s AS text[]), CAST(%(state)s AS text[]), CAST(%(receipt)s AS text[]),
                CAST(%(reason)s AS text[])) AS row (saga_id, state, receipt, reason)
    WHERE prompts.saga_id = row.saga_id
""")
END_PAYOUTS = Statement("""
    UPDATE payouts
    SET state = row.state, receipt = coalesce(row.receipt, payouts.receipt), charge_minor = row.charge_minor,
        completed_at = row.completed_at, reason = row.reason, ended_at = now()
    FROM unnest(CAST(%(saga_id)s AS text[]), CAST(%(state)s AS text[]), CAST(%(receipt)s AS text[]),
                CAST(%(charge_minor)s AS bigint[]), CAST(%(completed_at)s AS timestamptz[]),
                CAST(%(reason)s AS text[])) AS row (saga_id, state, receipt, charge_minor, completed_at, reason)
    WHERE payouts.saga_id = row.saga_id
""")
END_REVERSALS = Statement("""
    UPDATE reversals
    SET state = row.state, reversal_receipt = row.receipt, reason = row.reason, ended_at = now()
    FROM unnest(CAST(%(saga_id)s AS text[]), CAST(%(state)s AS text[]), CAST(%(receipt)s AS text[]),
                CAST(%(reason)s AS text[])) AS row (saga_id, state, receipt, reason)
    WHERE reversals.saga_id = row.saga_id
""")
_END = ("saga_id", "state", "receipt", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnId:
    """Our id of one attempt, as a provider has it."""

    own_id: str
    short_code: str
    saga_id: str
    step: str
    number: int

    @property
    def key(self) -> str:
        """The attempt's key."""
        return attempt_key(self.saga_id, self.step, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a prompt, a payout or a reversal ended: PAID or FAILED."""

    saga_id: str
    state: str
    receipt: str | None = None
    reason: str | None = None
    charge_minor: int = 0
    completed_at: datetime | None = None


def add(tx: Connection, statement: Statement, columns: Columns, rows: Sequence[Any]) -> None:
    """Add these rows, each once, in one order everywhere."""
    if rows:
        statement.run(tx, columns.parameters(sorted(rows, key=lambda each: each.saga_id)))


def add_own_ids(tx: Connection, own_ids: Collection[OwnId]) -> None:
    """Store our ids of attempts, each once."""
    if own_ids:
        ADD_OWN_IDS.run(tx, OWN_ID.parameters(sorted(own_ids, key=lambda each: each.own_id)))


def collected_as(tx: Connection, receipts: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return our ids of the prompts that have brought these receipts, by short code and receipt."""
    ordered = sorted(receipts)
    values = {"short_codes": [each[0] for each in ordered], "receipts": [each[1] for each in ordered]}
    return {(row.short_code, row.receipt): str(row.own_id) for row in COLLECTED_AS.rows(tx, values)}


def numbers(tx: Connection, step: str, saga_ids: Collection[str]) -> dict[str, int]:
    """Return the number of the last attempt of each of these sagas that has one."""
    rows = NUMBERS.rows(tx, {"step": step, "saga_ids": sorted(saga_ids)})
    return {row.saga_id: row.number for row in rows}


def prompted_at(tx: Connection, saga_ids: Collection[str]) -> dict[str, datetime]:
    """Return when each of these prompts was requested."""
    return {row.saga_id: row.requested_at for row in PROMPTED_AT.rows(tx, {"saga_ids": sorted(saga_ids)})}


def end(tx: Connection, statement: Statement, ended: Sequence[Ended]) -> None:
    """Record how these ended."""
    if not ended:
        return
    ordered = sorted(ended, key=lambda each: each.saga_id)
    names = (*_END, "charge_minor", "completed_at") if statement is END_PAYOUTS else _END
    statement.run(tx, {name: [getattr(each, name) for each in ordered] for name in names})


def first(rows: Sequence[Row[Any]]) -> Row[Any] | None:
    """Return the first row, or None."""
    return rows[0] if rows else None
