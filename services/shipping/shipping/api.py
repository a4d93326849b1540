"""Shipping's HTTP API, where staff read an order's shipment, and what became of a return's parcel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Path
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Engine, text

from chassis.http.auth import Principal, require
from chassis.http.fields import Remark, SagaId
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.postgres.transient import utc_now
from chassis.process import evidence_api, service
from chassis.process.service import Dependencies
from shipping.collecting import STEP

FIND = text("""
    SELECT saga_id, state, tracking_number, updated_at FROM shipments WHERE saga_id = :saga_id
""")

FIND_COLLECTION = text("""
    SELECT attempts.saga_id,
           coalesce(
               collections.state,
               CASE effects.state
                   WHEN 'FENCED' THEN 'CALLED_OFF' WHEN 'REJECTED' THEN 'NOT_COLLECTED' ELSE 'AWAITED'
               END
           ) AS state,
           coalesce(collections.collection_id, split_part(attempts.provider_id, ':', 2)) AS collection_id,
           collections.order_id, collections.received, collections.surplus,
           collections.refund_minor, collections.updated_at,
           attempts.first_sent_at AS requested_at,
           awaited_steps.query_at AS next_query_at,
           settled.settled_at, settled.settled_by, settled.reason AS settled_reason
    FROM attempts
    JOIN effects ON effects.saga_id = attempts.saga_id AND effects.step = attempts.step
    JOIN awaited_steps ON awaited_steps.saga_id = attempts.saga_id AND awaited_steps.step = attempts.step
    LEFT JOIN collections ON collections.saga_id = attempts.saga_id AND collections.step = attempts.step
    LEFT JOIN surplus_settlements AS settled
        ON settled.saga_id = attempts.saga_id AND settled.step = attempts.step
    WHERE attempts.saga_id = :saga_id AND attempts.step = :step
    ORDER BY attempts.number DESC
    LIMIT 1
""")

SETTLE_SURPLUS = text("""
    INSERT INTO surplus_settlements (saga_id, step, settled_at, settled_by, reason)
    SELECT saga_id, step, :now, :by, :reason FROM collections
    WHERE saga_id = :saga_id AND step = :step AND surplus IS NOT NULL
    ON CONFLICT (saga_id, step) DO NOTHING
""")


class ShipmentAnswer(BaseModel):
    """One order's shipment."""

    saga_id: str
    state: str
    tracking_number: str | None
    updated_at: datetime


class ReceivedLine(BaseModel):
    """What arrived of one product."""

    sku: str
    good: int
    damaged: int


class CollectionAnswer(BaseModel):
    """What became of one return's parcel. While it is AWAITED nothing is known but when it was requested."""

    saga_id: str
    state: Literal["AWAITED", "CALLED_OFF", "ARRIVED", "LOST", "NOT_COLLECTED"]
    collection_id: str | None
    order_id: str | None
    received: list[ReceivedLine] | None
    surplus: list[ReceivedLine] | None
    refund_minor: int | None
    requested_at: datetime | None
    updated_at: datetime | None
    next_query_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    settled_reason: str | None


class Settlement(BaseModel):
    """What was done about the surplus of a parcel."""

    model_config = ConfigDict(extra="forbid")

    reason: Remark


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["shipments"])

    @router.get("/v1/shipments/{saga_id}", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 404, 422, 500, 503)})
    def get_shipment(
        saga_id: Annotated[SagaId, Path()],
        _caller: Annotated[Principal, Depends(require("support", "operator", "finance"))],
    ) -> ShipmentAnswer:
        """Return one order's shipment."""
        with engine.connect() as connection:
            row = connection.execute(FIND, {"saga_id": saga_id}).mappings().one_or_none()
        if not row:
            raise Problem(status=404, detail=f"Order {saga_id} has no shipment here.")
        return ShipmentAnswer(**row)

    return router


def collection_routes(engine: Engine) -> APIRouter:
    """Return the routes of collections."""
    router = APIRouter(route_class=JsonRoute, tags=["collections"])

    @router.get(
        "/v1/collections/{saga_id}", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 404, 422, 500, 503)}
    )
    def get_collection(
        saga_id: Annotated[SagaId, Path()],
        _caller: Annotated[Principal, Depends(require("support", "operator", "finance"))],
    ) -> CollectionAnswer:
        """Return what became of one return's parcel."""
        with engine.connect() as tx:
            return _collection(tx, saga_id)

    @router.post(
        "/v1/collections/{saga_id}/settle",
        responses={s: PROBLEM_RESPONSES[s] for s in (400, 401, 403, 404, 409, 413, 415, 422, 500, 503)},
    )
    def settle_surplus(
        saga_id: Annotated[SagaId, Path()],
        caller: Annotated[Principal, Depends(require("operator"))],
        settlement: Settlement,
    ) -> CollectionAnswer:
        """Record what was done about the pieces that the parcel had besides. The return itself stays as it is."""
        values = {
            "saga_id": saga_id, "step": STEP, "now": utc_now(), "by": caller.actor, "reason": settlement.reason,
        }  # fmt: skip
        with engine.begin() as tx:
            is_settled = tx.execute(SETTLE_SURPLUS, values).rowcount == 1
            found = _collection(tx, saga_id)
        if not is_settled:
            known = f"it was settled by {found.settled_by}" if found.settled_by else "the parcel had none"
            raise Problem(status=409, detail=f"Return {saga_id} has no surplus to settle: {known}.")
        return found

    return router


def _collection(tx: Connection, saga_id: str) -> CollectionAnswer:
    """Return what became of one return's parcel. Raises the Problem where there is none."""
    found = tx.execute(FIND_COLLECTION, {"saga_id": saga_id, "step": STEP}).mappings().one_or_none()
    if not found:
        raise Problem(status=404, detail=f"Return {saga_id} has no collection here.")
    return CollectionAnswer(**found)


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    engine = dependencies.engine
    return service.api(
        "Shipping", dependencies, routes(engine), collection_routes(engine), evidence_api.routes(engine, clock=utc_now)
    )
