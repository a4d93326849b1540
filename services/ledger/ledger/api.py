"""The ledger's HTTP API, where staff read an order's entries."""

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
from chassis.process import service
from chassis.process.service import Dependencies
from ledger import closing_api, finance_api, manual_api, sacco_api
from ledger.manual_api import READING

FIND = text("""
    SELECT saga_id, CASE transfers.kind WHEN 'CORRECTION' THEN 'REVERSE' ELSE 'POST' END AS kind,
           code AS account, greatest(amount_minor, 0) AS debit_minor, greatest(-amount_minor, 0) AS credit_minor,
           CAST(greatest(amount_minor, 0) AS text) AS debit, CAST(greatest(-amount_minor, 0) AS text) AS credit,
           currency, transfers.booked_at AS posted_at
    FROM transfers
    JOIN transfer_entries ON transfer_id = transfers.id
    JOIN accounts ON accounts.id = account_id
    WHERE saga_id = :saga_id AND NOT is_hold
      AND (:with_manual OR NOT EXISTS (SELECT FROM manual_postings WHERE posting_id = :saga_id))
    ORDER BY transfers.id, code
""")


class EntryAnswer(BaseModel):
    """One side of a posting, in minor units.

    ``debit`` and ``credit`` are decimal texts: many clients round a JSON number of more than 53 bits.
    """

    saga_id: str
    kind: str
    account: str
    debit_minor: int
    credit_minor: int
    debit: str
    credit: str
    currency: str
    posted_at: datetime


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["entries"])

    @router.get("/v1/entries/{saga_id}", responses={s: PROBLEM_RESPONSES[s] for s in READING})
    def get_entry(
        saga_id: Annotated[SagaId, Path()],
        caller: Annotated[Principal, Depends(require("support", "operator", "finance"))],
    ) -> list[EntryAnswer]:
        """Return one order's entries, in the order in which they were posted; a manual posting's for finance only."""
        values = {"saga_id": saga_id, "with_manual": "finance" in caller.roles}
        with engine.connect() as connection:
            rows = connection.execute(FIND, values).mappings().all()
        if not rows:
            raise Problem(status=404, detail=f"Order {saga_id} has no entry here.")
        return [EntryAnswer(**row) for row in rows]

    return router


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    engine, codec = dependencies.engine, dependencies.codec
    return service.api(
        "Ledger",
        dependencies,
        routes(engine),
        finance_api.routes(engine, utc_now),
        manual_api.routes(engine, codec, utc_now),
        closing_api.routes(engine, codec, utc_now),
        sacco_api.routes(engine, utc_now),
    )
