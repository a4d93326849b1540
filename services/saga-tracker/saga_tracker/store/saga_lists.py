"""Lists of sagas: pages behind a key, and counts up to a limit. They only read.

Every list is bounded: a page begins behind the last saga of the one before, never behind a number of them; a count ends
at ``COUNT_MAX``. Several states are read as one list for each, in the order of an index, and merged: as one condition
PostgreSQL would read the sagas of all states by their start.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select, text, tuple_, union_all

from chassis.values.text import normal
from saga_tracker.model.decision import SagaState
from saga_tracker.store.queries import SUMMARY, Summary, summary_of
from saga_tracker.store.schema import DEAD_LETTERS, REFERENCES, SAGAS, UNSETTLED
from saga_tracker.store.selections import GROUP

PAGE_SIZE_MAX: Final = 200
COUNT_MAX: Final = 10_000
"""Beyond it no reader needs the number, and counting ten million sagas takes a second of both cores."""
TIMEOUT_MS: Final = 2_000
"""A list that takes longer has a selection without an index. It would take the place of others."""
REFERRED_MAX: Final = 1_000
"""Sagas of one reference that are looked at. A number of a payment or a shipment has one."""
CURSOR: Final = re.compile(r"(\S{1,40}) ([0-9A-Za-z_-]{1,64})")
LIKE_SPECIAL: Final = re.compile(r"([\\%_])")


class InvalidCursor(ValueError):
    """No page has returned this cursor; send ``next_cursor`` unchanged, or none for the first page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which sagas to return: all conditions hold, and of several values of one any. Nothing matches every value."""

    states: Sequence[str] = ()
    types: Sequence[str] = ()
    steps: Sequence[str] = ()
    causes: Sequence[str] = ()
    group: str | None = None
    """Only parked ones of this group of the review."""
    subject: str | None = None
    id_prefix: str | None = None
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


BOUND = text(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
IN_GROUP = text(f"{GROUP} = :wanted_group")

WITH_STEP = text("""
    SELECT state
    FROM unnest(CAST(:states AS text[])) AS wanted (state)
    WHERE EXISTS (
        SELECT FROM rollups
        WHERE rollups.state = wanted.state AND step = ANY(CAST(:steps AS text[])) AND count > 0
          AND (CAST(:types AS text[]) IS NULL OR saga_type = ANY(CAST(:types AS text[])))
    )
""")
"""By the counts: to learn that no saga is at a step, all would have to be read."""


def page(tx: Connection, filters: Filters, *, cursor: str | None, limit: int) -> Page:
    """Return a page of sagas, the newest first. Raises InvalidCursor."""
    after = None if cursor is None else read_cursor(cursor)
    selects = _selects(tx, filters, SUMMARY, after)
    if not selects:
        return Page(sagas=[], next_cursor=None)
    ordered = [each.order_by(*_NEWEST_FIRST).limit(limit + 1) for each in selects]
    rows = tx.execute(ordered[0] if len(ordered) == 1 else _merged(ordered, limit + 1))
    found = [summary_of(dict(row._mapping)) for row in rows]
    sagas = found[:limit]
    return Page(sagas=sagas, next_cursor=cursor_of(sagas[-1]) if len(found) > limit else None)


def count(tx: Connection, filters: Filters) -> int:
    """Return how many sagas there are, ``COUNT_MAX + 1`` for any number beyond that."""
    total = 0
    for each in _selects(tx, filters, (SAGAS.c.saga_id,), None):
        counted = each.limit(COUNT_MAX + 1 - total).subquery()
        total += tx.execute(select(func.count()).select_from(counted)).scalar_one()
        if total > COUNT_MAX:
            break
    return total


def bound(tx: Connection) -> None:
    """Let each statement of this transaction take ``TIMEOUT_MS`` at most."""
    tx.execute(BOUND)


def sagas_of_letters(tx: Connection, message_id: str) -> list[str]:
    """Return the sagas with a dead letter of this id, or of this message."""
    letters = DEAD_LETTERS.c
    by_message = select(letters.saga_id).where(letters.message_id == message_id)
    by_letter = select(letters.saga_id).where(letters.letter_id == message_id)
    return sorted({*tx.execute(by_message.union(by_letter).limit(REFERRED_MAX)).scalars()})


_NEWEST_FIRST = (SAGAS.c.started_at.desc(), SAGAS.c.saga_id.desc())


def _merged(selects: Sequence[Select[Any]], limit: int) -> Select[Any]:
    merged = union_all(*(each.subquery().select() for each in selects)).subquery()
    return select(merged).order_by(merged.c.started_at.desc(), merged.c.saga_id.desc()).limit(limit)


def _selects(
    tx: Connection, filters: Filters, columns: Sequence[ColumnElement[Any]], after: tuple[datetime, str] | None
) -> list[Select[Any]]:
    """Return the selections whose union is wanted; none where nothing can match."""
    conditions = _conditions(filters)
    ids = _ids(tx, filters)
    if ids is not None:
        conditions.append(SAGAS.c.saga_id.in_(ids))
    if after is not None:
        conditions.append(tuple_(SAGAS.c.started_at, SAGAS.c.saga_id) < tuple_(*after))
    states = _states(tx, filters)
    if states is None:
        return [select(*columns).where(*conditions)]
    if filters.subject is not None or ids is not None:
        return [select(*columns).where(SAGAS.c.state.in_(states), *conditions)] if states else []
    return [select(*columns).where(SAGAS.c.state == _constant(state), *conditions) for state in states]


def _constant(state: str) -> ColumnElement[str]:
    """Return a state as a constant of the statement: one plan for all states would read all sagas for a rare one."""
    return bindparam(None, state, literal_execute=True)


def _states(tx: Connection, filters: Filters) -> list[str] | None:
    """Return the states that a saga of this list can have; None: every one."""
    states = list(dict.fromkeys(filters.states)) or [state.value for state in SagaState]
    if filters.group is not None:
        states = [state for state in states if state == SagaState.NEEDS_REVIEW]
    if filters.causes:
        states = [state for state in states if state != SagaState.CONFIRMED]
    if filters.steps and states:
        wanted = {"states": states, "steps": list(filters.steps), "types": list(filters.types) or None}
        return sorted(tx.execute(WITH_STEP, wanted).scalars())
    return None if len(states) == len(SagaState) else states


def _ids(tx: Connection, filters: Filters) -> list[str] | None:
    """Return the ids of the sagas with one of the references, or with the beginning of an id; None: every one.

    They are read first: with a list of ids PostgreSQL goes by the primary key, with a subquery it may read every saga.
    Of more than ``REFERRED_MAX`` those with the newest ids are found.
    """
    found: set[str] | None = None
    if filters.references:
        query = select(REFERENCES.c.saga_id).where(REFERENCES.c.value.in_(sorted(filters.references))).distinct()
        newest = query.order_by(REFERENCES.c.saga_id.desc()).limit(REFERRED_MAX)
        found = {*tx.execute(newest).scalars(), *filters.references}
    if filters.id_prefix:
        pattern = LIKE_SPECIAL.sub(r"\\\1", filters.id_prefix) + "%"
        begun = select(SAGAS.c.saga_id).where(SAGAS.c.saga_id.like(pattern)).limit(REFERRED_MAX)
        beginning = {*tx.execute(begun).scalars()}
        found = beginning if found is None else found & beginning
    return None if found is None else sorted(found)


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    wanted = {SAGAS.c.step: filters.steps, SAGAS.c.saga_type: filters.types, SAGAS.c.cause: filters.causes}
    conditions: list[ColumnElement[bool]] = [
        column == values[0] if len(values) == 1 else column.in_(values) for column, values in wanted.items() if values
    ]
    if filters.group is not None:
        conditions.append(IN_GROUP.bindparams(wanted_group=filters.group))  # type: ignore[arg-type]
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


def cursor_of(summary: Summary) -> str:
    """Return the cursor of the page that begins after this saga."""
    stated = f"{summary.started_at.isoformat()} {summary.saga_id}"
    return base64.urlsafe_b64encode(stated.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Return the start and the id of the saga that a cursor names. Raises InvalidCursor."""
    try:
        stated = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        found = CURSOR.fullmatch(stated)
        started_at = None if found is None else datetime.fromisoformat(found[1])
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor("No page has returned this cursor; send next_cursor unchanged.") from error
    if found is None or started_at is None or started_at.tzinfo is None:
        raise InvalidCursor("No page has returned this cursor; send next_cursor unchanged.")
    return started_at, found[2]
