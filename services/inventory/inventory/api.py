"""Inventory's HTTP API, where staff set and read the stock."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import Sku, SkuText
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem, keyed
from chassis.process import service
from chassis.process.service import Dependencies
from chassis.values.text import normal
from inventory import tables

LINES_MAX = 5_000
"""One request is one transaction. A larger load needs several requests."""
UNITS_MAX = 1_000_000_000
WRITING = (400, 401, 403, 413, 415, 422, 500, 503)
"""The problem statuses of a load."""
BODY_BYTES_MAX = 4_194_304


class StockLevel(BaseModel):
    """The free units of one SKU, as counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: Sku
    on_hand: int = Field(strict=True, ge=0, le=UNITS_MAX)


class StockAnswer(BaseModel):
    """The stock of one SKU."""

    sku: str
    received: int
    on_hand: int


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["stock"])

    @router.put("/v1/stock", status_code=204, responses={s: PROBLEM_RESPONSES[s] for s in WRITING})
    def put_stock(
        levels: Annotated[list[StockLevel], Field(min_length=1, max_length=LINES_MAX)],
        _caller: Annotated[Principal, Depends(require("operator"))],
    ) -> Response:
        """Set the free units of each SKU, of all or of none."""
        units = keyed(((level.sku, level.on_hand) for level in levels), "sku")
        with engine.begin() as tx:
            tables.receive(tx, units)
        return Response(status_code=204)

    @router.get("/v1/stock/{sku}", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 404, 422, 500, 503)})
    def get_stock(
        sku: Annotated[SkuText, Path()],
        _caller: Annotated[Principal, Depends(require("support", "operator", "storefront"))],
    ) -> StockAnswer:
        """Return one SKU's units: received in all, and on hand."""
        with engine.connect() as connection:
            # An earlier release may have stored it as it was sent.
            row = tables.find(connection, sku) or tables.find(connection, normal(sku))
        if row is None:
            raise Problem(status=404, detail=f"Inventory has no SKU {sku}; load the catalogue first.")
        return StockAnswer(sku=row.sku, received=row.received, on_hand=row.on_hand)

    return router


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Inventory", dependencies, routes(dependencies.engine), body_bytes_max=BODY_BYTES_MAX)
