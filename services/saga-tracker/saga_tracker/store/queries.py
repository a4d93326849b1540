"""The queries of the HTTP API. They only read; every query has a limit and an index."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, tuple_

from chassis.values.text import normal
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.model.facts import Progress
from saga_tracker.model.records import from_record
from saga_tracker.store.schema import REFERENCES, SAGAS, TIMELINE, UNSETTLED, WATERMARKS

PAGE_SIZE_MAX = 200
ENTRIES_MAX = 1_000
"""A saga has some twenty entries. One with more than this has been redriven for days; ``after`` returns the rest."""
REFERRED_MAX = 1_000
"""Sagas of one reference that are looked at. A number of a payment or a shipment has one."""
CURSOR = re.compile(r"(\S{1,40}) ([0-9A-Za-z_-]{1,64})")


class InvalidCursor(ValueError):
    """No page has returned this cursor; send ``next_cursor`` unchanged, or none for the first page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A saga in one row. ``subject`` is whom it is about: None until its starting event is recorded.

    ``subject_kind`` is what the subject is (a customer), by the saga's definition. ``customer`` is the subject under
    the name that it had first. ``awaits_since``: since when it waits for an outcome that comes later.
    ``contradicted_at``: since when a person has to settle that a provider contradicted itself, until ``settled_at``.
    ``version`` is the version of the definition; ``revision`` counts the changes of the saga.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which sagas to return. None matches every value."""

    state: str | None = None
    subject: str | None = None
    step: str | None = None
    type: str | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None
    references: Collection[str] = ()
    """Only those with one of these references, as they are stored, or with one of them as their id."""
    is_awaiting: bool = False
    """Only those that wait for an outcome that comes later."""
    is_unsettled: bool = False
    """Only those with a contradiction that a person has to settle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some sagas, the newest first, and the cursor of the next page; None on the last page."""

    sagas: list[Summary]
    next_cursor: str | None


_SUMMARY = (
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
    SAGAS.c.version.label("revision"),
)
_ENTRY = tuple(TIMELINE.c[name] for name in TimelineEntry.__slots__)
TERMINAL = ("CONFIRMED", "CANCELLED_COMPENSATED")


def page(tx: Connection, filters: Filters, *, cursor: str | None, limit: int) -> Page:
    """Return a page of sagas, the newest first. Raises InvalidCursor."""
    query = select(*_SUMMARY).where(*_conditions(filters))
    if filters.references:
        query = query.where(SAGAS.c.saga_id.in_(_referred(tx, filters.references)))
    if cursor is not None:
        query = query.where(tuple_(SAGAS.c.started_at, SAGAS.c.saga_id) < tuple_(*read_cursor(cursor)))
    query = query.order_by(SAGAS.c.started_at.desc(), SAGAS.c.saga_id.desc()).limit(limit + 1)
    found = [_summary(dict(row._mapping)) for row in tx.execute(query)]
    sagas = found[:limit]
    return Page(sagas=sagas, next_cursor=cursor_of(sagas[-1]) if len(found) > limit else None)


def _referred(tx: Connection, values: Collection[str]) -> list[str]:
    """Return the ids of the sagas with one of these references, and the values themselves, which may be ids.

    They are read first: with a list of ids PostgreSQL goes by the primary key, with a subquery it may read every saga.
    Of more than ``REFERRED_MAX`` those with the newest ids are found.
    """
    query = select(REFERENCES.c.saga_id).where(REFERENCES.c.value.in_(sorted(values))).distinct()
    newest = query.order_by(REFERENCES.c.saga_id.desc()).limit(REFERRED_MAX)
    return sorted({*tx.execute(newest).scalars(), *values})


def saga(tx: Connection, saga_id: str) -> SagaView | None:
    """Return one saga, or None where none has that id."""
    row = tx.execute(select(*_SUMMARY, SAGAS.c.progress, SAGAS.c.partition).where(SAGAS.c.saga_id == saga_id)).first()
    if row is None:
        return None
    columns = dict(row._mapping)
    progress, partition = columns.pop("progress"), columns.pop("partition")
    return SagaView(summary=_summary(columns), progress=from_record(progress["known"]), partition=partition)


def _summary(columns: Mapping[str, Any]) -> Summary:
    definition = DEFINITIONS.get((columns["type"], columns["version"]))
    about = None if definition is None else definition.subject
    kind = None if about is None else about.kind
    return Summary(**columns, subject_kind=kind, customer=columns["subject"])


def state(tx: Connection, saga_id: str) -> str | None:
    """Return a saga's state, or None where none has that id."""
    found: str | None = tx.execute(select(SAGAS.c.state).where(SAGAS.c.saga_id == saga_id)).scalar()
    return found


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


def cursor_of(summary: Summary) -> str:
    """Return the cursor of the page that begins after this saga."""
    text = f"{summary.started_at.isoformat()} {summary.saga_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Return the start and the id of the saga that a cursor names. Raises InvalidCursor."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        found = CURSOR.fullmatch(text)
        started_at = None if found is None else datetime.fromisoformat(found[1])
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor("No page has returned this cursor; send next_cursor unchanged.") from error
    if found is None or started_at is None or started_at.tzinfo is None:
        raise InvalidCursor("No page has returned this cursor; send next_cursor unchanged.")
    return started_at, found[2]


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    wanted = {
        SAGAS.c.state: filters.state,
        SAGAS.c.step: filters.step,
        SAGAS.c.saga_type: filters.type,
    }
    conditions: list[ColumnElement[bool]] = [column == value for column, value in wanted.items() if value is not None]
    if filters.subject is not None:
        # In the form in which checkout stores it, and as it was sent: an earlier release stored that.
        forms = {filters.subject, normal(filters.subject)}
        conditions.append(SAGAS.c.subject.in_(sorted(forms)) if len(forms) > 1 else SAGAS.c.subject == filters.subject)
    if filters.started_after is not None:
        conditions.append(SAGAS.c.started_at > filters.started_after)
    if filters.started_before is not None:
        conditions.append(SAGAS.c.started_at < filters.started_before)
    if filters.is_awaiting:
        conditions.append(SAGAS.c.awaits_since.is_not(None))
    if filters.is_unsettled:
        conditions.append(UNSETTLED)
    return conditions
