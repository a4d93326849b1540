"""Messages to be handled again: at a due time, or (with none) held until an operator or a fence asks for them.

A retry is a row in the service's own database, so a partition never waits for one order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

from messaging.envelope import Headers
from messaging.outbox import headers_from_text, headers_to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class RawMessage:
    """A message as Kafka gave it: nothing is decoded, nothing is lost."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferral:
    """One message that waits for one handler. ``due_at`` None: held, nobody will wake it by time."""

    message_id: str
    handler: str
    saga_id: str
    raw: RawMessage
    attempt: int
    due_at: datetime | None
    reason: str


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
        Index("deferred_saga_id", "saga_id"),
        Index("deferred_due", "partition", "due_at"),
    )


SAVE = text("""
    INSERT INTO deferred
        (message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, created_at)
    SELECT message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason, :now
    FROM unnest(CAST(:message_ids AS text[]), CAST(:handlers AS text[]), CAST(:saga_ids AS text[]),
                CAST(:topics AS text[]), CAST(:partitions AS smallint[]), CAST(:headers AS text[]),
                CAST(:payloads AS bytea[]), CAST(:attempts AS smallint[]), CAST(:dues AS timestamptz[]),
                CAST(:reasons AS text[]))
        AS row (message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason)
    ON CONFLICT (message_id, handler)
    DO UPDATE SET attempt = excluded.attempt, due_at = excluded.due_at, reason = excluded.reason
""")

REMOVE = text("""
    DELETE FROM deferred
    USING unnest(CAST(:message_ids AS text[]), CAST(:handlers AS text[])) AS row (message_id, handler)
    WHERE deferred.message_id = row.message_id AND deferred.handler = row.handler
""")

DUE = text("""
    SELECT message_id, handler, saga_id, topic, partition, headers, payload, attempt, due_at, reason
    FROM deferred
    WHERE partition = ANY(CAST(:partitions AS smallint[])) AND due_at <= :now
    ORDER BY due_at
    LIMIT :limit
""")

ADVANCE = text("""
    UPDATE deferred SET due_at = :now
    WHERE saga_id = :saga_id AND handler = ANY(CAST(:handlers AS text[])) AND (due_at IS NULL OR due_at > :now)
""")

WAKE = text("""
    UPDATE deferred SET due_at = :now
    WHERE saga_id = ANY(CAST(:saga_ids AS text[])) AND (due_at IS NULL OR due_at > :now)
""")


def save(tx: Connection, deferrals: Sequence[Deferral], *, now: datetime) -> None:
    """Defer these messages in this transaction; one that is deferred already gets the new attempt and due time."""
    if not deferrals:
        return
    tx.execute(
        SAVE,
        {
            "message_ids": [each.message_id for each in deferrals],
            "handlers": [each.handler for each in deferrals],
            "saga_ids": [each.saga_id for each in deferrals],
            "topics": [each.raw.topic for each in deferrals],
            "partitions": [each.raw.partition for each in deferrals],
            "headers": [headers_to_text(each.raw.headers) for each in deferrals],
            "payloads": [each.raw.value or b"" for each in deferrals],
            "attempts": [each.attempt for each in deferrals],
            "dues": [each.due_at for each in deferrals],
            "reasons": [each.reason for each in deferrals],
            "now": now,
        },
    )


def remove(tx: Connection, keys: Collection[tuple[str, str]]) -> None:
    """Remove deferrals by (message id, handler): they were handled in this transaction."""
    if keys:
        tx.execute(REMOVE, {"message_ids": [key[0] for key in keys], "handlers": [key[1] for key in keys]})


def due(tx: Connection, partitions: Collection[int], *, now: datetime, limit: int) -> list[Deferral]:
    """Return due deferrals of these partitions, the longest overdue first.

    They are not locked: one process owns the partition, and a second one would meet the effect's own lock.
    """
    rows = tx.execute(DUE, {"partitions": list(partitions), "now": now, "limit": limit})
    return [
        Deferral(
            message_id=row.message_id,
            handler=row.handler,
            saga_id=row.saga_id,
            raw=RawMessage(
                topic=row.topic,
                partition=row.partition,
                key=row.saga_id.encode(),
                value=bytes(row.payload),
                headers=headers_from_text(row.headers),
            ),
            attempt=row.attempt,
            due_at=row.due_at,
            reason=row.reason,
        )
        for row in rows
    ]


def advance(tx: Connection, saga_id: str, handlers: Sequence[str], *, now: datetime) -> None:
    """Make what these handlers have deferred for the saga due now, also what is held."""
    tx.execute(ADVANCE, {"saga_id": saga_id, "handlers": list(handlers), "now": now})


def wake(tx: Connection, saga_ids: Iterable[str], *, now: datetime) -> None:
    """Make everything that waits for these sagas due now: what it waited for has happened."""
    wanted = sorted(set(saga_ids))
    if wanted:
        tx.execute(WAKE, {"saga_ids": wanted, "now": now})
