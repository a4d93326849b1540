"""Where treasury imports statements, and two persons claim an outcome that a row of one proves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, text

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL, Day, Remark
from chassis.http.json_body import JsonRoute
from chassis.http.people import person
from chassis.http.problem import Problem
from mobile_money import claims
from mobile_money.claims import ClaimRefused
from mobile_money.importing import File, Imported, import_file
from mobile_money.intake import Deciding
from mobile_money.money_api import LISTED_MAX, Limit, Rows, Staff, Treasury, responses_of
from mobile_money.readings import NAIROBI
from mobile_money.statements import InvalidStatement

Approver = Annotated[Principal, Depends(require("approver"))]
ClaimId = Annotated[str, Path(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$")]

FILES = text("""
    SELECT id, short_code, account, name, begins_at, ends_at, rows, new_rows, gaps, last_balance_minor, imported_by,
           imported_at
    FROM statement_files ORDER BY imported_at DESC LIMIT :limit
""")
STATEMENT_ROWS = text("""
    SELECT short_code, receipt, account, kind, completed_at, amount_minor, balance_minor, details, reference, party,
           match, saga_id, reason
    FROM statement_rows WHERE match = :match ORDER BY completed_at, receipt LIMIT :limit
""")
CLAIMS = text("""
    SELECT id AS claim_id, short_code, saga_id, step, outcome, receipt, account, kind, reason, state, proposed_by,
           proposed_at, decided_by, decided_at
    FROM claims WHERE state = :state ORDER BY proposed_at LIMIT :limit
""")


class ImportedAnswer(BaseModel):
    """What an import has found."""

    rows: int
    new_rows: int
    matched: int
    listed: int
    gaps: int
    is_repeated: bool


class Proposal(BaseModel):
    """A payout that a row of a statement proves to be paid."""

    model_config = ConfigDict(extra="forbid")

    saga_id: Annotated[str, CANONICAL, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
    short_code: Annotated[str, CANONICAL, Field(pattern=r"^[0-9]{5,7}$")]
    receipt: Annotated[str, CANONICAL, Field(pattern=r"^[A-Z0-9]{6,36}$")]
    account: Literal["UTILITY", "WORKING"] = "UTILITY"
    reason: Remark


class Booking(BaseModel):
    """A row of a statement that a manual posting of the ledger has booked. ``posting_id`` is the posting's saga."""

    model_config = ConfigDict(extra="forbid")

    posting_id: Annotated[str, CANONICAL, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
    short_code: Annotated[str, CANONICAL, Field(pattern=r"^[0-9]{5,7}$")]
    receipt: Annotated[str, CANONICAL, Field(pattern=r"^[A-Z0-9]{6,36}$")]
    account: Literal["UTILITY", "WORKING", "CHARGES"] = "UTILITY"
    kind: Literal["IN", "OUT", "CHARGE", "REVERSAL", "TRANSFER"]
    reason: Remark


class ClaimDecision(BaseModel):
    """What the second person decides."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["APPROVED", "REFUSED"]


def routes(engine: Engine, needed: Deciding, *, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["statements"])
    _add_importing(router, engine, needed, clock)
    _add_claims(router, engine, clock)
    return router


def bounds_of(day: date) -> tuple[datetime, datetime]:
    """Return when a day in Nairobi begins and ends."""
    begins_at = datetime.combine(day, time(), NAIROBI)
    return begins_at, begins_at + timedelta(days=1)


def _add_importing(router: APIRouter, engine: Engine, needed: Deciding, clock: Callable[[], datetime]) -> None:
    @router.post("/v1/statements", status_code=201, responses=responses_of(400, 404, 413))
    async def import_statement(
        caller: Treasury,
        request: Request,
        short_code: Annotated[str, Query(pattern=r"^[0-9]{5,7}$")],
        account: Literal["UTILITY", "WORKING", "CHARGES"],
        name: Annotated[str, Query(min_length=1, max_length=200)] = "statement.csv",
        day: Day | None = None,
    ) -> ImportedAnswer:
        """Import a statement's CSV, which is the body. ``day`` says that it covers that whole day."""
        begins_at, ends_at = (None, None) if day is None else bounds_of(day)
        file = File(
            account=account, name=name, content=await request.body(), begins_at=begins_at, ends_at=ends_at,
            imported_by=caller.subject,
        )  # fmt: skip
        found = await anyio.to_thread.run_sync(_import, engine, needed, short_code, file, clock())
        shown = ("rows", "new_rows", "matched", "listed", "gaps", "is_repeated")
        return ImportedAnswer(**{each: getattr(found, each) for each in shown})

    @router.get("/v1/statements", responses=responses_of())
    def list_statements(_staff: Staff, limit: Limit = 200) -> Rows:
        """Return the files that were imported, the last one first."""
        with engine.connect() as tx:
            return Rows(rows=[dict(row) for row in tx.execute(FILES, {"limit": limit}).mappings()])

    @router.get("/v1/statement-rows", responses=responses_of())
    def list_rows(_staff: Staff, match: Literal["MATCHED", "LISTED"] = "LISTED", limit: Limit = LISTED_MAX) -> Rows:
        """Return rows of statements: those that match nothing of ours, each with the reason."""
        with engine.connect() as tx:
            found = tx.execute(STATEMENT_ROWS, {"match": match, "limit": limit}).mappings()
            return Rows(rows=[dict(row) for row in found])


def _import(engine: Engine, needed: Deciding, short_code: str, file: File, now: datetime) -> Imported:
    try:
        code = needed.short_codes.named(short_code)
        with engine.begin() as tx:
            return import_file(tx, code, file, needed, now=now)
    except LookupError as error:
        raise Problem(status=404, detail=str(error)) from error
    except InvalidStatement as error:
        raise Problem(status=422, detail=str(error)) from error


def _add_claims(router: APIRouter, engine: Engine, clock: Callable[[], datetime]) -> None:
    @router.post("/v1/claims", status_code=201, responses=responses_of(400, 409, 413, 415))
    def propose_claim(proposal: Proposal, caller: Treasury) -> dict[str, str]:
        """Propose that a payout in doubt is paid, with the row of a statement that proves it."""
        with _refusing(), engine.begin() as tx:
            found = claims.propose(
                tx, saga_id=proposal.saga_id, short_code=proposal.short_code, receipt=proposal.receipt,
                account=proposal.account, reason=proposal.reason, by=person(caller), now=clock(),
            )  # fmt: skip
        return {"claim_id": found}

    @router.post("/v1/claims/booked", status_code=201, responses=responses_of(400, 409, 413, 415))
    def propose_booked(booking: Booking, caller: Treasury) -> dict[str, str]:
        """Propose that a row which matches nothing is booked by a manual posting: then it keeps no day open."""
        with _refusing(), engine.begin() as tx:
            found = claims.propose_booked(tx, **booking.model_dump(), by=person(caller), now=clock())
        return {"claim_id": found}

    @router.post("/v1/claims/{claim_id}", status_code=204, responses=responses_of(400, 409, 413, 415))
    def decide_claim(claim_id: ClaimId, decision: ClaimDecision, caller: Approver) -> None:
        """Approve or refuse a claim as the other person. An approved one is evidence, or matches its row."""
        with _refusing(), engine.begin() as tx:
            claims.decide(tx, claim_id, is_approved=decision.decision == "APPROVED", by=person(caller), now=clock())

    @router.get("/v1/claims", responses=responses_of())
    def list_claims(
        _staff: Staff, state: Literal["PROPOSED", "APPROVED", "REFUSED"] = "PROPOSED", limit: Limit = 200
    ) -> Rows:
        """Return claims, the oldest first."""
        with engine.connect() as tx:
            found: Any = tx.execute(CLAIMS, {"state": state, "limit": limit}).mappings()
            return Rows(rows=[dict(row) for row in found])


class _refusing:  # noqa: N801 — it reads as the statement that it is
    """Turn a refusal of a claim into a problem."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, ClaimRefused):
            raise Problem(status=409, detail=str(error)) from error
