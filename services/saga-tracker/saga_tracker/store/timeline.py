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
    JOIN unnest(CAST(:saga_ids AS text[]), CAST(:types AS text[])) AS row (saga_id, type) USING (saga_id, type)
    WHERE topic IS NOT NULL AND "offset" IS NOT NULL
""")


def insert(tx: Connection, entries: Sequence[Entry], *, now: datetime) -> None:
    """Add entries to timelines, in one statement; a message that is on its timeline already is passed over."""
    if entries:
        INSERT.run(tx, COLUMNS.parameters(entries) | {"now": now})


def positions_of(tx: Connection, types: Mapping[str, str]) -> dict[str, tuple[TopicPartition, int]]:
    """Return the partition and offset of each saga's message of the given type; missing where they are unknown."""
    if not types:
        return {}
    rows = tx.execute(POSITIONS, {"saga_ids": list(types), "types": list(types.values())})
    return {row.saga_id: ((row.topic, row.partition), row.offset) for row in rows}
