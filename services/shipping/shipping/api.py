"""Shipping's HTTP API, where staff read an order's shipment."""

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
from chassis.process import service
from chassis.process.service import Dependencies

FIND = text("""
    SELECT saga_id, state, tracking_number, updated_at FROM shipments WHERE saga_id = :saga_id
""")


class ShipmentAnswer(BaseModel):
    """One order's shipment."""

    saga_id: str
    state: str
    tracking_number: str | None
    updated_at: datetime


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["shipments"])

    @router.get("/v1/shipments/{saga_id}", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 404, 422, 500, 503)})
    def get_shipment(
        saga_id: Annotated[SagaId, Path()], _caller: Annotated[Principal, Depends(require("support", "operator"))]
    ) -> ShipmentAnswer:
        """Return one order's shipment."""
        with engine.connect() as connection:
            row = connection.execute(FIND, {"saga_id": saga_id}).mappings().one_or_none()
        if not row:
            raise Problem(status=404, detail=f"Order {saga_id} has no shipment here.")
        return ShipmentAnswer(**row)

    return router


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Shipping", dependencies, routes(dependencies.engine))
