"""The HTTP API of one saga: its row, its timeline and their freshness. A cancellation is only a command.

``http.list_api`` has the lists, ``http.live_api`` the live timelines, ``http.now_api`` the counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.values.remark import LENGTH_MAX, remark
from saga_tracker.definitions import DEFINITIONS, UnknownSaga, newest
from saga_tracker.http.cancellations import Cancellations, NotPublished
from saga_tracker.model.diagram import mermaid
from saga_tracker.model.operating import outcomes
from saga_tracker.store import queries
from saga_tracker.store.queries import TERMINAL, SagaView, Summary, TimelineEntry

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
Reader = Annotated[Principal, Depends(require("support", "operator", "finance", "approver"))]
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
class Step:
    """One step of a saga: ``outcome`` is waiting, awaited, ran, rejected, compensated or not_run."""

    name: str
    service: str
    kind: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaNow:
    """A saga and the outcome of each of its steps, as a live timeline sends them."""

    saga: Summary
    steps: list[Step]


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


def stored_saga(request: Request, saga_id: SagaId, _reader: Reader) -> SagaView:
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
    return SagaDetail(saga=saga.summary, steps=steps_of(saga), freshness=freshness_of(until, datetime.now(UTC)))


@router.get("/sagas/{saga_id}/timeline", responses=responses(404))
def get_timeline(request: Request, saga: StoredSaga, after: Annotated[int, Query(ge=0, le=SEQ_MAX)] = 0) -> Timeline:
    """Return every message, timer and act of a saga, with cause, attempt, deadline and lateness."""
    with reading(engine_of(request)) as tx:
        until = queries.recorded_until(tx, saga.partition)
        entries = queries.entries(tx, saga.summary.saga_id, after=after)
    return Timeline(saga=saga.summary, entries=entries, freshness=freshness_of(until, datetime.now(UTC)))


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
        command_id = cancellations.send(saga, actor=staff.actor, reason=body.reason, now=datetime.now(UTC))
    except NotPublished as error:
        raise Problem(
            status=503,
            detail="Kafka did not acknowledge the command in time; read the timeline before you send it again.",
            headers={"Retry-After": "5"},
        ) from error
    return CancellationAccepted(saga_id=summary.saga_id, command_id=command_id)


@router.get("/definitions/{name}", responses=responses(404))
def get_definition(_reader: Reader, name: Annotated[str, Path(pattern=r"^[a-z0-9_]{1,64}$")]) -> Definition:
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


def state_of(saga: SagaView) -> SagaNow:
    """Return a saga's row and the outcome of each of its steps."""
    return SagaNow(saga=saga.summary, steps=steps_of(saga))


def steps_of(saga: SagaView) -> list[Step]:
    """Return the outcome of each step; none where this release lacks the definition."""
    definition = DEFINITIONS.get((saga.summary.type, saga.summary.version))
    if definition is None:
        return []  # Without the definition of another release only the stored columns can be shown.
    found = outcomes(definition, saga.progress)
    return [
        Step(name=step.name, service=step.service, kind=step.kind, outcome=found[step.name])
        for step in definition.steps
    ]


def engine_of(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def reading(engine: Engine) -> Connection:
    """Return a connection for single queries. Each sees what is committed, and costs one round trip instead of three.

    The caller closes it.
    """
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


def freshness_of(as_of: datetime | None, now: datetime) -> Freshness:
    lag_s = None if as_of is None else round(max(0.0, (now - as_of).total_seconds()), 3)
    return Freshness(as_of=as_of, lag_s=lag_s)
