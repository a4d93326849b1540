"""Messages to be handled again: at a due time, or (without one) once they are unblocked, redriven or fenced.

A retry is a row in the service's own database, so a partition never waits for one order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Identity,
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
from chassis.saga.outbox import headers_from_text, headers_to_text
from chassis.wire.envelope import Headers

Key: TypeAlias = tuple[str, str]
"""The key of a deferral: the message's id and its handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """A message as Kafka delivered it, not decoded. ``offset`` is -1 for one from the database.

    ``headers_flaw`` states why its headers could not be read; it is empty as a rule, and for one from the database.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    offset: int = -1
    headers_flaw: str = ""

    @property
    def is_command(self) -> bool:
        """Return whether it is a command to this service, which no event blocks."""
        return is_command_topic(self.topic)


def is_command_topic(topic: str) -> bool:
    """Return whether a topic has commands."""
    return topic.endswith(".commands")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """One message that waits for one handler until ``due_at``; None where no time wakes it.

    Without ``due_at`` it is either blocked by an earlier message of its saga and goes on when that is handled, or
    parked: its dead letter is published, and an operator may redrive it. ``redrive`` counts how often one has.
    """

    message_id: str
    handler: str
    saga_id: str
    raw: RawMessage
    attempt: int
    due_at: datetime | None
    reason: str
    redrive: int = 0
    is_blocked: bool = False

    @property
    def key(self) -> Key:
        """Its key."""
        return self.message_id, self.handler

    @property
    def is_parked(self) -> bool:
        """Return whether it is parked until an operator redrives it or gives its saga up."""
        return self.due_at is None and not self.is_blocked


def deferred_table(metadata: MetaData) -> Table:
    """Return the deferred messages of a service's database."""
    return Table(
        "deferred",
        metadata,
        Column("message_id", Text, primary_key=True),
        Column("handler", Text, primary_key=True),
        Column("saga_id", Text, nullable=False),
        Column("topic", Text, nullable=False),
        Column("partition", SmallInteger, nullable=False),
        Column("headers", Text, nullable=False, comment="JSON pairs, bytes read as latin-1"),
        Column("payload", LargeBinary, nullable=False),
        Column("attempt", SmallInteger, nullable=False),
        Column("due_at", DateTime(timezone=True)),
        Column("reason", Text, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("redrive", SmallInteger, nullable=False, server_default="0"),
        Column("behind", Boolean, nullable=False, server_default="false"),
        Column("place", BigInteger, Identity(always=True), nullable=False, comment="the order within a saga"),
        Index("deferred_saga_id", "saga_id"),
        Index("deferred_due", "partition", "due_at"),
    )


COLUMNS = Columns.of(
    deferred_table(MetaData()),
    without=["created_at", "place"],
    sources={
        "topic": "raw.topic",
        "partition": "raw.partition",
        "headers": lambda each: headers_to_text(each.raw.headers),
        "payload": lambda each: each.raw.value or b"",
        "behind": "is_blocked",
    },
)
CHANGED = COLUMNS.only("attempt", "due_at", "reason", "redrive", "behind")
"""What a message that is deferred again may change of its row."""

SAVE = Statement(f"""
    INSERT INTO deferred ({COLUMNS.names}, created_at)
    SELECT {COLUMNS.values}, %(now)s
    FROM {COLUMNS.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT (message_id, handler) DO UPDATE
    SET {CHANGED.excluded_assignments}
""")

REMOVE = Statement("""
    DELETE FROM deferred
    USING unnest(CAST(%(message_ids)s AS text[]), CAST(%(handlers)s AS text[])) AS row (message_id, handler)
    WHERE deferred.message_id = row.message_id AND deferred.handler = row.handler
""")

RENAME = Statement("""
    UPDATE deferred SET message_id = %(new_message_id)s, handler = %(new_handler)s
    WHERE message_id = %(message_id)s AND handler = %(handler)s
""")

DUE = Statement(f"""
    SELECT {COLUMNS.names}
    FROM deferred
    WHERE partition = ANY(CAST(%(partitions)s AS smallint[])) AND due_at <= %(now)s
    ORDER BY due_at, place
    LIMIT %(limit)s
""")

WAKE_SETTLED = Statement("""
    UPDATE deferred
    SET due_at = %(now)s
    FROM effects
    WHERE deferred.partition = ANY(CAST(%(partitions)s AS smallint[])) AND deferred.due_at IS NULL
      AND effects.saga_id = deferred.saga_id AND effects.step = deferred.handler AND effects.state <> 'STARTED'
""")

LOAD = Statement(f"""
    SELECT {COLUMNS.names}
    FROM deferred
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
    ORDER BY saga_id, place
    FOR UPDATE
""")


def load(tx: Connection, saga_ids: Iterable[str]) -> list[Deferral]:
    """Return and lock everything that waits for these sagas, for each in the order in which it came."""
    return [_deferral(row) for row in LOAD.rows(tx, {"saga_ids": sorted(set(saga_ids))})]


def save(tx: Connection, deferrals: Sequence[Deferral], *, now: datetime) -> None:
    """Defer these messages in this transaction; one that is deferred already keeps its position in its saga."""
    if deferrals:
        SAVE.run(tx, COLUMNS.parameters(deferrals) | {"now": now})


def remove(tx: Connection, keys: Collection[Key]) -> None:
    """Delete deferrals: they were handled in this transaction."""
    if keys:
        REMOVE.run(tx, {"message_ids": [key[0] for key in keys], "handlers": [key[1] for key in keys]})


def rename(tx: Connection, names: Mapping[Key, Key]) -> None:
    """Change the keys of deferrals; each keeps its position."""
    for old, new in names.items():
        values = {"message_id": old[0], "handler": old[1], "new_message_id": new[0], "new_handler": new[1]}
        RENAME.run(tx, values)


def due(tx: Connection, partitions: Collection[int], *, now: datetime, limit: int) -> list[Deferral]:
    """Return due deferrals of these partitions, the longest overdue first.

    They are not locked: the batch that handles them loads them again with their sagas' effects, and skips what is
    gone.
    """
    rows = DUE.rows(tx, {"partitions": list(partitions), "now": now, "limit": limit})
    return [_deferral(row) for row in rows]


def wake_settled(tx: Connection, partitions: Collection[int], *, now: datetime) -> int:
    """Make deferrals due that have no due time although their step is settled; return how many.

    A process that lost its partition in mid-transaction may settle a step while the new owner parks the step's trigger,
    or blocks it behind a parked message: neither sees the other's row before both have committed. Such a trigger would
    wait for ever, and block what comes later.
    """
    return WAKE_SETTLED.submit(tx, {"partitions": list(partitions), "now": now}).change_count()


def _deferral(row: Row[Any]) -> Deferral:
    raw = RawMessage(
        topic=row.topic,
        partition=row.partition,
        key=row.saga_id.encode(),
        value=bytes(row.payload),
        headers=headers_from_text(row.headers),
    )
    return Deferral(
        message_id=row.message_id,
        handler=row.handler,
        saga_id=row.saga_id,
        raw=raw,
        attempt=row.attempt,
        due_at=row.due_at,
        reason=row.reason,
        redrive=row.redrive,
        is_blocked=row.behind,
    )
