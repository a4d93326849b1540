"""The sagas as they are stored. PostgreSQL is the truth: nothing about a saga is stored elsewhere.

Whole batches go through single statements; rows are locked in the order of their saga id everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import PendingResult, Statement
from saga_tracker.model.decision import SagaState
from saga_tracker.model.facts import KEPT_MAX, Progress
from saga_tracker.model.records import from_record, to_record
from saga_tracker.store import rollups
from saga_tracker.store.conflicts import Overtaken
from saga_tracker.store.rollups import Counted
from saga_tracker.store.schema import SAGAS, SOUGHT_FOR_ORPHANS

_encode = json.JSONEncoder(separators=(",", ":")).encode

A_DEFINITION = "a definition"
"""What a saga waits for whose definition this release lacks."""


@dataclass(slots=True, kw_only=True)
class SagaRow:
    """One saga as it is stored. ``issued`` is the last attempt of each command that went into the outbox.

    ``pending`` is the latest decision about it, until it is read back from Kafka. Nothing is sent meanwhile.
    """

    saga_id: str
    saga_type: str
    saga_version: int
    subject: str | None = None
    state: str = SagaState.PENDING.value
    phase: str = ""
    step: str = ""
    cause: str | None = None
    reason: str | None = None
    partition: int
    progress: Progress
    issued: dict[str, int] = field(default_factory=dict)
    pending: str | None = None
    waiting: str | None = None
    deadline_at: datetime | None = None
    traceparent: str | None = None
    version: int = 0
    started_at: datetime
    finished_at: datetime | None = None
    parked_at: datetime | None = None
    awaits_since: datetime | None = None
    contradicted_at: datetime | None = None
    settled_at: datetime | None = None
    settled_by: str | None = None
    counted: Counted | None = None
    """Under which key it is counted as it is stored (``store.rollups``); None until it is."""


@lru_cache(KEPT_MAX)
def _known_text(progress: Progress) -> str:
    return _encode(to_record(progress))


def _progress_text(row: SagaRow) -> str:
    pending = "" if row.pending is None else f',"pending":{_encode(row.pending)}'
    return f'{{"known":{_known_text(row.progress)},"issued":{_encode(row.issued)}{pending}}}'


_saga_id = attrgetter("saga_id")
COLUMNS = Columns.of(SAGAS, without=["wake_at", "updated_at"], sources={"progress": _progress_text})
CHANGED = COLUMNS.without("saga_type", "saga_version", "partition", "traceparent")
_READ = COLUMNS.names.replace("progress", "CAST(progress AS text) AS progress")

LOAD = Statement(f"""
    SELECT {_READ}
    FROM sagas
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
""")

_WOKEN = """
    FROM sagas
    JOIN unnest(CAST(:partitions AS smallint[]), CAST(:until AS timestamptz[])) AS due (partition, until)
        USING (partition)
    WHERE wake_at <= :latest AND wake_at <= due.until
"""
"""``latest`` bounds the scan of the index, and the order is the index's. By saga id, every saga was read."""

LOAD_DUE = text(f"""
    SELECT {_READ}
    {_WOKEN} AND deadline_at <= due.until
    ORDER BY wake_at, saga_id
    LIMIT :limit
    FOR UPDATE OF sagas SKIP LOCKED
""")

PUT_OFF = text(f"""
    UPDATE sagas
    SET wake_at = deadline_at
    WHERE saga_id = ANY(ARRAY(
        SELECT saga_id
        {_WOKEN} AND (deadline_at > due.until OR deadline_at IS NULL)
        ORDER BY wake_at, saga_id
        LIMIT :limit
        FOR UPDATE OF sagas SKIP LOCKED
    ))
""")

WAKE_IN_TIME = text(f"""
    UPDATE sagas
    SET wake_at = deadline_at
    WHERE {SOUGHT_FOR_ORPHANS}
      AND state = 'PENDING' AND partition = ANY(CAST(:partitions AS smallint[]))
      AND deadline_at < coalesce(wake_at, 'infinity')
""")

LOAD_ORPHANS = text(f"""
    SELECT {_READ}
    FROM sagas
    WHERE {SOUGHT_FOR_ORPHANS}
      AND partition = ANY(CAST(:partitions AS smallint[]))
      AND ((state = 'PENDING' AND ((deadline_at IS NULL AND awaits_since IS NULL) OR deadline_at > :beyond))
           OR (state = 'NEEDS_REVIEW' AND coalesce(reason, '') = '')
           OR (state = 'NEEDS_REVIEW' AND waiting = :definition
               AND (saga_type, saga_version) IN (SELECT * FROM unnest(CAST(:types AS text[]),
                                                                      CAST(:versions AS smallint[])))))
    ORDER BY state, started_at, saga_id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")
"""In the order of an index that begins with the state. In the order of saga ids every saga was read to find none."""

LOAD_UNDECIDED = text(f"""
    SELECT {_READ}
    FROM sagas
    WHERE phase = '' AND saga_id > :after
    ORDER BY saga_id
    LIMIT :limit
""")

INSERT = Statement(f"""
    INSERT INTO sagas ({COLUMNS.names}, wake_at, updated_at)
    SELECT {COLUMNS.values}, deadline_at, %(now)s
    FROM {COLUMNS.rows}
    ON CONFLICT (saga_id) DO NOTHING
""")

UPDATE = Statement(f"""
    UPDATE sagas
    SET {CHANGED.assignments}, updated_at = %(now)s,
        wake_at = CASE WHEN row.deadline_at IS NOT NULL THEN least(sagas.wake_at, row.deadline_at) END
    FROM {CHANGED.rows}
    WHERE sagas.saga_id = row.saga_id AND sagas.version = row.version - 1
""")
"""While ``wake_at`` is unchanged no index is updated (HOT). It changes when it is due and when the saga ends."""


def load(tx: Connection, saga_ids: Iterable[str]) -> dict[str, SagaRow]:
    """Load these sagas; one that is not stored yet is missing.

    They are not locked, which would cost as much as storing them: :func:`save` finds out whether they have changed.
    """
    rows = LOAD.rows(tx, {"saga_ids": list(set(saga_ids))})
    return {row.saga_id: _saga_row(row._asdict()) for row in rows}


def load_due(tx: Connection, until: Mapping[int, datetime], *, limit: int) -> list[SagaRow]:
    """Load and lock the sagas whose deadline is at or before ``until``, by partition: everything before is recorded."""
    rows = tx.execute(LOAD_DUE, _by_partition(until) | {"limit": limit})
    return [_saga_row(row._asdict()) for row in rows]


def wake_in_time(tx: Connection, partitions: Collection[int]) -> None:
    """Set ``wake_at`` where it is missing or after the deadline: releases before this column stored none."""
    tx.execute(WAKE_IN_TIME, {"partitions": list(partitions)})


def load_orphans(
    tx: Connection, partitions: Collection[int], known: Collection[tuple[str, int]], *, beyond: datetime, limit: int
) -> list[SagaRow]:
    """Load and lock sagas that no deadline and no operator's list would ever bring up.

    They are under way without a deadline, unless they await an outcome that comes later; or with a deadline ``beyond``
    any that is ever set; or parked without a reason; or parked because their definition was missing, which is ``known``
    by now.
    """
    rows = tx.execute(
        LOAD_ORPHANS,
        {
            "partitions": list(partitions),
            "beyond": beyond,
            "definition": A_DEFINITION,
            "types": [name for name, _ in known],
            "versions": [version for _, version in known],
            "limit": limit,
        },
    )
    return [_saga_row(row._asdict()) for row in rows]


def load_undecided(tx: Connection, *, after: str, limit: int) -> list[SagaRow]:
    """Return sagas that a rebuild has recorded and not decided about, in the order of their ids."""
    rows = tx.execute(LOAD_UNDECIDED, {"after": after, "limit": limit})
    return [_saga_row(row._asdict()) for row in rows]


def save(tx: Connection, rows: Sequence[SagaRow], *, now: datetime) -> None:
    """Store these sagas, the changed and the new, in one statement each, and count them. Raises Overtaken.

    The version shows whether another worker has stored one since it was loaded, or begun the same one.
    """
    pending: list[tuple[PendingResult, int]] = []
    changed, new = [row for row in rows if row.version], [row for row in rows if not row.version]
    for statement, columns, chosen in ((UPDATE, CHANGED, changed), (INSERT, COLUMNS, new)):
        if not chosen:
            continue
        ordered = sorted(chosen, key=_saga_id)
        for row in ordered:
            row.version += 1
        pending.append((statement.submit(tx, columns.parameters(ordered) | {"now": now}), len(ordered)))
    rollups.add(tx, rollups.moves(rows))
    if any(each.change_count() != expected for each, expected in pending):
        raise Overtaken("Another worker has stored one of these sagas meanwhile; its changes would be lost.")


def put_off(tx: Connection, until: Mapping[int, datetime], *, limit: int) -> None:
    """Postpone ``wake_at`` of sagas that are due and whose deadline has moved later, or is gone, since it was set."""
    tx.execute(PUT_OFF, _by_partition(until) | {"limit": limit})


def _by_partition(until: Mapping[int, datetime]) -> dict[str, object]:
    return {"partitions": list(until), "until": list(until.values()), "latest": max(until.values(), default=None)}


def _saga_row(columns: Mapping[str, Any]) -> SagaRow:
    progress, issued, pending = _read_progress(columns["progress"])
    row = SagaRow(**{**columns, "progress": progress, "issued": dict(issued), "pending": pending})
    row.counted = rollups.counted_of(row)
    return row


@lru_cache(KEPT_MAX)
def _read_progress(text: str) -> tuple[Progress, Mapping[str, int], str | None]:
    stored = json.loads(text)
    return from_record(stored["known"]), stored["issued"], stored.get("pending")
