"""Loyalty's HTTP API, where staff grant points and customers read their own account."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import CustomerId, CustomerIdText
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem, keyed
from chassis.process import service
from chassis.process.service import Dependencies
from chassis.values.text import normal
from loyalty import tables

ACCOUNTS_MAX = 5_000
"""One request is one transaction. A larger load needs several requests."""
POINTS_MAX = 1_000_000_000_000
WRITING = (400, 401, 403, 413, 415, 422, 500, 503)
"""The problem statuses of a load."""
BODY_BYTES_MAX = 4_194_304
STAFF = frozenset({"support", "operator", "storefront"})


class Balance(BaseModel):
    """The points to set on a customer's account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer_id: CustomerId
    points: int = Field(strict=True, ge=0, le=POINTS_MAX)


class AccountAnswer(BaseModel):
    """One customer's account."""

    customer_id: str
    granted: int
    balance: int


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["accounts"])

    @router.put("/v1/accounts", status_code=204, responses={s: PROBLEM_RESPONSES[s] for s in WRITING})
    def put_accounts(
        balances: Annotated[list[Balance], Field(min_length=1, max_length=ACCOUNTS_MAX)],
        _caller: Annotated[Principal, Depends(require("operator"))],
    ) -> Response:
        """Set the balance of each account, of all or of none."""
        points = keyed(((balance.customer_id, balance.points) for balance in balances), "customer_id")
        with engine.begin() as tx:
            tables.grant(tx, points)
        return Response(status_code=204)

    @router.get(
        "/v1/accounts/{customer_id}", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 404, 422, 500, 503)}
    )
    def get_account(
        customer_id: Annotated[CustomerIdText, Path()], caller: Annotated[Principal, Depends(require())]
    ) -> AccountAnswer:
        """Return one customer's points: granted in all, and left."""
        forms = [customer_id, normal(customer_id)]
        if caller.roles.isdisjoint(STAFF):
            if caller.subject not in forms:
                raise Problem(status=403, detail="A customer may read only its own account.")
            forms = [caller.subject]
        with engine.connect() as connection:
            # As it was sent first: an earlier release may have stored it like that.
            found = (tables.find(connection, form) for form in forms)
            row = next((each for each in found if each is not None), None)
        if row is None:
            raise Problem(status=404, detail=f"There is no account of {customer_id}; load the customers first.")
        return AccountAnswer(customer_id=row.customer_id, granted=row.granted, balance=row.balance)

    return router


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Loyalty", dependencies, routes(dependencies.engine), body_bytes_max=BODY_BYTES_MAX)
