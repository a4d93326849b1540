"""The attempts at awaited steps as a service with such steps stores them, and when each step is queried next.

One row of ``awaited_steps`` belongs to an effect. It keeps the step's trigger, from which the event of the outcome is
made days later, so no message waits in its saga meanwhile. ``attempts`` has a row for each attempt. Two indexes hold
what no process may break: a key is used once, and a step has at most one attempt that is open or succeeded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    Row,
    SmallInteger,
    Table,
    Text,
)

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from chassis.saga.attempts import Attempt, AttemptState, Cancel, attempt_key
from chassis.saga.deferred import RawMessage
from chassis.saga.outbox import headers_from_text, headers_to_text
from chassis.saga.triggers import StepKey


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttempt:
    """One attempt with the step that it belongs to. ``provider_id`` is the provider's own id of it, once known."""

    saga_id: str
    step: str
    attempt: Attempt
    provider_id: str | None = None

    @property
    def key(self) -> str:
        """The idempotency key under which it is sent."""
        return attempt_key(self.saga_id, self.step, self.attempt.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedStepRow:
    """A step's trigger, and the ladder of its queries. ``query_at`` is None once it is settled, or the ladder ended.

    ``redrive`` counts how often an operator has begun the ladder anew.
    """

    saga_id: str
    step: str
    trigger: RawMessage
    query_at: datetime | None
    queries: int = 0
    queried_since: datetime
    redrive: int = 0

    @property
    def key(self) -> StepKey:
        """The saga and the step."""
        return self.saga_id, self.step


def awaited_steps_table(metadata: MetaData) -> Table:
    """Return the awaited steps of a service's database."""
    table = Table(
        "awaited_steps",
        metadata,
        Column("saga_id", Text, primary_key=True),
        Column("step", Text, primary_key=True),
        Column("topic", Text, nullable=False, comment="of its trigger, as the columns that follow"),
        Column("partition", SmallInteger, nullable=False),
        Column("headers", Text, nullable=False, comment="JSON pairs, bytes read as latin-1"),
        Column("payload", LargeBinary, nullable=False),
        Column("query_at", DateTime(timezone=True), comment="null: it is settled, or the queries have ended"),
        Column("queries", SmallInteger, nullable=False),
        Column("queried_since", DateTime(timezone=True), nullable=False),
        Column("redrive", SmallInteger, nullable=False),
    )
    Index("awaited_steps_due", table.c.partition, table.c.query_at, postgresql_where=table.c.query_at.is_not(None))
    return table


def attempts_table(metadata: MetaData) -> Table:
    """Return the attempts of a service's database."""
    table = Table(
        "attempts",
        metadata,
        Column("saga_id", Text, primary_key=True),
        Column("step", Text, primary_key=True),
        Column("number", SmallInteger, primary_key=True),
        Column("key", Text, nullable=False, unique=True),
        Column("state", Text, nullable=False),
        Column("cancel", Text, nullable=False),
        Column("sends", SmallInteger, nullable=False),
        Column("first_sent_at", DateTime(timezone=True)),
        Column("last_sent_at", DateTime(timezone=True)),
        Column("was_not_found", Boolean, nullable=False),
        Column("is_contradicted", Boolean, nullable=False),
        Column("provider_id", Text),
        Column("detail", Text, comment="of the evidence that proved its success; null: unknown"),
        Index("attempts_by_provider_id", "provider_id"),
    )
    live = table.c.state.in_([AttemptState.OPEN.value, AttemptState.SUCCEEDED.value])
    Index("attempts_one_live", table.c.saga_id, table.c.step, unique=True, postgresql_where=live)
    return table


STEP_COLUMNS = Columns.of(
    awaited_steps_table(MetaData()),
    sources={
        "topic": "trigger.topic",
        "partition": "trigger.partition",
        "headers": lambda each: headers_to_text(each.trigger.headers),
        "payload": lambda each: each.trigger.value or b"",
    },
)
CHANGED_STEP = STEP_COLUMNS.only("query_at", "queries", "queried_since", "redrive")
COLUMNS = Columns.of(
    attempts_table(MetaData()),
    sources={
        "number": "attempt.number",
        "state": "attempt.state.value",
        "cancel": "attempt.cancel.value",
        "sends": "attempt.sends",
        "first_sent_at": "attempt.first_sent_at",
        "last_sent_at": "attempt.last_sent_at",
        "was_not_found": "attempt.was_not_found",
        "is_contradicted": "attempt.is_contradicted",
        "detail": "attempt.detail",
    },
)
CHANGED = COLUMNS.without("saga_id", "step", "number", "key", "first_sent_at")
"""What an attempt that is stored may change. Its key never does."""

LOAD_STEPS = Statement(f"""
    SELECT {STEP_COLUMNS.names}
    FROM awaited_steps
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
    ORDER BY saga_id, step
    FOR UPDATE
""")

LOAD = Statement(f"""
    SELECT {COLUMNS.names}
    FROM attempts
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
    ORDER BY saga_id, step, number
    FOR UPDATE
""")

SAVE_STEPS = Statement(f"""
    INSERT INTO awaited_steps ({STEP_COLUMNS.names})
    SELECT {STEP_COLUMNS.values}
    FROM {STEP_COLUMNS.rows}
    ON CONFLICT (saga_id, step) DO UPDATE
    SET {CHANGED_STEP.excluded_assignments}
""")

SAVE = Statement(f"""
    INSERT INTO attempts ({COLUMNS.names})
    SELECT {COLUMNS.values}
    FROM {COLUMNS.rows}
    ON CONFLICT (saga_id, step, number) DO UPDATE
    SET {CHANGED.excluded_assignments}
""")

DUE = Statement("""
    SELECT due.saga_id, due.step
    FROM unnest(CAST(%(partitions)s AS smallint[])) AS own (partition)
    CROSS JOIN LATERAL (
        SELECT saga_id, step, query_at
        FROM awaited_steps
        WHERE awaited_steps.partition = own.partition AND query_at <= %(now)s
        ORDER BY query_at
        LIMIT %(limit)s
    ) AS due
    ORDER BY due.query_at
    LIMIT %(limit)s
""")
"""By partition, in the index's order: when a provider was away for long, all of a million steps may be due at once."""

OPEN_AFTER = Statement("""
    SELECT effects.saga_id, effects.step
    FROM effects
    JOIN awaited_steps ON awaited_steps.saga_id = effects.saga_id AND awaited_steps.step = effects.step
    WHERE effects.state IN ('STARTED', 'SENT', 'UNSURE') AND (effects.saga_id, effects.step) > (%(saga_id)s, %(step)s)
    ORDER BY effects.saga_id, effects.step
    LIMIT %(limit)s
""")

WAKE = Statement("""
    UPDATE awaited_steps
    SET query_at = %(now)s
    FROM (
        SELECT saga_id, step
        FROM awaited_steps
        WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND step = %(step)s AND query_at > %(now)s
        ORDER BY saga_id, step
        FOR UPDATE
    ) AS waiting
    WHERE awaited_steps.saga_id = waiting.saga_id AND awaited_steps.step = waiting.step
""")

FIND = Statement("""
    WITH found AS (
        SELECT saga_id, step, number, key, provider_id FROM attempts
        WHERE key = ANY(CAST(%(keys)s AS text[]))
        UNION
        SELECT saga_id, step, number, key, provider_id FROM attempts
        WHERE provider_id = ANY(CAST(%(provider_ids)s AS text[]))
    )
    SELECT found.*, (
        SELECT partition FROM awaited_steps
        WHERE awaited_steps.saga_id = found.saga_id AND awaited_steps.step = found.step
    ) AS partition
    FROM found
""")
"""Each part looks into one index. With OR and a join PostgreSQL merged both tables, which it read from end to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAttempt:
    """An attempt that a piece of evidence may be about, and the partition whose owner decides about it."""

    saga_id: str
    step: str
    number: int
    key: str
    provider_id: str | None
    partition: int


@dataclass(slots=True)
class LoadedAttempts:
    """The awaited steps of one batch's sagas: loaded and locked once, changed in memory, saved once."""

    _steps: dict[StepKey, AwaitedStepRow] = field(default_factory=dict)
    _attempts: dict[StepKey, list[StoredAttempt]] = field(default_factory=dict)
    _changed_steps: dict[StepKey, AwaitedStepRow] = field(default_factory=dict)
    _changed: dict[tuple[str, str, int], StoredAttempt] = field(default_factory=dict)

    def step(self, key: StepKey) -> AwaitedStepRow | None:
        """Return the row of a step as the batch has left it so far."""
        return self._steps.get(key)

    def attempts(self, key: StepKey) -> tuple[Attempt, ...]:
        """Return the attempts of a step, by number from 1."""
        return tuple(each.attempt for each in self._attempts.get(key, ()))

    def stored(self, key: StepKey, number: int) -> StoredAttempt:
        """Return one attempt of a step as it is stored. Raises IndexError where there is none."""
        return self._attempts[key][number - 1]

    def known(self, key: StepKey, number: int) -> StoredAttempt | None:
        """Return one attempt of a step as it is stored; None where there is none."""
        found = self._attempts.get(key, [])
        return found[number - 1] if 1 <= number <= len(found) else None

    def put_step(self, row: AwaitedStepRow) -> None:
        """Record a new step, or a change of one."""
        if self._steps.get(row.key) != row:
            self._steps[row.key] = self._changed_steps[row.key] = row

    def put(self, key: StepKey, attempts: Sequence[Attempt], *, provider_ids: Mapping[int, str] | None = None) -> None:
        """Record the attempts of a step; those that are as they were are not saved. Numbers are never taken back."""
        before = self._attempts.setdefault(key, [])
        for attempt in attempts:
            known = before[attempt.number - 1] if attempt.number <= len(before) else None
            provider_id = (provider_ids or {}).get(attempt.number, None if known is None else known.provider_id)
            stored = StoredAttempt(saga_id=key[0], step=key[1], attempt=attempt, provider_id=provider_id)
            if stored == known:
                continue
            before[attempt.number - 1 : attempt.number] = [stored]
            self._changed[(*key, attempt.number)] = stored

    @property
    def changed_steps(self) -> list[AwaitedStepRow]:
        """The steps to save, in one order everywhere."""
        return [self._changed_steps[key] for key in sorted(self._changed_steps)]

    @property
    def changed(self) -> list[StoredAttempt]:
        """The attempts to save, in one order everywhere."""
        return [self._changed[key] for key in sorted(self._changed)]


def load(tx: Connection, saga_ids: Iterable[str]) -> LoadedAttempts:
    """Load and lock the awaited steps of these sagas and their attempts, in one order everywhere."""
    wanted = {"saga_ids": sorted(set(saga_ids))}
    steps, attempts = LOAD_STEPS.submit(tx, wanted), LOAD.submit(tx, wanted)
    loaded = LoadedAttempts()
    for row in steps.rows():
        found = _step(row)
        loaded._steps[found.key] = found
    for row in attempts.rows():
        loaded._attempts.setdefault((row.saga_id, row.step), []).append(_stored(row))
    return loaded


def save(tx: Connection, loaded: LoadedAttempts) -> None:
    """Save what changed. Attempts that end are saved first: at most one of a step may be live at any time."""
    if loaded.changed_steps:
        SAVE_STEPS.run(tx, STEP_COLUMNS.parameters(loaded.changed_steps))
    live = {AttemptState.OPEN, AttemptState.SUCCEEDED}
    for are_live in (False, True):
        chosen = [each for each in loaded.changed if (each.attempt.state in live) is are_live]
        if chosen:
            SAVE.run(tx, COLUMNS.parameters(chosen))


def due(tx: Connection, partitions: Collection[int], *, now: datetime, limit: int) -> list[StepKey]:
    """Return the steps of these partitions whose provider is to be queried now, unlocked, the longest overdue first."""
    rows = DUE.rows(tx, {"partitions": list(partitions), "now": now, "limit": limit})
    return [(row.saga_id, row.step) for row in rows]


def wake(tx: Connection, step: str, saga_ids: Collection[str], *, now: datetime) -> None:
    """Let the ladders of this step go on now in these sagas: what they wait for has come, such as an open lane."""
    if saga_ids:
        WAKE.run(tx, {"step": step, "saga_ids": sorted(saga_ids), "now": now})


def open_after(tx: Connection, key: StepKey, *, limit: int) -> list[StepKey]:
    """Return steps whose outcome is open, unlocked, in the order of their keys, from after this one."""
    rows = OPEN_AFTER.rows(tx, {"saga_id": key[0], "step": key[1], "limit": limit})
    return [(row.saga_id, row.step) for row in rows]


def find(tx: Connection, *, keys: Collection[str], provider_ids: Collection[str]) -> list[FoundAttempt]:
    """Return the attempts with one of these keys, or one of these ids of a provider."""
    rows = FIND.rows(tx, {"keys": sorted(keys), "provider_ids": sorted(provider_ids)})
    return [FoundAttempt(**row._asdict()) for row in rows]


def may_be(known: str | None, named: str | None) -> bool:
    """Return whether two ids of a provider may be of one attempt; None: unknown, or not named."""
    return known is None or named is None or known == named


def _step(row: Row[Any]) -> AwaitedStepRow:
    trigger = RawMessage(
        topic=row.topic,
        partition=row.partition,
        key=row.saga_id.encode(),
        value=bytes(row.payload),
        headers=headers_from_text(row.headers),
    )
    return AwaitedStepRow(
        saga_id=row.saga_id,
        step=row.step,
        trigger=trigger,
        query_at=row.query_at,
        queries=row.queries,
        queried_since=row.queried_since,
        redrive=row.redrive,
    )


def _stored(row: Row[Any]) -> StoredAttempt:
    attempt = Attempt(
        number=row.number,
        first_sent_at=row.first_sent_at,
        last_sent_at=row.last_sent_at,
        sends=row.sends,
        state=AttemptState(row.state),
        cancel=Cancel(row.cancel),
        was_not_found=row.was_not_found,
        is_contradicted=row.is_contradicted,
        detail=row.detail,
    )
    return StoredAttempt(saga_id=row.saga_id, step=row.step, attempt=attempt, provider_id=row.provider_id)
