"""The routes by which operators read and close the evidence that matches no attempt of a service.

They decide nothing about a step: its provider is queried meanwhile, and only evidence settles it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL, Remark
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES
from chassis.saga import unmatched_evidence
from chassis.saga.unmatched_evidence import Unmatched

LISTED_MAX = 1_000
CLOSED_MAX = 1_000
"""Pieces of one request."""
ID = r"^[0-9A-Za-z_-]{1,64}$"

Staff = Annotated[Principal, Depends(require("support", "operator"))]
Operator = Annotated[Principal, Depends(require("operator"))]


class EvidenceList(BaseModel):
    """Evidence without an attempt."""

    evidence: list[Unmatched]


class Closing(BaseModel):
    """Which pieces are closed, and why."""

    model_config = ConfigDict(extra="forbid")

    evidence_ids: list[Annotated[str, CANONICAL, Field(pattern=ID)]] = Field(min_length=1, max_length=CLOSED_MAX)
    reason: Remark


class Closed(BaseModel):
    """The ids of the pieces that this request closed."""

    closed: list[str]


def routes(engine: Engine, *, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes under ``/v1/evidence``."""
    router = APIRouter(route_class=JsonRoute, tags=["evidence"])

    @router.get("/v1/evidence", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 422, 500, 503)})
    def list_evidence(
        _staff: Staff, closed: bool = False, limit: Annotated[int, Query(ge=1, le=LISTED_MAX)] = 200
    ) -> EvidenceList:
        """Return the evidence that matches no attempt, the oldest first; or what operators have closed."""
        find = unmatched_evidence.list_closed if closed else unmatched_evidence.list_unmatched
        with engine.connect() as tx:
            return EvidenceList(evidence=find(tx, limit=limit))

    @router.post(
        "/v1/evidence/close", responses={s: PROBLEM_RESPONSES[s] for s in (400, 401, 403, 413, 415, 422, 500, 503)}
    )
    def close_evidence(operator: Operator, closing: Closing) -> Closed:
        """Close evidence that needs no decision. What has been matched or closed meanwhile stays as it is."""
        with engine.begin() as tx:
            found = unmatched_evidence.close(
                tx, closing.evidence_ids, by=operator.actor, reason=closing.reason, now=clock()
            )
        return Closed(closed=found)

    return router
