"""The tracker's tables, and every statement on them. PostgreSQL is the truth: nothing about a saga lives elsewhere.

Whole batches go through single statements; rows are locked in the order of their saga id everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeAlias

from chassis.postgres.statement import PendingResult, Statement
from sqlalchemy import Connection, TextClause, text

from saga_tracker.model.facts import KEPT_MAX, Progress, from_record, to_record
from saga_tracker.model.progress import SagaState
from saga_tracker.store.schema import METADATA as METADATA

TopicPartition: TypeAlias = tuple[str, int]
"""A partition of a topic."""


_encode = json.JSONEncoder(separators=(",", ":")).encode

A_DEFINITION = "a definition"
"""What a saga waits for that follows one which this release lacks."""


class Overtaken(Exception):
    """Another worker has stored something since it was read; the same again, by what is stored now, sees it."""


@dataclass(slots=True, kw_only=True)
class SagaRow:
    """One saga as it is stored. ``issued`` is the last attempt of each command that went into the outbox."""

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
    waiting: str | None = None
    deadline_at: datetime | None = None
    traceparent: str | None = None
    version: int = 0
    started_at: datetime
    finished_at: datetime | None = None
    parked_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Entry:
    """One line of a saga's timeline: a message, a timer or an act. ``service`` is who sent it."""

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


_saga_id = attrgetter("saga_id")
_SAGA_COLUMNS = """saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition, progress,
           waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at"""
_READ_COLUMNS = _SAGA_COLUMNS.replace("progress,", "CAST(progress AS text) AS progress,")

LOAD = Statement(f"""
    SELECT {_READ_COLUMNS}
    FROM sagas
    WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[]))
""")

_WOKEN = """
    FROM sagas
    JOIN unnest(CAST(:partitions AS smallint[]), CAST(:until AS timestamptz[])) AS due (partition, until)
        USING (partition)
    WHERE wake_at <= :latest AND wake_at <= due.until
"""
"""``latest`` bounds what is read of the index, and the order is the index's: by saga, it was every saga."""

LOAD_DUE = text(f"""
    SELECT {_READ_COLUMNS}
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

DUE_STEPS = text(f"SELECT DISTINCT step {_WOKEN} AND deadline_at <= due.until")

PLACES = text("""
    SELECT saga_id, topic, partition, "offset"
    FROM timeline
    JOIN unnest(CAST(:saga_ids AS text[]), CAST(:types AS text[])) AS row (saga_id, type) USING (saga_id, type)
    WHERE topic IS NOT NULL AND "offset" IS NOT NULL
""")

WAKE_IN_TIME = text("""
    UPDATE sagas
    SET wake_at = deadline_at
    WHERE state = 'PENDING' AND partition = ANY(CAST(:partitions AS smallint[]))
      AND deadline_at < coalesce(wake_at, 'infinity')
""")

LOAD_ORPHANS = text(f"""
    SELECT {_READ_COLUMNS}
    FROM sagas
    WHERE state IN ('PENDING', 'NEEDS_REVIEW') AND partition = ANY(CAST(:partitions AS smallint[]))
      AND ((state = 'PENDING' AND (deadline_at IS NULL OR deadline_at > :beyond))
           OR (state = 'NEEDS_REVIEW' AND coalesce(reason, '') = '')
           OR (state = 'NEEDS_REVIEW' AND waiting = :definition
               AND (saga_type, saga_version) IN (SELECT * FROM unnest(CAST(:types AS text[]),
                                                                      CAST(:versions AS smallint[])))))
    ORDER BY state, started_at, saga_id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
""")
"""In the order of an index that leads with the state; by saga, every saga was read to find none."""

_SAVED_ROWS = """unnest(
                CAST(%(saga_id)s AS text[]), CAST(%(saga_type)s AS text[]), CAST(%(saga_version)s AS smallint[]),
                CAST(%(subject)s AS text[]), CAST(%(state)s AS text[]), CAST(%(phase)s AS text[]),
                CAST(%(step)s AS text[]), CAST(%(cause)s AS text[]), CAST(%(reason)s AS text[]),
                CAST(%(partition)s AS smallint[]),
                CAST(%(progress)s AS text[]), CAST(%(waiting)s AS text[]), CAST(%(deadline_at)s AS timestamptz[]),
                CAST(%(traceparent)s AS text[]), CAST(%(version)s AS integer[]), CAST(%(started_at)s AS timestamptz[]),
                CAST(%(finished_at)s AS timestamptz[]), CAST(%(parked_at)s AS timestamptz[]))"""

INSERT = Statement(f"""
    INSERT INTO sagas ({_SAGA_COLUMNS}, wake_at, updated_at)
    SELECT saga_id, saga_type, saga_version, subject, state, phase, step, cause, reason, partition,
           CAST(progress AS jsonb), waiting, deadline_at, traceparent, version, started_at, finished_at, parked_at,
           deadline_at, %(now)s
    FROM {_SAVED_ROWS} AS row ({_SAGA_COLUMNS})
    ON CONFLICT (saga_id) DO NOTHING
""")

UPDATE = Statement("""
    UPDATE sagas
    SET subject = row.subject, state = row.state, phase = row.phase, step = row.step, cause = row.cause,
        reason = row.reason, progress = CAST(row.progress AS jsonb), waiting = row.waiting,
        deadline_at = row.deadline_at, version = row.version, started_at = row.started_at,
        finished_at = row.finished_at, parked_at = row.parked_at, updated_at = %(now)s,
        wake_at = CASE WHEN row.deadline_at IS NOT NULL THEN least(sagas.wake_at, row.deadline_at) END
    FROM unnest(CAST(%(saga_id)s AS text[]), CAST(%(subject)s AS text[]), CAST(%(state)s AS text[]),
                CAST(%(phase)s AS text[]), CAST(%(step)s AS text[]), CAST(%(cause)s AS text[]),
                CAST(%(reason)s AS text[]), CAST(%(progress)s AS text[]), CAST(%(waiting)s AS text[]),
                CAST(%(deadline_at)s AS timestamptz[]), CAST(%(version)s AS integer[]),
                CAST(%(started_at)s AS timestamptz[]), CAST(%(finished_at)s AS timestamptz[]),
                CAST(%(parked_at)s AS timestamptz[]))
         AS row (saga_id, subject, state, phase, step, cause, reason, progress, waiting, deadline_at, version,
                 started_at, finished_at, parked_at)
    WHERE sagas.saga_id = row.saga_id AND sagas.version = row.version - 1
""")
"""Where ``wake_at`` stays as it is PostgreSQL touches no index (HOT): it moves when it has come, and in the end."""

INSERT_ENTRIES = Statement("""
    INSERT INTO timeline (saga_id, message_id, recorded_at, occurred_at, kind, type, service, step, attempt,
                          causation_id, late, deadline_at, detail, topic, partition, "offset")
    SELECT saga_id, message_id, %(now)s, occurred_at, kind, type, service, step, attempt,
           causation_id, late, deadline_at, detail, topic, partition, "offset"
    FROM unnest(CAST(%(saga_id)s AS text[]), CAST(%(message_id)s AS text[]), CAST(%(occurred_at)s AS timestamptz[]),
                CAST(%(kind)s AS text[]), CAST(%(type)s AS text[]), CAST(%(service)s AS text[]),
                CAST(%(step)s AS text[]), CAST(%(attempt)s AS smallint[]), CAST(%(causation_id)s AS text[]),
                CAST(%(late)s AS boolean[]),
                CAST(%(deadline_at)s AS timestamptz[]), CAST(%(detail)s AS text[]), CAST(%(topic)s AS text[]),
                CAST(%(partition)s AS smallint[]), CAST(%(offset)s AS bigint[]))
         WITH ORDINALITY AS row (saga_id, message_id, occurred_at, kind, type, service, step, attempt, causation_id,
                                 late, deadline_at, detail, topic, partition, "offset", place)
    ORDER BY place
    ON CONFLICT DO NOTHING
""")

_INSERTED = tuple(name for name in SagaRow.__slots__ if name not in ("progress", "issued"))
_UPDATED = tuple(name for name in _INSERTED if name not in ("saga_type", "saga_version", "partition", "traceparent"))

_STORED_OFFSETS = """
    SELECT topic, partition, next_offset
    FROM consumed_offsets
    JOIN unnest(CAST(:topics AS text[]), CAST(:partitions AS smallint[])) AS row (topic, partition)
        USING (topic, partition)
"""
LOAD_OFFSETS = text(_STORED_OFFSETS)
LOCK_OFFSETS = text(_STORED_OFFSETS + "ORDER BY topic, partition FOR UPDATE OF consumed_offsets")

MOVE_OFFSETS = Statement("""
    UPDATE consumed_offsets
    SET next_offset = row.next_offset
    FROM unnest(CAST(%(topics)s AS text[]), CAST(%(partitions)s AS smallint[]), CAST(%(offsets)s AS bigint[]),
                CAST(%(stored)s AS bigint[]))
         AS row (topic, partition, next_offset, stored)
    WHERE consumed_offsets.topic = row.topic AND consumed_offsets.partition = row.partition
      AND consumed_offsets.next_offset = row.stored
""")

BEGIN_OFFSETS = text("""
    INSERT INTO consumed_offsets (topic, partition, next_offset)
    SELECT topic, partition, next_offset
    FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS smallint[]), CAST(:offsets AS bigint[]))
         AS row (topic, partition, next_offset)
    ON CONFLICT DO NOTHING
""")

RAISE_WATERMARKS = text("""
    INSERT INTO watermarks (partition, recorded_until)
    SELECT partition, recorded_until
    FROM unnest(CAST(:partitions AS smallint[]), CAST(:until AS timestamptz[])) AS row (partition, recorded_until)
    ON CONFLICT (partition) DO UPDATE
    SET recorded_until = greatest(watermarks.recorded_until, excluded.recorded_until)
""")


def load(tx: Connection, saga_ids: Iterable[str]) -> dict[str, SagaRow]:
    """Load these sagas; one that is not stored yet is missing from the answer.

    They are not locked, which would cost as much as storing them: whoever stores them sees whether they have changed.
    """
    rows = LOAD.rows(tx, {"saga_ids": list(set(saga_ids))})
    return {row.saga_id: _saga_row(row._asdict()) for row in rows}


def load_due(tx: Connection, until: Mapping[int, datetime], *, limit: int) -> list[SagaRow]:
    """Load and lock the sagas whose deadline passed, by partition: only what is recorded up to then can be judged."""
    rows = tx.execute(LOAD_DUE, _by_partition(until) | {"limit": limit})
    return [_saga_row(row._asdict()) for row in rows]


def due_steps(tx: Connection, until: Mapping[int, datetime]) -> set[str]:
    """Return the steps at which the sagas stand that :func:`load_due` would find."""
    rows = tx.execute(DUE_STEPS, _by_partition(until))
    return {row.step for row in rows}


def places_of(tx: Connection, types: Mapping[str, str]) -> dict[str, tuple[TopicPartition, int]]:
    """Return the partition and offset of each saga's message of the given type; missing where they are unknown."""
    if not types:
        return {}
    rows = tx.execute(PLACES, {"saga_ids": list(types), "types": list(types.values())})
    return {row.saga_id: ((row.topic, row.partition), row.offset) for row in rows}


def wake_in_time(tx: Connection, partitions: Collection[int]) -> None:
    """Let no saga sleep past its deadline: what the release before this column stored has no time to wake."""
    tx.execute(WAKE_IN_TIME, {"partitions": list(partitions)})


def load_orphans(
    tx: Connection, partitions: Collection[int], known: Collection[tuple[str, int]], *, beyond: datetime, limit: int
) -> list[SagaRow]:
    """Load and lock sagas that nobody would ever wake.

    Under way without a deadline, or with one ``beyond`` any that is ever set; parked without a reason; or parked for
    want of a definition that is ``known`` by now.
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


def save(tx: Connection, rows: Sequence[SagaRow], *, now: datetime) -> None:
    """Store these sagas, the changed and the new, in one statement each. Raises Overtaken.

    The version tells whether another worker has stored one since it was loaded, or begun the same one.
    """
    pending: list[tuple[PendingResult, int]] = []
    changed, new = [row for row in rows if row.version], [row for row in rows if not row.version]
    for statement, names, chosen in ((UPDATE, _UPDATED, changed), (INSERT, _INSERTED, new)):
        if not chosen:
            continue
        ordered = sorted(chosen, key=_saga_id)
        for row in ordered:
            row.version += 1
        columns: dict[str, object] = {name: [getattr(row, name) for row in ordered] for name in names}
        columns["progress"] = [
            f'{{"known":{_known_text(row.progress)},"issued":{_encode(row.issued)}}}' for row in ordered
        ]
        pending.append((statement.submit(tx, columns | {"now": now}), len(ordered)))
    if any(each.change_count() != expected for each, expected in pending):
        raise Overtaken("Another worker has stored one of these sagas meanwhile; what it knows would be lost.")


def put_off(tx: Connection, until: Mapping[int, datetime], *, limit: int) -> None:
    """Let sagas sleep on whose deadline has moved on, or is none any more, since their time to wake was written."""
    tx.execute(PUT_OFF, _by_partition(until) | {"limit": limit})


def _by_partition(until: Mapping[int, datetime]) -> dict[str, object]:
    return {"partitions": list(until), "until": list(until.values()), "latest": max(until.values(), default=None)}


def insert_entries(tx: Connection, entries: Sequence[Entry], *, now: datetime) -> None:
    """Add lines to timelines, in one statement; a message that is on its timeline already is passed over."""
    if entries:
        columns = {name: [getattr(entry, name) for entry in entries] for name in Entry.__slots__}
        INSERT_ENTRIES.run(tx, columns | {"now": now})


def offsets(tx: Connection, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the stored offsets of these partitions; one that was never consumed is missing."""
    return _offsets(tx, LOAD_OFFSETS, places)


def lock_offsets(tx: Connection, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Return the stored offsets of these partitions, and keep them locked until the commit."""
    return _offsets(tx, LOCK_OFFSETS, places)


def move_offsets(
    tx: Connection, stored: Mapping[TopicPartition, int], offsets: Mapping[TopicPartition, int]
) -> Callable[[], None]:
    """Move partitions on from where they are ``stored``.

    Call what is returned before the commit: it raises Overtaken where another worker has moved one.
    """
    moved = {place: offset for place, offset in offsets.items() if offset != stored[place]}
    if not moved:
        return lambda: None
    columns = _offset_columns(moved)
    columns["stored"] = [stored[place] for place in sorted(moved)]
    pending = MOVE_OFFSETS.submit(tx, columns)

    def check() -> None:
        if pending.change_count() != len(moved):
            raise Overtaken("Another worker has recorded some of these messages; they must not be recorded twice.")

    return check


def begin_offsets(tx: Connection, offsets: Mapping[TopicPartition, int]) -> None:
    """Store where partitions that were never consumed begin."""
    if offsets:
        tx.execute(BEGIN_OFFSETS, _offset_columns(offsets))


def _offsets(tx: Connection, statement: TextClause, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    rows = tx.execute(
        statement,
        {"topics": [topic for topic, _ in places], "partitions": [partition for _, partition in places]},
    )
    return {(row.topic, row.partition): row.next_offset for row in rows}


def _offset_columns(offsets: Mapping[TopicPartition, int]) -> dict[str, object]:
    ordered = sorted(offsets)
    return {
        "topics": [topic for topic, _ in ordered],
        "partitions": [partition for _, partition in ordered],
        "offsets": [offsets[place] for place in ordered],
    }


def raise_watermarks(tx: Connection, until: Mapping[int, datetime]) -> None:
    """Say up to when everything is recorded, by partition; a watermark never falls."""
    if until:
        ordered = dict(sorted(until.items()))
        tx.execute(RAISE_WATERMARKS, {"partitions": list(ordered), "until": list(ordered.values())})


def _saga_row(columns: Mapping[str, Any]) -> SagaRow:
    progress, issued = _read_progress(columns["progress"])
    return SagaRow(**{**columns, "progress": progress, "issued": dict(issued)})


@lru_cache(KEPT_MAX)
def _known_text(progress: Progress) -> str:
    return _encode(to_record(progress))


@lru_cache(KEPT_MAX)
def _read_progress(text: str) -> tuple[Progress, Mapping[str, int]]:
    stored = json.loads(text)
    return from_record(stored["known"]), stored["issued"]
