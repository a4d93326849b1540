"""The HTTP API for everybody on the staff: sagas, timelines and their freshness. A cancellation is only a command."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, FieldError, Problem, invalid
from chassis.values.ids import canonical
from chassis.values.remark import LENGTH_MAX, remark
from saga_tracker.definitions import DEFINITIONS, UnknownSaga, newest
from saga_tracker.http.cancellations import Cancellations, NotPublished
from saga_tracker.model.decision import SagaState
from saga_tracker.model.diagram import mermaid
from saga_tracker.model.operating import outcomes
from saga_tracker.model.references import stored_forms
from saga_tracker.store import queries
from saga_tracker.store.queries import PAGE_SIZE_MAX, TERMINAL, Filters, SagaView, Summary, TimelineEntry

POLL_EVERY_S = 0.3
"""How often a live timeline queries new entries: a person sees no delay, and the load on the database is small."""
FRESHNESS_EVERY_S = 5.0
STREAM_FOR_MAX_S = 900.0
"""A stream ends after this time. Its reader reconnects with Last-Event-ID and misses nothing."""
STREAMS_MAX = 100
THREADS_MAX = 8
"""Fewer than the database's connections, so that live timelines cannot starve the other requests."""
AGE_MAX_S = 315_360_000
TEXT = r"^[^\x00-\x1f\x7f]+$"
"""One line of text without control characters, which PostgreSQL, logs and terminals can hold."""
REASON = r"^[^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s][^\x00-\x1f\x7f]*$"
"""The same, and not only spaces."""
SEQ_MAX = 2**63 - 1
ETAG = re.compile(r'(?:W/)?"([0-9]{1,9})"')

SagaId = Annotated[
    str,
    CANONICAL,
    Path(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="The saga's id; of an order, the order's."),
]
Staff = Annotated[Principal, Depends(require("support", "operator"))]

Responses = dict[int | str, dict[str, Any]]


def responses(*statuses: int) -> Responses:
    """Return the OpenAPI declarations of the problems that an endpoint may return."""
    return {status: PROBLEM_RESPONSES[status] for status in (401, 403, 422, 500, 503, *statuses)}


router = APIRouter(route_class=JsonRoute, prefix="/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Everything that happened before ``as_of`` is shown. It is None until the tracker has caught up once."""

    as_of: datetime | None
    lag_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaList:
    """A page of sagas, the newest first; request the next one with ``cursor=next_cursor``."""

    sagas: list[Summary]
    next_cursor: str | None
    freshness: Freshness


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a saga: ``outcome`` is waiting, awaited, ran, rejected, compensated or not_run."""

    name: str
    service: str
    kind: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaDetail:
    """A saga and the outcome of each of its steps. Steps are missing where this release lacks the definition."""

    saga: Summary
    steps: list[Step]
    freshness: Freshness


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Everything that is known of a saga, in the order in which it was recorded."""

    saga: Summary
    entries: list[TimelineEntry]
    freshness: Freshness


class Reason(BaseModel):
    """Why a member of staff does something; it is stored."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, AfterValidator(remark)] = Field(min_length=1, max_length=LENGTH_MAX, pattern=REASON)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationAccepted:
    """The command is published. The timeline shows under ``command_id`` whether the saga was still running."""

    saga_id: str
    command_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutline:
    """One step of a definition."""

    name: str
    service: str
    kind: str
    triggered_by: str
    succeeds_with: str
    rejected_with: str | None
    compensation: str | None
    undone_by: str | None
    timeout_s: float
    exhausted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """The newest version of a saga's definition, and the same as a Mermaid diagram."""

    name: str
    version: int
    steps: list[StepOutline]
    mermaid: str


@router.get("/sagas", responses=responses())
def list_sagas(
    request: Request,
    _staff: Staff,
    state: SagaState | None = None,
    subject: Annotated[str | None, Query(max_length=128, pattern=TEXT)] = None,
    customer: Annotated[str | None, Query(max_length=128, pattern=TEXT, description="As subject.")] = None,
    step: Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9_]+$")] = None,
    type: Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9_]+$")] = None,  # noqa: A002 - the API's word
    started_after: Time | None = None,
    started_before: Time | None = None,
    reference: Annotated[str | None, Query(min_length=1, max_length=128, pattern=TEXT)] = None,
    awaiting: bool = False,
    contradicted: bool = False,
    older_than_s: Annotated[int | None, Query(ge=0, le=AGE_MAX_S)] = None,
    cursor: Annotated[str | None, Query(max_length=256, pattern=r"^[0-9A-Za-z_-]+$")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 50,
) -> SagaList:
    """Return sagas, the newest first, by state, subject, current step, type, start and age.

    ``reference``: a number that a person has in hand, of a payment or a shipment, or the saga's id. ``awaiting``: only
    those that wait for the outcome of a step that comes later, stopped or not. ``contradicted``: only those with a
    contradiction that a person has to settle, ended or not.
    """
    now = datetime.now(UTC)
    before = [started_before] if started_before is not None else []
    before += [now - timedelta(seconds=older_than_s)] if older_than_s is not None else []
    filters = Filters(
        state=state,
        subject=customer if subject is None else subject,
        step=step,
        type=type,
        started_after=started_after,
        started_before=min(before, default=None),
        references=() if reference is None else _references(request, reference),
        is_awaiting=awaiting,
        is_unsettled=contradicted,
    )
    return _page(request, filters, cursor, limit, now)


def _page(request: Request, filters: Filters, cursor: str | None, limit: int, now: datetime) -> SagaList:
    with reading(engine_of(request)) as tx:
        freshness = _freshness(queries.recorded_until(tx), now)
        try:
            page = queries.page(tx, filters, cursor=cursor, limit=limit)
        except queries.InvalidCursor as error:
            raise invalid([FieldError(pointer="query:cursor", detail=str(error))]) from error
    return SagaList(sagas=page.sagas, next_cursor=page.next_cursor, freshness=freshness)


def stored_saga(request: Request, saga_id: SagaId, _staff: Staff) -> SagaView:
    """Return the saga that the path names, or answer 404."""
    with reading(engine_of(request)) as tx:
        found = queries.saga(tx, saga_id)
    if found is None:
        raise Problem(
            status=404,
            detail="No saga has that id. An order appears within seconds of its submission.",
        )
    return found


StoredSaga = Annotated[SagaView, Depends(stored_saga)]


def etag(revision: int) -> str:
    """Return the entity tag of a saga, which changes with each change of the saga."""
    return f'"{revision}"'


def check_match(saga: SagaView, if_match: str) -> None:
    """Answer 412 unless this If-Match names the saga's current revision."""
    if if_match.strip() == "*":
        return
    revisions = [found[1] for each in if_match.split(",") if (found := ETAG.fullmatch(each.strip()))]
    if str(saga.summary.revision) not in revisions:
        raise stale(saga.summary.revision)


def stale(revision: int) -> Problem:
    """Return the 412 for an act on a saga that has changed since it was read."""
    return Problem(
        status=412,
        title="The saga has changed",
        detail=f"It is at version {revision} now; read it again before you act on it.",
        type="urn:baraza:problem:stale",
        headers={"ETag": etag(revision)},
    )


@router.get("/sagas/{saga_id}", responses=responses(404))
def get_saga(request: Request, response: Response, saga: StoredSaga) -> SagaDetail:
    """Return one saga, the outcome of each of its steps, and the freshness. The ETag is for acts on the saga."""
    response.headers["ETag"] = etag(saga.summary.revision)
    with reading(engine_of(request)) as tx:
        until = queries.recorded_until(tx, saga.partition)
    return SagaDetail(saga=saga.summary, steps=_steps(saga), freshness=_freshness(until, datetime.now(UTC)))


@router.get("/sagas/{saga_id}/timeline", responses=responses(404))
def get_timeline(request: Request, saga: StoredSaga, after: Annotated[int, Query(ge=0, le=SEQ_MAX)] = 0) -> Timeline:
    """Return every message, timer and act of a saga, with cause, attempt, deadline and lateness."""
    with reading(engine_of(request)) as tx:
        until = queries.recorded_until(tx, saga.partition)
        entries = queries.entries(tx, saga.summary.saga_id, after=after)
    return Timeline(saga=saga.summary, entries=entries, freshness=_freshness(until, datetime.now(UTC)))


class Streams:
    """The live timelines of this process: a limited number at once, on threads of their own."""

    def __init__(self) -> None:
        self.threads = CapacityLimiter(THREADS_MAX)
        self.open_count = 0


async def stream_slot(request: Request, _saga: StoredSaga) -> AsyncIterator[Streams]:
    """Hold a slot for a live timeline while it is open, or answer 503 where all are in use."""
    streams: Streams = request.app.state.streams
    if streams.open_count >= STREAMS_MAX:
        raise Problem(
            status=503,
            detail=f"All {STREAMS_MAX} live timelines are in use; read this one without streaming, or try again later.",
            headers={"Retry-After": "10"},
        )
    streams.open_count += 1
    try:
        yield streams
    finally:
        streams.open_count -= 1


@router.get("/sagas/{saga_id}/timeline/stream", response_class=EventSourceResponse, responses=responses(404))
async def stream_timeline(
    request: Request,
    saga: StoredSaga,
    streams: Annotated[Streams, Depends(stream_slot)],
    last_event_id: Annotated[int, Header(ge=0, le=SEQ_MAX)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Stream a timeline: the existing entries, then each new one, until the saga ends.

    Events are ``entry`` (its id is the entry's ``seq``; send it as Last-Event-ID to continue after it),
    ``freshness`` every few seconds, and ``end`` with the state when the saga has ended.
    """
    seen = last_event_id
    end_at, freshness_at = time.monotonic() + STREAM_FOR_MAX_S, 0.0
    while time.monotonic() < end_at:
        query = partial(_new_entries, engine_of(request), saga, seen)
        state, entries, until = await to_thread.run_sync(query, limiter=streams.threads)
        for entry in entries:
            yield ServerSentEvent(id=str(entry.seq), event="entry", data=entry)
            seen = entry.seq
        if state in TERMINAL:
            yield ServerSentEvent(event="end", data={"state": state})
            return
        if time.monotonic() >= freshness_at:
            yield ServerSentEvent(event="freshness", data=_freshness(until, datetime.now(UTC)))
            freshness_at = time.monotonic() + FRESHNESS_EVERY_S
        await asyncio.sleep(POLL_EVERY_S)


@router.post(
    "/sagas/{saga_id}/cancel",
    status_code=202,
    responses=responses(400, 404, 409, 412, 413, 415),
)
def cancel_saga(
    request: Request,
    saga: StoredSaga,
    staff: Staff,
    body: Reason,
    if_match: Annotated[str | None, Header(max_length=64)] = None,
) -> CancellationAccepted:
    """Cancel a saga: steps that ran are compensated, the others never run. A saga that has ended stays as it is.

    If-Match is optional: a saga under way changes all the time, and a cancellation means the same at any version.
    """
    summary = saga.summary
    if if_match is not None:
        check_match(saga, if_match)
    if summary.state in TERMINAL:
        raise Problem(
            status=409,
            title="The saga has ended",
            detail=f"It ended as {summary.state}, and its last event was sent.",
            type="urn:baraza:problem:saga-ended",
        )
    cancellations: Cancellations = request.app.state.cancellations
    try:
        command_id = cancellations.send(saga, actor=staff.subject, reason=body.reason, now=datetime.now(UTC))
    except NotPublished as error:
        raise Problem(
            status=503,
            detail="Kafka did not acknowledge the command in time; read the timeline before you send it again.",
            headers={"Retry-After": "5"},
        ) from error
    return CancellationAccepted(saga_id=summary.saga_id, command_id=command_id)


@router.get("/definitions/{name}", responses=responses(404))
def get_definition(_staff: Staff, name: Annotated[str, Path(pattern=r"^[a-z0-9_]{1,64}$")]) -> Definition:
    """Return the newest version of a saga's definition."""
    try:
        definition = newest(name)
    except UnknownSaga as error:
        raise Problem(status=404, detail="No saga has that name; the list of sagas shows the types.") from error
    steps = [
        StepOutline(
            name=step.name,
            service=step.service,
            kind=step.kind,
            triggered_by=step.trigger.FULL_NAME,
            succeeds_with=step.succeeds_with.FULL_NAME,
            rejected_with=step.rejected_with.FULL_NAME if step.rejected_with else None,
            compensation=step.compensation.command.FULL_NAME if step.compensation else None,
            undone_by=step.undone_by,
            timeout_s=step.timeout_s,
            exhausted=step.exhausted,
        )
        for step in definition.steps
    ]
    return Definition(name=definition.name, version=definition.version, steps=steps, mermaid=mermaid(definition))


def _steps(saga: SagaView) -> list[Step]:
    definition = DEFINITIONS.get((saga.summary.type, saga.summary.version))
    if definition is None:
        return []  # Without the definition of another release only the stored columns can be shown.
    found = outcomes(definition, saga.progress)
    return [
        Step(name=step.name, service=step.service, kind=step.kind, outcome=found[step.name])
        for step in definition.steps
    ]


def _new_entries(engine: Engine, saga: SagaView, after: int) -> tuple[str, list[TimelineEntry], datetime | None]:
    """Query the state first, so that after the end of a saga its entries are queried once more."""
    with reading(engine) as tx:
        state = queries.state(tx, saga.summary.saga_id) or saga.summary.state
        entries = queries.entries(tx, saga.summary.saga_id, after=after)
        return state, entries, queries.recorded_until(tx, saga.partition)


def _references(request: Request, reference: str) -> frozenset[str]:
    return stored_forms(canonical(reference.strip()), request.app.state.reference_key) | {reference.strip()}


def engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def reading(engine: Engine) -> Connection:
    """Return a connection for single queries. Each sees what is committed, and costs one round trip instead of three.

    The caller closes it.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


def _freshness(as_of: datetime | None, now: datetime) -> Freshness:
    lag_s = None if as_of is None else round(max(0.0, (now - as_of).total_seconds()), 3)
    return Freshness(as_of=as_of, lag_s=lag_s)
