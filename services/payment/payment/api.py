"""Payment's HTTP API, where staff read an order's payment."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path
from pydantic import BaseModel
from sqlalchemy import Engine, text

from chassis.http.auth import Principal, require
from chassis.http.fields import SagaId
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.postgres.transient import utc_now
from chassis.process import evidence_api, service
from chassis.process.service import Dependencies
from payment.merchants import api as merchants_api

FIND = text("""
    SELECT saga_id, state, authorization_id, capture_id, refund_id, currency, amount_minor, updated_at,
           coalesce((SELECT sum(refunds.amount_minor)::bigint FROM refunds WHERE order_id = payments.saga_id), 0)
               AS returned_minor
    FROM payments WHERE saga_id = :saga_id
""")


class PaymentAnswer(BaseModel):
    """One order's payment. ``returned_minor`` is what returns have refunded of it; ``refund_id`` is of all of it."""

    saga_id: str
    state: str
    authorization_id: str | None
    capture_id: str | None
    refund_id: str | None
    currency: str
    amount_minor: int
    updated_at: datetime
    returned_minor: int


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["payments"])

    @router.get("/v1/payments/{saga_id}", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 404, 422, 500, 503)})
    def get_payment(
        saga_id: Annotated[SagaId, Path()],
        _caller: Annotated[Principal, Depends(require("support", "operator", "finance"))],
    ) -> PaymentAnswer:
        """Return one order's payment."""
        with engine.connect() as connection:
            row = connection.execute(FIND, {"saga_id": saga_id}).mappings().one_or_none()
        if not row:
            raise Problem(status=404, detail=f"Order {saga_id} has no payment here.")
        return PaymentAnswer(**row)

    return router


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    engine = dependencies.engine
    evidence = evidence_api.routes(engine, clock=utc_now)
    return service.api("Payment", dependencies, routes(engine), merchants_api.routes(engine), evidence)
