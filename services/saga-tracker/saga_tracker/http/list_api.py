"""Lists of sagas, counts of them up to a limit, and what a text in a person's hand names. Only HTTP is here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import Connection

from chassis.http.fields import CANONICAL, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import FieldError, invalid
from chassis.values.ids import canonical
from saga_tracker.http.api import TEXT, Freshness, Reader, engine_of, freshness_of, responses
from saga_tracker.model.decision import Cause, SagaState
from saga_tracker.model.references import stored_forms
from saga_tracker.store import plans, queries, saga_lists
from saga_tracker.store.queries import Summary
from saga_tracker.store.saga_lists import COUNT_MAX, PAGE_SIZE_MAX, Filters

AGE_MAX_S: Final = 315_360_000
VALUES_MAX: Final = 20
FOUND_MAX: Final = 20
PREFIX_LENGTH_MIN: Final = 4
"""A shorter beginning is that of every id of the last years."""
NAME: Final = r"^[a-z0-9_]{1,64}$"

Name = Annotated[str, Query(pattern=NAME)]
Names = Annotated[list[Name], Query(max_length=VALUES_MAX)]

router = APIRouter(route_class=JsonRoute, prefix="/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaList:
    """A page of sagas, the newest first; request the next one with ``cursor=next_cursor``."""

    sagas: list[Summary]
    next_cursor: str | None
    freshness: Freshness


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaCount:
    """How many sagas there are. If it ``is_capped``, there are more than ``count``."""

    count: int
    is_capped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a text names, most probable first. ``plan_id``: a plan has it as its id."""

    sagas: list[Summary]
    plan_id: str | None


def filters_of(
    request: Request,
    state: Annotated[list[SagaState], Query(max_length=len(SagaState))] = [],  # noqa: B006 - FastAPI copies it
    cause: Annotated[list[Cause], Query(max_length=len(Cause))] = [],  # noqa: B006
    step: Names = [],  # noqa: B006
    type: Names = [],  # noqa: A002, B006 - the API's word
    group: Annotated[str | None, Query(pattern=r"^[0-9a-f]{8}$", description="Of the review.")] = None,
    subject: Annotated[str | None, Query(max_length=128, pattern=TEXT)] = None,
    customer: Annotated[str | None, Query(max_length=128, pattern=TEXT, description="As subject.")] = None,
    id_prefix: Annotated[
        str | None, CANONICAL, Query(min_length=PREFIX_LENGTH_MIN, pattern=r"^[0-9A-Za-z_-]{1,64}$")
    ] = None,
    started_after: Time | None = None,
    started_before: Time | None = None,
    reference: Annotated[str | None, Query(min_length=1, max_length=128, pattern=TEXT)] = None,
    awaiting: bool = False,
    contradicted: bool = False,
    older_than_s: Annotated[int | None, Query(ge=0, le=AGE_MAX_S)] = None,
) -> Filters:
    """Return which sagas are wanted: all conditions hold, and of a repeated one any value."""
    before = [started_before] if started_before is not None else []
    before += [datetime.now(UTC) - timedelta(seconds=older_than_s)] if older_than_s is not None else []
    return Filters(
        states=[each.value for each in state],
        causes=[each.value for each in cause],
        steps=step,
        types=type,
        group=group,
        subject=customer if subject is None else subject,
        id_prefix=id_prefix,
        started_after=started_after,
        started_before=min(before, default=None),
        references=() if reference is None else _references(request, reference),
        is_awaiting=awaiting,
        is_unsettled=contradicted,
    )


Wanted = Annotated[Filters, Depends(filters_of)]


@contextmanager
def listing(request: Request) -> Iterator[Connection]:
    """Yield a transaction whose statements take a bounded time; one that takes longer is answered with 503."""
    with engine_of(request).begin() as tx:
        saga_lists.bound(tx)
        yield tx


@router.get("/sagas", responses=responses())
def list_sagas(
    request: Request,
    _reader: Reader,
    filters: Wanted,
    cursor: Annotated[str | None, Query(max_length=256, pattern=r"^[0-9A-Za-z_-]+$")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 50,
) -> SagaList:
    """Return sagas, the newest first, by state, cause, step, type, group, subject, id, start and age.

    ``state``, ``cause``, ``step`` and ``type`` may be repeated. ``reference``: a number that a person has in hand, of a
    payment or a shipment, or the saga's id. ``awaiting``: only those that wait for the outcome of a step that comes
    later, stopped or not. ``contradicted``: only those with a contradiction that a person has to settle, ended or not.
    """
    with listing(request) as tx:
        freshness = freshness_of(queries.recorded_until(tx), datetime.now(UTC))
        try:
            page = saga_lists.page(tx, filters, cursor=cursor, limit=limit)
        except saga_lists.InvalidCursor as error:
            raise invalid([FieldError(pointer="query:cursor", detail=str(error))]) from error
    return SagaList(sagas=page.sagas, next_cursor=page.next_cursor, freshness=freshness)


@router.get("/saga-count", responses=responses())
def count_sagas(request: Request, _reader: Reader, filters: Wanted) -> SagaCount:
    """Return how many sagas a list with the same conditions has, up to 10,000."""
    with listing(request) as tx:
        found = saga_lists.count(tx, filters)
    return SagaCount(count=min(found, COUNT_MAX), is_capped=found > COUNT_MAX)


@router.get("/find", responses=responses())
def find(
    request: Request, _reader: Reader, text: Annotated[str, Query(min_length=1, max_length=128, pattern=TEXT)]
) -> Found:
    """Return the sagas that a text names: an id or its beginning, a reference, a subject, a dead letter or its message.

    A saga by its id comes first, then those by a reference, a letter, a subject, the beginning of an id. Messages that
    are no dead letters have no index: a timeline's one would cost every message that is recorded.
    """
    wanted = canonical(text.strip())
    found: dict[str, Summary] = {}
    with listing(request) as tx:
        selections = [Filters(references=_references(request, text)), Filters(subject=text.strip())]
        if letters := saga_lists.sagas_of_letters(tx, wanted):
            selections.insert(1, Filters(references=letters))
        if len(wanted) >= PREFIX_LENGTH_MIN and wanted.isalnum() and wanted.isascii():
            selections.append(Filters(id_prefix=wanted))
        for each in selections:
            page = saga_lists.page(tx, each, cursor=None, limit=FOUND_MAX)
            found |= {saga.saga_id: saga for saga in page.sagas if saga.saga_id not in found}
        is_plan = plans.find(tx, wanted) is not None
    exact = [saga for saga in found.values() if saga.saga_id == wanted]
    others = [saga for saga in found.values() if saga.saga_id != wanted]
    return Found(sagas=[*exact, *others][:FOUND_MAX], plan_id=wanted if is_plan else None)


def _references(request: Request, reference: str) -> frozenset[str]:
    return stored_forms(canonical(reference.strip()), request.app.state.reference_key) | {reference.strip()}
