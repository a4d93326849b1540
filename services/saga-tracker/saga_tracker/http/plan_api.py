"""Plans: acts on many sagas, which are shown before they run, approved, paused, resumed and stopped. Only HTTP is here.

What a plan freezes never changes. Every change of its state is logged with who and why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import Problem
from chassis.wire.envelope import new_id
from saga_tracker.http import applying
from saga_tracker.http.api import Reader, Reason, engine_of, responses
from saga_tracker.http.applying import RATE_PER_S
from saga_tracker.http.operator_api import Operator
from saga_tracker.store import operator_log, plans
from saga_tracker.store.operator_log import LogEntry
from saga_tracker.store.plans import ActKind, Item, ItemState, Outcome, Plan, PlanState
from saga_tracker.store.selections import Selection

RATE_PER_S_MAX: Final = 2_000
IDS_MAX: Final = 20_000
OUTCOMES_MAX: Final = 100
ID: Final = r"^[0-9A-Za-z_-]{1,64}$"

Approver = Annotated[Principal, Depends(require("approver"))]
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
class Outcomes:
    """What a plan sends, or why nothing, the most frequent first.

    ``parked_again``: how many of its sagas were parked again since the act.
    """

    outcomes: list[Outcome]
    parked_again: int


@router.post("/plans", status_code=201, responses=responses(400, 413, 415))
def make_plan(request: Request, operator: Operator, wanted: PlanWanted) -> Plan:
    """Make a plan: it freezes the sagas of an act and what the act would do. Applying it is a separate request.

    Beyond the number of sagas that the deployment sets it needs approval by another person first.
    """
    selection = Selection(**wanted.selection.model_dump())
    above: int | None = request.app.state.approval_above
    with engine_of(request).execution_options(isolation_level="REPEATABLE READ").begin() as tx:
        return applying.made(tx, ActKind(wanted.act), selection, operator, approval_above=above)


@router.get("/plans", responses=responses())
def list_plans(
    request: Request,
    _reader: Reader,
    state: Annotated[list[PlanState], Query(max_length=len(PlanState))] = [],  # noqa: B006 - FastAPI copies it
    limit: Limit = 20,
) -> Plans:
    """Return the latest plans; ``state`` may be repeated."""
    with engine_of(request).connect() as tx:
        return Plans(plans=plans.latest(tx, states=[each.value for each in state], limit=limit))


@router.get("/plans/{plan_id}", responses=responses(404))
def get_plan(request: Request, _reader: Reader, plan_id: PlanId) -> Plan:
    """Return a plan, with the number of its sagas in each state."""
    with engine_of(request).connect() as tx:
        return applying.found(plans.find(tx, plan_id))


@router.get("/plans/{plan_id}/outcomes", responses=responses(404))
def list_outcomes(request: Request, _reader: Reader, plan_id: PlanId) -> Outcomes:
    """Return what a plan sends, or why nothing, with the number of its sagas; and how many were parked again since."""
    with engine_of(request).connect() as tx:
        applying.found(plans.find(tx, plan_id))
        outcomes = plans.outcomes(tx, plan_id, limit=OUTCOMES_MAX)
        return Outcomes(outcomes=outcomes, parked_again=plans.parked_again_count(tx, plan_id))


@router.get("/plans/{plan_id}/items", responses=responses(404))
def list_items(
    request: Request,
    _reader: Reader,
    plan_id: PlanId,
    after: Annotated[str, Query(pattern=r"^[0-9A-Za-z_-]{0,64}$")] = "",
    state: ItemState | None = None,
    parked_again: bool = False,
    limit: Limit = 200,
) -> Items:
    """Return the sagas of a plan: what would be sent for each, or why nothing, and the result.

    ``parked_again``: only those that were parked again since the act, whatever ``state`` is.
    """
    with engine_of(request).connect() as tx:
        applying.found(plans.find(tx, plan_id))
        if parked_again:
            found = plans.parked_again(tx, plan_id, after=after, limit=limit + 1)
        else:
            found = plans.items(tx, plan_id, after=after, state=state, limit=limit + 1)
    page = found[:limit]
    return Items(items=page, next_after=page[-1].saga_id if len(found) > limit else None)


@router.post("/plans/{plan_id}/approve", responses=responses(400, 404, 409, 413, 415))
def approve_plan(request: Request, approver: Approver, plan_id: PlanId, body: Reason) -> Plan:
    """Approve a plan that another person has made, so that it can be applied."""
    with engine_of(request).begin() as tx:
        plan = applying.found(plans.find(tx, plan_id))
        if applying.is_same_person(plan.planned_by, approver.actor):
            raise _second_person(f"{plan.planned_by} made this plan; another person looks at it and approves it.")
        now = datetime.now(UTC)
        if not plans.approve(tx, plan_id, by=approver.actor, reason=body.reason, now=now):
            raise _conflict(plan, "Only a plan that needs approval, has none and is not applied can be approved.")
        return _logged(tx, "APPROVE_PLAN", plan_id, approver, body.reason, now)


@router.post("/plans/{plan_id}/apply", status_code=202, responses=responses(400, 404, 409, 413, 415))
def apply_plan(request: Request, operator: Operator, plan_id: PlanId, body: Application) -> Plan:
    """Apply a plan: the worker does so in the background. A plan that was applied before stays as it is.

    A plan that resolves a contradiction is applied by another operator than the one who proposed it. One that needs
    approval has to be approved first.
    """
    with engine_of(request).begin() as tx:
        plan = applying.found(plans.find(tx, plan_id))
        is_resolution = ActKind(plan.act).resolution is not None
        if is_resolution and applying.is_same_person(plan.planned_by, operator.actor):
            raise _second_person(
                f"{plan.planned_by} proposed this resolution; another operator looks at it and applies it."
            )
        if plan.state == PlanState.STOPPED:
            raise _conflict(plan, "It was stopped for good; make another one.")
        if plan.needs_approval and plan.approved_by is None:
            raise Problem(
                status=409,
                title="It is not approved",
                detail="It acts on more sagas than one person may. Another person approves it first.",
                type="urn:baraza:problem:not-approved",
            )
        applying.apply(tx, plan, operator, body.reason, body.rate_per_s)
        return applying.found(plans.find(tx, plan_id))


@router.post("/plans/{plan_id}/pause", responses=responses(400, 404, 409, 413, 415))
def pause_plan(request: Request, operator: Operator, plan_id: PlanId, body: Reason) -> Plan:
    """Let a plan under way send nothing more until it is resumed. What it has sent stays sent."""

    def pause(tx: Connection, _now: datetime) -> bool:
        return plans.pause(tx, plan_id)

    return _changed(request, "PAUSE_PLAN", plan_id, operator, body, pause, "Only a plan under way can be paused.")


@router.post("/plans/{plan_id}/resume", responses=responses(400, 404, 409, 413, 415))
def resume_plan(request: Request, operator: Operator, plan_id: PlanId, body: Reason) -> Plan:
    """Let a paused plan go on."""

    def resume(tx: Connection, now: datetime) -> bool:
        return plans.resume(tx, plan_id, now=now)

    return _changed(request, "RESUME_PLAN", plan_id, operator, body, resume, "Only a paused plan can be resumed.")


@router.post("/plans/{plan_id}/stop", responses=responses(400, 404, 409, 413, 415))
def stop_plan(request: Request, operator: Operator, plan_id: PlanId, body: Reason) -> Plan:
    """End a plan for good. What it has sent stays sent, and the rest never is."""

    def stop(tx: Connection, now: datetime) -> bool:
        return plans.stop(tx, plan_id, now=now)

    return _changed(request, "STOP_PLAN", plan_id, operator, body, stop, "It has ended.")


def _changed(
    request: Request,
    act: str,
    plan_id: str,
    operator: Principal,
    body: Reason,
    change: Callable[[Connection, datetime], bool],
    why_not: str,
) -> Plan:
    with engine_of(request).begin() as tx:
        plan, now = applying.found(plans.find(tx, plan_id)), datetime.now(UTC)
        if not change(tx, now):
            raise _conflict(plan, why_not)
        return _logged(tx, act, plan_id, operator, body.reason, now)


def _logged(tx: Connection, act: str, plan_id: str, who: Principal, reason: str, now: datetime) -> Plan:
    plan = applying.found(plans.find(tx, plan_id))
    counts = ", ".join(f"{count} {state}" for state, count in sorted(plan.counts.items()))
    entry = LogEntry(
        act_id=new_id(),
        at=now,
        actor=who.actor,
        act=act,
        reason=reason,
        plan_id=plan_id,
        detail=f"{plan.act}: {counts}",
    )
    operator_log.log(tx, [entry])
    return plan


def _second_person(detail: str) -> Problem:
    return Problem(
        status=403,
        title="Another operator has to approve it",
        detail=detail,
        type="urn:baraza:problem:second-operator",
    )


def _conflict(plan: Plan, detail: str) -> Problem:
    return Problem(
        status=409,
        title="Not in this state",
        detail=f"The plan is {plan.state}. {detail}",
        type="urn:baraza:problem:plan-state",
    )
