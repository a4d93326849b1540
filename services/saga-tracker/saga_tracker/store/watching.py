"""What is new of the sagas that people watch: one statement for all of them, however many watch. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, text

from saga_tracker.store.queries import ENTRIES_MAX, TimelineEntry

_ENTRY = ", ".join(f'entry."{name}" AS "entry_{name}"' for name in TimelineEntry.__slots__)

NEWS = text(f"""
    SELECT sagas.saga_id, sagas.version, sagas.state, {_ENTRY}
    FROM unnest(CAST(:saga_ids AS text[]), CAST(:after AS bigint[])) AS watched (saga_id, after)
    JOIN sagas ON sagas.saga_id = watched.saga_id
    LEFT JOIN LATERAL (
        SELECT * FROM timeline
        WHERE timeline.saga_id = watched.saga_id AND timeline.seq > watched.after
        ORDER BY timeline.seq
        LIMIT {ENTRIES_MAX}
    ) AS entry ON true
    ORDER BY sagas.saga_id, entry.seq
""")
"""State and entries are of one snapshot: of a saga that has ended, its last entry is here or was before."""

RECORDED_UNTIL = text("SELECT partition, recorded_until FROM watermarks")


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """A saga's state and revision now, and its entries since. Where there are ``ENTRIES_MAX``, more follow."""

    state: str
    revision: int
    entries: list[TimelineEntry] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether there are no entries beyond these."""
        return len(self.entries) < ENTRIES_MAX


def news(tx: Connection, after: Mapping[str, int]) -> dict[str, News]:
    """Return by saga what is new behind a ``seq`` each; one that is not stored is missing."""
    found: dict[str, News] = {}
    for row in tx.execute(NEWS, {"saga_ids": list(after), "after": list(after.values())}):
        columns = row._mapping
        each = found.setdefault(row.saga_id, News(state=row.state, revision=row.version))
        if row.entry_seq is not None:
            each.entries.append(TimelineEntry(**{name: columns[f"entry_{name}"] for name in TimelineEntry.__slots__}))
    return found


def recorded_until(tx: Connection) -> dict[int, datetime]:
    """Return the time before which everything is recorded, by partition."""
    return {row.partition: row.recorded_until for row in tx.execute(RECORDED_UNTIL)}
