"""Checkout's HTTP API for returns. A response states only what is certain; a refusal has reasons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from checkout import return_intake, return_tables
from checkout.domain import PricedLine
from checkout.endpoints import (
    COMMON,
    ONE_ORDER,
    Customer,
    IdempotencyKey,
    OrderId,
    Reader,
    Resources,
    ReturnId,
    Trace,
    may_see,
)
from checkout.return_intake import ReturnRequest
from checkout.returns import CountedReturn, PlacedOrder, ReturnBody, ReturnState, return_message_of

routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["returns"])


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedReturn:
    """A return that was accepted. Whether it is approved is not known yet."""

    return_id: str
    order_id: str
    state: ReturnState
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedLine:
    """What arrived of one line: pieces that can be sold again, and pieces that cannot."""

    sku: str
    good: int
    damaged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A return with its current state. The amounts are those of the pieces that count, once they are approved.

    ``received`` is null until the parcel arrived, and where the courier lost it. ``reason`` is the customer's,
    ``failure_cause`` and ``failure_reason`` explain a failure.
    """

    return_id: str
    order_id: str
    customer_id: str
    state: ReturnState
    message: str
    lines: list[PricedLine]
    received: list[ReceivedLine] | None
    currency: str
    refund_minor: int
    points_minor: int
    points: int
    reason: str
    failure_cause: str | None
    failure_reason: str | None
    requested_at: datetime
    approved_at: datetime | None
    cancellation_requested_at: datetime | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnsOfOrder:
    """The returns of an order, the first one first."""

    returns: list[Return]


@routes.post(
    "/orders/{order_id:ulid}/returns",
    status_code=202,
    response_model=AcceptedReturn,
    responses=ONE_ORDER | {409: PROBLEM_RESPONSES[409]},
)
def request_return(
    order_id: OrderId,
    body: ReturnBody,
    key: IdempotencyKey,
    caller: Customer,
    resources: Resources,
    trace: Trace,
    request: Request,
    response: Response,
) -> Response:
    """Accept a return of pieces of a confirmed order. The resource at ``Location`` shows what becomes of it."""
    requested = ReturnRequest(key=(caller.subject, key), order_id=order_id, body=body, traceparent=trace)
    with resources.engine.begin() as tx:
        order, counted = _visible_order(tx, order_id, caller)
        accepted = return_intake.request_return(
            tx, requested, order, counted, codec=resources.codec, now=datetime.now(UTC)
        )
    resources.batcher.publish(accepted.rows)
    request.scope["saga_id"] = accepted.return_id
    headers = dict(response.headers) | {"Location": f"/v1/returns/{accepted.return_id}"}
    if accepted.is_replay:
        headers["Idempotent-Replayed"] = "true"
    return Response(accepted.body, accepted.status, headers=headers, media_type="application/json")


@routes.get("/orders/{order_id:ulid}/returns", responses=ONE_ORDER)
def read_returns(order_id: OrderId, caller: Reader, resources: Resources) -> ReturnsOfOrder:
    """Return the returns of an order, the first one first. A customer sees only those of its own orders."""
    with resources.engine.begin() as tx:
        _visible_order(tx, order_id, caller)
        return ReturnsOfOrder(returns=[_return_of(row) for row in return_tables.load_returns(tx, order_id)])


@routes.get("/returns/{return_id:ulid}", responses=ONE_ORDER)
def read_return(return_id: ReturnId, caller: Reader, resources: Resources) -> Return:
    """Return a return. A customer sees only its own ones; any other id is a 404."""
    with resources.engine.begin() as tx:
        return _visible(tx, return_id, caller)


@routes.post("/returns/{return_id:ulid}/cancel", status_code=202, responses=ONE_ORDER | {409: PROBLEM_RESPONSES[409]})
def cancel_return(return_id: ReturnId, caller: Customer, resources: Resources, trace: Trace) -> Return:
    """Request the cancellation of a return. It comes in time until the courier has collected the parcel."""
    with resources.engine.begin() as tx:
        _visible(tx, return_id, caller)
        rows = return_intake.cancel_return(
            tx, return_id, codec=resources.codec, now=datetime.now(UTC), traceparent=trace
        )
        found = _visible(tx, return_id, caller)
    resources.batcher.publish(rows)
    return found


def _visible_order(tx: Connection, order_id: str, caller: Principal) -> tuple[PlacedOrder, list[CountedReturn]]:
    found = return_tables.load_placed_order(tx, order_id)
    if found is None or not may_see(caller, found[0].customer_id):
        raise Problem(status=404, detail=f"There is no order {order_id} of yours; check the order's id.")
    return found


def _visible(tx: Connection, return_id: str, caller: Principal) -> Return:
    row = return_tables.load_return(tx, return_id)
    if row is None or not may_see(caller, row.customer_id):
        raise Problem(status=404, detail=f"There is no return {return_id} of yours; check the id in Location.")
    return _return_of(row)


def _return_of(row: return_tables.ReturnRow) -> Return:
    state = ReturnState(row.state)
    return Return(
        return_id=row.return_id,
        order_id=row.order_id,
        customer_id=row.customer_id,
        state=state,
        message=return_message_of(state, is_cancellation_requested=row.cancellation_requested_at is not None),
        lines=[PricedLine(**line) for line in row.lines],
        received=None if row.received is None else [ReceivedLine(**line) for line in row.received],
        currency=row.currency,
        refund_minor=row.refund_minor,
        points_minor=row.points_minor,
        points=row.points,
        reason=row.reason,
        failure_cause=row.failure_cause,
        failure_reason=row.failure_reason,
        requested_at=row.requested_at,
        approved_at=row.approved_at,
        cancellation_requested_at=row.cancellation_requested_at,
        decided_at=row.decided_at,
    )
