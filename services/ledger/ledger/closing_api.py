"""Closing a day over HTTP, before the service closes it by itself. What a closed day has can no longer be changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import Day
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from chassis.wire.codec import Codec
from ledger.closing import close_and_publish
from ledger.store.closing import CannotClose

WRITING: Final = (400, 401, 403, 409, 413, 415, 422, 500, 503)
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {status: PROBLEM_RESPONSES[status] for status in WRITING}


class DayToClose(BaseModel):
    """The day of a chart that is to be closed: the one after the last closed day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chart: Literal["shop", "merchants", "sacco"]
    day: Day


class ClosedDayAnswer(BaseModel):
    """A closed day. Keep ``root`` and ``heads`` outside: with them, later changes of older rows are found."""

    chart: str
    day: date
    closed_until: datetime
    closed_at: datetime
    root: str
    heads: str


def routes(engine: Engine, codec: Codec, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["days"])

    @router.post("/v1/day-closes", status_code=201, responses=RESPONSES)
    def close(body: DayToClose, _caller: Annotated[Principal, Depends(require("bookkeeper"))]) -> ClosedDayAnswer:
        """Close a day that is over. What is booked later with an earlier value date is marked as late."""
        try:
            with engine.begin() as tx:
                closed = close_and_publish(body.chart, body.day, tx, codec, now=clock())
        except CannotClose as error:
            raise Problem(
                status=409, title="The day cannot be closed", detail=str(error), type="urn:baraza:problem:cannot-close"
            ) from error
        return ClosedDayAnswer(
            chart=closed.chart,
            day=closed.day,
            closed_until=closed.closed_until,
            closed_at=closed.closed_at,
            root=closed.root.hex(),
            heads=closed.heads,
        )

    return router
