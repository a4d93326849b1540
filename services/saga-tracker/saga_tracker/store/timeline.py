"""The timelines: every message, timer and act of a saga, in the order in which they were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from saga_tracker.store.consumed_offsets import TopicPartition
from saga_tracker.store.schema import TIMELINE


@dataclass(slots=True, kw_only=True)
class Entry:
    """One entry of a saga's timeline: a message, a timer or an act. ``service`` is the sender."""

    saga_id: str
    message_id: str
    occurred_at: datetime
    kind: str
    type: str
    service: str
    step: str | None = None
    attempt: int | None = None
    causation_id: str | None = None
    late: bool = False
    deadline_at: datetime | None = None
    detail: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


COLUMNS = Columns.of(TIMELINE, without=["seq", "recorded_at"])

INSERT = Statement(f"""
    INSERT INTO timeline ({COLUMNS.names}, recorded_at)
    SELECT {COLUMNS.values}, %(now)s
    FROM {COLUMNS.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT DO NOTHING
""")

POSITIONS = text("""
    SELECT saga_id, topic, partition, "offset"
    FROM timeline
    JOIN unnest(CAST(:saga_ids AS text[]), CAST(:types AS text[]), CAST(:topics AS text[]))
         AS row (saga_id, type, topic) USING (saga_id, type, topic)
    WHERE "offset" IS NOT NULL
""")


TYPES = text("""
    SELECT saga_id, type
    FROM timeline
    JOIN unnest(CAST(:saga_ids AS text[]), CAST(:types AS text[])) AS row (saga_id, type) USING (saga_id, type)
""")

KNOWN = text("""
    SELECT message_id
    FROM timeline
    JOIN unnest(CAST(:saga_ids AS text[]), CAST(:message_ids AS text[])) AS row (saga_id, message_id)
        USING (saga_id, message_id)
""")


def insert(tx: Connection, entries: Sequence[Entry], *, now: datetime) -> None:
    """Add entries to timelines, in one statement; a message that is on its timeline already is passed over."""
    if entries:
        INSERT.run(tx, COLUMNS.parameters(entries) | {"now": now})


def known(tx: Connection, entries: Sequence[tuple[str, str]]) -> set[str]:
    """Return the message ids of those of these entries, pairs of a saga's and a message's id, that are stored."""
    values = {"saga_ids": [saga_id for saga_id, _ in entries], "message_ids": [each for _, each in entries]}
    return set(tx.execute(KNOWN, values).scalars())


def types_of(tx: Connection, types: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return which of the given types each saga's timeline has; missing where it has none of them."""
    if not types:
        return {}
    pairs = [(saga_id, each) for saga_id, names in types.items() for each in names]
    rows = tx.execute(TYPES, {"saga_ids": [saga_id for saga_id, _ in pairs], "types": [each for _, each in pairs]})
    return {row.saga_id: row.type for row in rows}


def positions_of(tx: Connection, messages: Mapping[str, tuple[str, str]]) -> dict[str, tuple[TopicPartition, int]]:
    """Return the partition and offset of each saga's message of a type on a topic; missing where they are unknown.

    A dead letter of the message is on another topic.
    """
    if not messages:
        return {}
    values = {
        "saga_ids": list(messages),
        "types": [type_ for type_, _ in messages.values()],
        "topics": [topic for _, topic in messages.values()],
    }
    rows = tx.execute(POSITIONS, values)
    return {row.saga_id: ((row.topic, row.partition), row.offset) for row in rows}
