"""Inventory's HTTP API, where staff enter and read the stock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Engine

from chassis.http import movements
from chassis.http.auth import Principal, require
from chassis.http.fields import Remark, Sku, SkuText
from chassis.http.json_body import JsonRoute
from chassis.http.movements import IfMatch, MovementKey
from chassis.http.problem import PROBLEM_RESPONSES, Problem, keyed
from chassis.process import service
from chassis.process.service import Dependencies
from chassis.values.movements import Balance, Movement, MovementKind
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


class Opening(BaseModel):
    """The units that a SKU begins with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: Sku
    units: int = Field(strict=True, ge=0, le=UNITS_MAX)


class StockMovement(BaseModel):
    """Units of one SKU that came in, were counted, or are corrected.

    ``units`` is the difference for ``received`` and ``corrected``. For ``counted`` it is the number counted, and
    ``expected`` is ``on_hand`` as it was read when the count began: the difference of the two is recorded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sku: Sku
    kind: Literal["received", "counted", "corrected"]
    units: int = Field(strict=True, ge=-UNITS_MAX, le=UNITS_MAX)
    expected: int | None = Field(default=None, strict=True, ge=0, le=UNITS_MAX)
    reason: Remark

    @model_validator(mode="after")
    def _check(self) -> StockMovement:
        if (self.expected is None) == (self.kind == "counted"):
            raise ValueError("expected belongs to kind counted, and to no other: on_hand as read when the count began")
        if (self.kind == "received" and self.units < 1) or (self.kind == "counted" and self.units < 0):
            raise ValueError(f"units {self.units} of kind {self.kind}; send kind corrected to take units out")
        if self.kind == "corrected" and self.units == 0:
            raise ValueError("units 0 of kind corrected; send the difference, or nothing")
        return self

    @property
    def movement(self) -> Movement:
        """The movement to record."""
        return Movement(
            kind=MovementKind(self.kind.upper()), units=self.units - (self.expected or 0), reason=self.reason
        )


class StockAnswer(BaseModel):
    """The stock of one SKU: what it was opened with, all units that ever came in, and those that no order holds."""

    sku: str
    opened: int
    received: int
    on_hand: int


class StockAnswers(BaseModel):
    """The stock of the SKUs that a request named, as it is after it."""

    levels: list[StockAnswer]


Levels = Annotated[list[StockLevel], Field(min_length=1, max_length=LINES_MAX)]
Openings = Annotated[list[Opening], Field(min_length=1, max_length=LINES_MAX)]
Movements = Annotated[list[StockMovement], Field(min_length=1, max_length=LINES_MAX)]
Operator = Annotated[Principal, Depends(require("operator"))]
Staff = Annotated[Principal, Depends(require("support", "operator", "storefront"))]


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["stock"])

    @router.put("/v1/stock", status_code=204, responses=responses(*WRITING, 412, 428))
    def put_stock(levels: Levels, caller: Operator, if_match: IfMatch = None) -> Response:
        """Set the free units of each SKU, of all or of none; over a known number only with If-Match, for one SKU."""
        units = keyed(((level.sku, level.on_hand) for level in levels), "sku")
        with engine.begin() as tx:
            movements.set_balances(tx, tables, caller.subject, units, if_match, field="sku")
        return Response(status_code=204)

    @router.put("/v1/stock/openings", responses=responses(*WRITING))
    def put_openings(openings: Openings, caller: Operator) -> StockAnswers:
        """Open the stock of new SKUs, of all or of none. A SKU that is known stays as it is."""
        units = keyed(((opening.sku, opening.units) for opening in openings), "sku")
        with engine.begin() as tx:
            return _answers(movements.opened(tx, tables, caller.subject, units).balances)

    @router.post("/v1/stock/movements", responses=responses(*WRITING, 409))
    def post_movements(body: Movements, caller: Operator, key: MovementKey, response: Response) -> StockAnswers:
        """Record what came in, was counted or is corrected, of all or of none; once for an Idempotency-Key."""
        moved = keyed(((each.sku, each.movement) for each in body), "sku")
        with engine.begin() as tx:
            entered = movements.record(tx, tables, caller.subject, key, moved, field="sku")
        response.headers.update(entered.headers)
        return _answers(entered.balances)

    @router.get("/v1/stock/{sku:path}", responses=responses(401, 403, 404, 422, 500, 503))
    def get_stock(sku: Annotated[SkuText, Path()], _caller: Staff, response: Response) -> StockAnswer:
        """Return one SKU's units: received in all, and on hand. The ETag is for PUT /v1/stock."""
        stored, balance = _find(engine, sku)
        response.headers["ETag"] = movements.etag(balance)
        return _answer(stored, balance)

    return router


def _find(engine: Engine, sku: str) -> tuple[str, Balance]:
    """Return the SKU as it is stored, and its stock. Raises the 404."""
    with engine.connect() as connection:
        for form in (sku, normal(sku)):  # as it was sent first: an earlier release may have stored it like that
            if (found := tables.find(connection, form)) is not None:
                return form, found
    raise Problem(status=404, detail=f"Inventory has no SKU {sku}; load the catalogue first.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of these problems."""
    return {status: PROBLEM_RESPONSES[status] for status in statuses}


def _answers(balances: Mapping[str, Balance]) -> StockAnswers:
    return StockAnswers(levels=[_answer(sku, balance) for sku, balance in balances.items()])


def _answer(sku: str, balance: Balance) -> StockAnswer:
    return StockAnswer(sku=sku, opened=balance.opened, received=balance.entered, on_hand=balance.free)


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Inventory", dependencies, routes(dependencies.engine), body_bytes_max=BODY_BYTES_MAX)
