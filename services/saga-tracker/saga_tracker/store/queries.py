"""The queries of one saga for the HTTP API. They only read; every query has a limit and an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from saga_tracker.definitions import DEFINITIONS
from saga_tracker.model.facts import Progress
from saga_tracker.model.records import from_record
from saga_tracker.store.schema import SAGAS, TIMELINE, WATERMARKS

ENTRIES_MAX = 1_000
"""A saga has some twenty entries. One with more than this has been redriven for days; ``after`` returns the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A saga in one row. ``subject`` is whom it is about: None until its starting event is recorded.

    ``subject_kind`` is what the subject is (a customer), by the saga's definition. ``customer`` is the subject under
    the name that it had first. ``awaits_since``: since when it waits for an outcome that comes later.
    ``contradicted_at``: since when a person has to settle that a provider contradicted itself, until ``settled_at``.
    ``version`` is the version of the definition; ``revision`` counts the changes of the saga. ``traceparent`` leads to
    its trace.
    """

    saga_id: str
    type: str
    version: int
    subject: str | None
    subject_kind: str | None
    customer: str | None
    state: str
    phase: str
    step: str
    cause: str | None
    reason: str | None
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    deadline_at: datetime | None
    waiting: str | None
    parked_at: datetime | None
    awaits_since: datetime | None
    contradicted_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    traceparent: str | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaView:
    """A saga with its progress; ``partition`` is its partition number on every topic."""

    summary: Summary
    progress: Progress
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One message, timer or act. ``seq`` orders the entries of a saga by when they were recorded."""

    seq: int
    message_id: str
    kind: str
    type: str
    service: str
    step: str | None
    attempt: int | None
    causation_id: str | None
    occurred_at: datetime
    recorded_at: datetime
    deadline_at: datetime | None
    late: bool
    detail: str | None
    topic: str | None
    partition: int | None
    offset: int | None


SUMMARY = (
    SAGAS.c.saga_id,
    SAGAS.c.saga_type.label("type"),
    SAGAS.c.saga_version.label("version"),
    SAGAS.c.subject,
    SAGAS.c.state,
    SAGAS.c.phase,
    SAGAS.c.step,
    SAGAS.c.cause,
    SAGAS.c.reason,
    SAGAS.c.started_at,
    SAGAS.c.updated_at,
    SAGAS.c.finished_at,
    SAGAS.c.deadline_at,
    SAGAS.c.waiting,
    SAGAS.c.parked_at,
    SAGAS.c.awaits_since,
    SAGAS.c.contradicted_at,
    SAGAS.c.settled_at,
    SAGAS.c.settled_by,
    SAGAS.c.traceparent,
    SAGAS.c.version.label("revision"),
)
_ENTRY = tuple(TIMELINE.c[name] for name in TimelineEntry.__slots__)
TERMINAL = ("CONFIRMED", "CANCELLED_COMPENSATED")


def saga(tx: Connection, saga_id: str) -> SagaView | None:
    """Return one saga, or None where none has that id."""
    return sagas(tx, [saga_id]).get(saga_id)


def sagas(tx: Connection, saga_ids: Sequence[str]) -> dict[str, SagaView]:
    """Return these sagas by their ids; one that is not stored is missing."""
    rows = tx.execute(select(*SUMMARY, SAGAS.c.progress, SAGAS.c.partition).where(SAGAS.c.saga_id.in_(saga_ids)))
    return {row.saga_id: _view(dict(row._mapping)) for row in rows}


def _view(columns: dict[str, Any]) -> SagaView:
    progress, partition = columns.pop("progress"), columns.pop("partition")
    return SagaView(summary=summary_of(columns), progress=from_record(progress["known"]), partition=partition)


def summary_of(columns: Mapping[str, Any]) -> Summary:
    """Return a saga's row, which was selected with ``SUMMARY``."""
    definition = DEFINITIONS.get((columns["type"], columns["version"]))
    about = None if definition is None else definition.subject
    kind = None if about is None else about.kind
    return Summary(**columns, subject_kind=kind, customer=columns["subject"])


def entries(tx: Connection, saga_id: str, *, after: int) -> list[TimelineEntry]:
    """Return the entries of a saga's timeline whose ``seq`` is greater than ``after``, in the order of recording."""
    query = (
        select(*_ENTRY)
        .where(TIMELINE.c.saga_id == saga_id, TIMELINE.c.seq > after)
        .order_by(TIMELINE.c.seq)
        .limit(ENTRIES_MAX)
    )
    rows: Sequence[Row[Any]] = tx.execute(query).all()
    return [TimelineEntry(**row._mapping) for row in rows]


def recorded_until(tx: Connection, partition: int | None = None) -> datetime | None:
    """Return the time before which everything is recorded, in one partition or in all; None where nothing ever was."""
    query = select(func.min(WATERMARKS.c.recorded_until))
    if partition is not None:
        query = query.where(WATERMARKS.c.partition == partition)
    found: datetime | None = tx.execute(query).scalar()
    return found
