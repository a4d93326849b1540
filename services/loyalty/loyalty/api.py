"""Loyalty's HTTP API, where staff grant points and customers read their own account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Engine

from chassis.http import movements
from chassis.http.auth import Principal, require
from chassis.http.fields import CustomerId, CustomerIdText, Remark
from chassis.http.json_body import JsonRoute
from chassis.http.movements import IfMatch, MovementKey
from chassis.http.problem import PROBLEM_RESPONSES, Problem, keyed
from chassis.process import service
from chassis.process.service import Dependencies
from chassis.values.movements import Balance, Movement, MovementKind
from chassis.values.text import normal
from loyalty import tables

ACCOUNTS_MAX = 5_000
"""One request is one transaction. A larger load needs several requests."""
POINTS_MAX = 1_000_000_000_000
WRITING = (400, 401, 403, 413, 415, 422, 500, 503)
"""The problem statuses of a load."""
BODY_BYTES_MAX = 4_194_304
STAFF = frozenset({"support", "operator", "storefront"})


class PointsLevel(BaseModel):
    """The points to set on a customer's account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer_id: CustomerId
    points: int = Field(strict=True, ge=0, le=POINTS_MAX)


class PointsMovement(BaseModel):
    """Points that a customer is granted, or by which an account is corrected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer_id: CustomerId
    kind: Literal["granted", "corrected"]
    points: int = Field(strict=True, ge=-POINTS_MAX, le=POINTS_MAX)
    reason: Remark

    @model_validator(mode="after")
    def _check(self) -> PointsMovement:
        if self.points == 0 or (self.points < 0 and self.kind == "granted"):
            raise ValueError(f"points {self.points} of kind {self.kind}; send kind corrected to withdraw some")
        return self

    @property
    def movement(self) -> Movement:
        """The movement to record."""
        return Movement(kind=MovementKind(self.kind.upper()), units=self.points, reason=self.reason)


class AccountAnswer(BaseModel):
    """One customer's account: the points it was opened with, all that were ever granted, and those that are left."""

    customer_id: str
    opened: int
    granted: int
    balance: int


class AccountAnswers(BaseModel):
    """The accounts that a request named, as they are after it."""

    accounts: list[AccountAnswer]


Levels = Annotated[list[PointsLevel], Field(min_length=1, max_length=ACCOUNTS_MAX)]
Movements = Annotated[list[PointsMovement], Field(min_length=1, max_length=ACCOUNTS_MAX)]
AnyCaller = Annotated[Principal, Depends(require())]
Operator = Annotated[Principal, Depends(require("operator"))]


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["accounts"])

    @router.put("/v1/accounts", status_code=204, responses=responses(*WRITING, 412, 428))
    def put_accounts(levels: Levels, caller: Operator, if_match: IfMatch = None) -> Response:
        """Set the balance of each account, of all or of none; over a known one only with If-Match, for one account."""
        points = keyed(((level.customer_id, level.points) for level in levels), "customer_id")
        with engine.begin() as tx:
            movements.set_balances(tx, tables, caller.subject, points, if_match, field="customer_id")
        return Response(status_code=204)

    @router.put("/v1/accounts/openings", responses=responses(*WRITING))
    def put_openings(openings: Levels, caller: Operator) -> AccountAnswers:
        """Open new accounts, all or none. An account that is known stays as it is."""
        points = keyed(((opening.customer_id, opening.points) for opening in openings), "customer_id")
        with engine.begin() as tx:
            return _answers(movements.opened(tx, tables, caller.subject, points).balances)

    @router.post("/v1/accounts/movements", responses=responses(*WRITING, 409))
    def post_movements(body: Movements, caller: Operator, key: MovementKey, response: Response) -> AccountAnswers:
        """Grant points or correct accounts, all or none; once for an Idempotency-Key."""
        moved = keyed(((each.customer_id, each.movement) for each in body), "customer_id")
        with engine.begin() as tx:
            entered = movements.record(tx, tables, caller.subject, key, moved, field="customer_id")
        response.headers.update(entered.headers)
        return _answers(entered.balances)

    @router.get("/v1/accounts/{customer_id:path}", responses=responses(401, 403, 404, 422, 500, 503))
    def get_account(
        customer_id: Annotated[CustomerIdText, Path()], caller: AnyCaller, response: Response
    ) -> AccountAnswer:
        """Return one customer's points: granted in all, and left. The ETag is for PUT /v1/accounts."""
        stored, balance = _find(engine, _readable(caller, customer_id))
        response.headers["ETag"] = movements.etag(balance)
        return _answer(stored, balance)

    return router


def _readable(caller: Principal, customer_id: str) -> Sequence[str]:
    """Return the forms of the id under which the caller may read an account; a customer its own, as its token has it.

    Raises the 403.
    """
    forms = (customer_id, normal(customer_id))
    if not caller.roles.isdisjoint(STAFF):
        return forms
    if caller.subject not in forms:
        raise Problem(status=403, detail="A customer may read only its own account.")
    return (caller.subject,)


def _find(engine: Engine, forms: Sequence[str]) -> tuple[str, Balance]:
    """Return the customer's id in the first of these forms under which it is stored, and its account.

    An earlier release may have stored it as it was sent. Raises the 404.
    """
    with engine.connect() as connection:
        for form in forms:
            if (found := tables.find(connection, form)) is not None:
                return form, found
    raise Problem(status=404, detail=f"There is no account of {forms[0]}; load the customers first.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of these problems."""
    return {status: PROBLEM_RESPONSES[status] for status in statuses}


def _answers(balances: Mapping[str, Balance]) -> AccountAnswers:
    return AccountAnswers(accounts=[_answer(customer_id, balance) for customer_id, balance in balances.items()])


def _answer(customer_id: str, balance: Balance) -> AccountAnswer:
    return AccountAnswer(customer_id=customer_id, opened=balance.opened, granted=balance.entered, balance=balance.free)


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Loyalty", dependencies, routes(dependencies.engine), body_bytes_max=BODY_BYTES_MAX)
