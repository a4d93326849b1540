"""The operators' endpoints about causes and about one saga. Only HTTP is here.

An act on one saga is a plan of one saga, which is applied at once. ``http.previews`` makes a plan, ``store.plans``
holds it, and ``ingest.operator_acts`` applies it in the worker. The API itself only marks a plan as to be applied. It
must never change a saga. ``http.plan_api`` has the plans of many, ``http.record_api`` dead letters and the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from sqlalchemy import Connection

from chassis.http.auth import Principal, require
from chassis.http.json_body import JsonRoute
from chassis.http.problem import Problem
from chassis.wire.envelope import derived_id
from saga_tracker.http import applying
from saga_tracker.http.api import Reader, Reason, Staff, StoredSaga, check_match, engine_of, responses, stale
from saga_tracker.model.facts import Resolution
from saga_tracker.store import operator_log, plans, selections
from saga_tracker.store.operator_log import LogEntry
from saga_tracker.store.plans import ActKind, ItemState, Plan
from saga_tracker.store.queries import SagaView
from saga_tracker.store.selections import Group, Selection

Operator = Annotated[Principal, Depends(require("operator"))]

router = APIRouter(route_class=JsonRoute, prefix="/v1")


class Proposal(Reason):
    """How a saga whose facts contradict one another ends, and the evidence for it."""

    resolution: Resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """Why sagas are parked; each group selects its sagas."""

    groups: list[Group]


@router.get("/review", responses=responses())
def review(request: Request, _reader: Reader) -> Review:
    """Return the causes for which sagas are parked, with the count and the age of each."""
    with engine_of(request).connect() as tx:
        return Review(groups=selections.groups(tx))


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
def annotate_saga(request: Request, staff: Staff, saga: Matching, body: Reason) -> Plan:
    """Put a remark on a saga's timeline."""
    return _act(request, ActKind.ANNOTATE, staff, saga, body.reason)


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
            actor=operator.actor,
            act="PROPOSE",
            reason=body.reason,
            saga_id=saga.summary.saga_id,
            plan_id=plan.plan_id,
            detail=plan.act,
        )
        operator_log.log(tx, [entry])
        return plan


def _act(request: Request, act: ActKind, operator: Principal, saga: SagaView, reason: str) -> Plan:
    """Plan the act for this saga at this version, and mark the plan as to be applied at once."""
    with engine_of(request).execution_options(isolation_level="REPEATABLE READ").begin() as tx:
        plan = _plan_for(tx, act, operator, saga)
        applying.apply(tx, plan, operator, reason, applying.RATE_PER_S)
        return applying.found(plans.find(tx, plan.plan_id))


def _plan_for(tx: Connection, act: ActKind, operator: Principal, saga: SagaView) -> Plan:
    """Plan the act for this saga at this version, or answer 412 or 409."""
    plan = applying.made(tx, act, Selection(saga_ids=[saga.summary.saga_id]), operator)
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
