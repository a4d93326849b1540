"""The operators' endpoints: reviews, plans, acts on one saga, dead letters, the operators' log. Only HTTP is here.

``http.previews`` makes a plan, ``store.plans`` holds it, and ``ingest.operator_acts`` applies it in the worker. The API
itself only marks a plan as to be applied, and closes dead letters. It must never change a saga.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import FieldError, Problem, invalid
from chassis.wire.envelope import derived_id
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.http import previews
from saga_tracker.http.api import Reason, Staff, StoredSaga, check_match, engine_of, responses, stale
from saga_tracker.model.facts import Resolution
from saga_tracker.model.saga import SERVICE
from saga_tracker.store import dead_letters, plans, selections, timeline
from saga_tracker.store.dead_letters import Closed, OpenLetter
from saga_tracker.store.plans import ActKind, Item, ItemState, LogEntry, Plan
from saga_tracker.store.queries import SagaView
from saga_tracker.store.selections import Group, Selection
from saga_tracker.store.timeline import Entry

RATE_PER_S = 500
"""About a quarter of what the services process on a small machine, so that new orders continue beside a redrive."""
RATE_PER_S_MAX = 2_000
IDS_MAX = 20_000
LETTERS_MAX = 1_000
ID = r"^[0-9A-Za-z_-]{1,64}$"

Operator = Annotated[Principal, Depends(require("operator"))]
PlanId = Annotated[str, CANONICAL, Path(pattern=ID)]
Limit = Annotated[int, Query(ge=1, le=1_000)]
Id = Annotated[str, CANONICAL, Field(pattern=ID)]

router = APIRouter(route_class=JsonRoute, prefix="/v1")


class Wanted(BaseModel):
    """Which sagas are selected: all given conditions must hold. Without ``saga_ids`` only parked sagas are selected."""

    model_config = ConfigDict(extra="forbid")

    saga_ids: list[Id] | None = Field(default=None, min_length=1, max_length=IDS_MAX)
    group: str | None = Field(default=None, pattern=r"^[0-9a-f]{8}$")
    step: str | None = Field(default=None, pattern=r"^[a-z0-9_]{1,64}$")
    started_after: Time | None = None
    started_before: Time | None = None


class PlanWanted(BaseModel):
    """An act, and its sagas."""

    model_config = ConfigDict(extra="forbid")

    act: Literal["REDRIVE", "COMPENSATE"] = "REDRIVE"
    selection: Wanted


class Application(Reason):
    """Why a plan is applied, and at which rate."""

    rate_per_s: int = Field(default=RATE_PER_S, ge=1, le=RATE_PER_S_MAX)


class Proposal(Reason):
    """How a saga whose facts contradict one another ends, and the evidence for it."""

    resolution: Resolution


class Closure(Reason):
    """Which dead letters are closed, and why they need no action."""

    letter_ids: list[Id] = Field(min_length=1, max_length=LETTERS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Why sagas are parked; each group selects its sagas."""

    groups: list[Group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """The latest plans, the newest first."""

    plans: list[Plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Sagas of a plan in the order of their ids; request the next ones with ``after=next_after``."""

    items: list[Item]
    next_after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Open dead letters, the oldest first: no saga is responsible for them."""

    letters: list[OpenLetter]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLetters:
    """The letters that were closed now. One that was closed or redriven before stays as it was."""

    closed: list[Closed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What operators did, the latest first."""

    acts: list[LogEntry]


@router.get("/review", responses=responses())
def review(request: Request, _staff: Staff) -> Review:
    """Return the causes for which sagas are parked, with the count and the age of each."""
    with engine_of(request).connect() as tx:
        return Review(groups=selections.groups(tx))


@router.post("/plans", status_code=201, responses=responses(400, 413, 415))
def make_plan(request: Request, operator: Operator, wanted: PlanWanted) -> Plan:
    """Make a plan: it freezes the sagas of an act and what the act would do. Applying it is a separate request."""
    selection = Selection(**wanted.selection.model_dump())
    with engine_of(request).execution_options(isolation_level="REPEATABLE READ").begin() as tx:
        return _plan(tx, ActKind(wanted.act), selection, operator)


@router.get("/plans", responses=responses())
def list_plans(request: Request, _staff: Staff, limit: Limit = 20) -> Plans:
    """Return the latest plans."""
    with engine_of(request).connect() as tx:
        return Plans(plans=plans.latest(tx, limit=limit))


@router.get("/plans/{plan_id}", responses=responses(404))
def get_plan(request: Request, _staff: Staff, plan_id: PlanId) -> Plan:
    """Return a plan, with the number of its sagas in each state."""
    with engine_of(request).connect() as tx:
        return _found(plans.find(tx, plan_id))


@router.get("/plans/{plan_id}/items", responses=responses(404))
def list_items(
    request: Request,
    _staff: Staff,
    plan_id: PlanId,
    after: Annotated[str, Query(pattern=r"^[0-9A-Za-z_-]{0,64}$")] = "",
    state: ItemState | None = None,
    limit: Limit = 200,
) -> Items:
    """Return the sagas of a plan: what would be sent for each, or why nothing, and the result."""
    with engine_of(request).connect() as tx:
        _found(plans.find(tx, plan_id))
        found = plans.items(tx, plan_id, after=after, state=state, limit=limit + 1)
    page = found[:limit]
    return Items(items=page, next_after=page[-1].saga_id if len(found) > limit else None)


@router.post("/plans/{plan_id}/apply", status_code=202, responses=responses(400, 404, 413, 415))
def apply_plan(request: Request, operator: Operator, plan_id: PlanId, body: Application) -> Plan:
    """Apply a plan: the worker does so in the background. A plan that was applied before stays as it is.

    A plan that resolves a contradiction is applied by another operator than the one who proposed it.
    """
    with engine_of(request).begin() as tx:
        plan = _found(plans.find(tx, plan_id))
        if ActKind(plan.act).resolution is not None and plan.planned_by == operator.subject:
            raise Problem(
                status=403,
                title="Another operator has to approve it",
                detail=f"{plan.planned_by} proposed this resolution; another operator looks at it and applies it.",
                type="urn:baraza:problem:second-operator",
            )
        _apply(tx, plan, operator, body.reason, body.rate_per_s)
        return _found(plans.find(tx, plan_id))


def matching(saga: StoredSaga, if_match: Annotated[str | None, Header(max_length=64)] = None) -> SagaView:
    """Return the saga that the path names, at the version that If-Match names, or answer 428 or 412."""
    if if_match is None:
        raise Problem(
            status=428,
            title="If-Match is missing",
            detail="Send the saga's ETag as If-Match, so that you act on the saga as you have read it.",
            type="urn:baraza:problem:if-match-missing",
        )
    check_match(saga, if_match)
    return saga


Matching = Annotated[SagaView, Depends(matching)]


@router.post("/sagas/{saga_id}/redrive", status_code=202, responses=responses(400, 404, 409, 412, 413, 415, 428))
def redrive_saga(request: Request, operator: Operator, saga: Matching, body: Reason) -> Plan:
    """Redrive a parked saga, from the step or the command that failed."""
    return _act(request, ActKind.REDRIVE, operator, saga, body.reason)


@router.post("/sagas/{saga_id}/compensate", status_code=202, responses=responses(400, 404, 409, 412, 413, 415, 428))
def compensate_saga(request: Request, operator: Operator, saga: Matching, body: Reason) -> Plan:
    """Stop a parked saga instead of redriving it: it is fenced, and the steps that ran are compensated."""
    return _act(request, ActKind.COMPENSATE, operator, saga, body.reason)


@router.post("/sagas/{saga_id}/annotate", status_code=202, responses=responses(400, 404, 409, 412, 413, 415, 428))
def annotate_saga(request: Request, operator: Operator, saga: Matching, body: Reason) -> Plan:
    """Put a remark on a saga's timeline."""
    return _act(request, ActKind.ANNOTATE, operator, saga, body.reason)


@router.post("/sagas/{saga_id}/settle", status_code=202, responses=responses(400, 404, 409, 412, 413, 415, 428))
def settle_saga(request: Request, operator: Operator, saga: Matching, body: Reason) -> Plan:
    """Close the open contradictions of a saga, which were settled outside of it. Its state stays as it is."""
    return _act(request, ActKind.SETTLE, operator, saga, body.reason)


@router.post("/sagas/{saga_id}/resolve", status_code=201, responses=responses(400, 404, 409, 412, 413, 415, 428))
def resolve_saga(request: Request, operator: Operator, saga: Matching, body: Proposal) -> Plan:
    """Propose how a saga ends whose facts contradict one another. Nothing happens until another operator applies it."""
    act = ActKind(f"RESOLVE_{body.resolution.value}")
    with engine_of(request).execution_options(isolation_level="REPEATABLE READ").begin() as tx:
        plan = _plan_for(tx, act, operator, saga)
        entry = LogEntry(
            act_id=derived_id("propose", plan.plan_id),
            at=plan.planned_at,
            actor=operator.subject,
            act="PROPOSE",
            reason=body.reason,
            saga_id=saga.summary.saga_id,
            plan_id=plan.plan_id,
            detail=plan.act,
        )
        plans.log(tx, [entry])
        return plan


@router.get("/dead-letters", responses=responses())
def list_letters(
    request: Request,
    _staff: Staff,
    saga_id: Annotated[str | None, CANONICAL, Query(pattern=ID)] = None,
    limit: Limit = 200,
) -> Letters:
    """Return the open dead letters: no saga is responsible for them."""
    with engine_of(request).connect() as tx:
        return Letters(letters=dead_letters.list_open(tx, saga_id=saga_id, limit=limit))


@router.post("/dead-letters/close", responses=responses(400, 413, 415))
def close_letters(request: Request, operator: Operator, closure: Closure) -> ClosedLetters:
    """Close dead letters that need no action."""
    now, who = datetime.now(UTC), operator.subject
    with engine_of(request).begin() as tx:
        closed = dead_letters.close(tx, closure.letter_ids, actor=who, reason=closure.reason, now=now)
        timeline.insert(tx, [_closing(each, who, closure.reason, now) for each in closed], now=now)
        log = [
            LogEntry(
                act_id=derived_id("close", each.letter_id),
                at=now,
                actor=who,
                act="CLOSE",
                reason=closure.reason,
                saga_id=each.saga_id,
                detail=f"{each.type} of {each.service}",
            )
            for each in closed
        ]
        plans.log(tx, log)
    return ClosedLetters(closed=closed)


@router.get("/acts", responses=responses())
def list_acts(
    request: Request,
    _staff: Staff,
    saga_id: Annotated[str | None, CANONICAL, Query(pattern=ID)] = None,
    plan_id: Annotated[str | None, CANONICAL, Query(pattern=ID)] = None,
    limit: Limit = 200,
) -> Log:
    """Return what operators did: who, when, what and why."""
    with engine_of(request).connect() as tx:
        return Log(acts=plans.logged(tx, saga_id=saga_id, plan_id=plan_id, limit=limit))


def _plan(tx: Connection, act: ActKind, selection: Selection, operator: Principal) -> Plan:
    try:
        return previews.make(tx, DEFINITIONS, act, selection, by=operator.subject, now=datetime.now(UTC))
    except previews.InvalidSelection as error:
        raise invalid([FieldError(pointer="#/selection", detail=str(error))]) from error


def _apply(tx: Connection, plan: Plan, operator: Principal, reason: str, rate_per_s: int) -> None:
    now = datetime.now(UTC)
    if plans.apply(tx, plan.plan_id, by=operator.subject, reason=reason, rate_per_s=rate_per_s, now=now):
        counts = ", ".join(f"{count} {state}" for state, count in sorted(plan.counts.items()))
        entry = LogEntry(
            act_id=derived_id("apply", plan.plan_id),
            at=now,
            actor=operator.subject,
            act="APPLY_PLAN",
            reason=reason,
            plan_id=plan.plan_id,
            detail=f"{plan.act}: {counts}",
        )
        plans.log(tx, [entry])


def _act(request: Request, act: ActKind, operator: Principal, saga: SagaView, reason: str) -> Plan:
    """Plan the act for this saga at this version, and mark the plan as to be applied at once."""
    with engine_of(request).execution_options(isolation_level="REPEATABLE READ").begin() as tx:
        plan = _plan_for(tx, act, operator, saga)
        _apply(tx, plan, operator, reason, RATE_PER_S)
        return _found(plans.find(tx, plan.plan_id))


def _plan_for(tx: Connection, act: ActKind, operator: Principal, saga: SagaView) -> Plan:
    """Plan the act for this saga at this version, or answer 412 or 409."""
    plan = _plan(tx, act, Selection(saga_ids=[saga.summary.saga_id]), operator)
    (item,) = plans.items(tx, plan.plan_id, after="", state=None, limit=1)
    if item.revision != saga.summary.revision:
        raise stale(item.revision)
    if item.state != ItemState.PLANNED:
        raise Problem(
            status=409,
            title="Nothing to do",
            detail=item.detail or "",
            type="urn:baraza:problem:not-runnable",
        )
    return plan


def _found(plan: Plan | None) -> Plan:
    if plan is None:
        raise Problem(status=404, detail="There is no plan with that id.")
    return plan


def _closing(closed: Closed, actor: str, reason: str, now: datetime) -> Entry:
    return Entry(
        saga_id=closed.saga_id,
        message_id=derived_id("close", closed.letter_id),
        occurred_at=now,
        kind="act",
        type="CloseDeadLetter",
        service=SERVICE,
        step=closed.step,
        causation_id=closed.letter_id,
        detail=f"{actor}: {reason}",
        partition=closed.partition,
    )
