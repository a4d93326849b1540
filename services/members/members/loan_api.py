"""Members' HTTP API for loans: applied for, appraised by one person, approved by another, and paid out in parts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.json_body import JsonRoute
from chassis.http.people import person
from chassis.http.problem import FieldError, Problem, invalid
from chassis.postgres.transient import utc_now
from members import loan_tables, loan_work, member_tables, terms_tables
from members.access import (
    Approver,
    Decider,
    Finance,
    Reader,
    Requester,
    check_own,
    check_second,
    decided,
    is_member,
    may_see,
    no_member,
)
from members.bodies import LoanBody, ReasonBody
from members.domain import AccountStatus, MemberState, is_whole
from members.endpoints import CHANGE, COMMON, ONE, After, ApiResources, Limit, LoanPath, Resources, Trace, save_events
from members.intake import ways
from members.loan_tables import PART_FAILED, PENDING, LoanRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswer:
    """A part of a loan; ``saga_id`` is that of its last payout."""

    part: int
    generation: int
    saga_id: str | None
    amount_minor: int
    state: str
    failure_reason: str | None
    receipt: str | None
    released_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanAnswer:
    """A loan. ``balance_minor`` is what is left of the principal, as the ledger last reported it."""

    loan_id: str
    member_id: str
    state: str
    principal_minor: int
    interest_ppm: int
    term_months: int
    loan_fee_minor: int
    penalty_ppm: int
    phone: str
    provider: str
    short_code: str
    currency: str
    applied_by: str
    applied_at: datetime
    proposed_by: str | None
    proposal_reason: str | None
    proposed_at: datetime | None
    approved_by: str | None
    approval_reason: str | None
    approved_at: datetime | None
    balance_minor: int | None
    ended_at: datetime | None
    parts: list[PartAnswer]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanPage:
    """Loans in the order of their numbers. Pass ``next`` as ``after`` for the next page; null: the last one."""

    loans: list[LoanAnswer]
    next: str | None


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["loans"])


@routes.post(
    "/loans",
    status_code=201,
    response_model=LoanAnswer,
    responses={**CHANGE, 200: {"description": "It was applied for before.", "model": LoanAnswer}},
)
def apply_for_loan(body: LoanBody, caller: Requester, resources: Resources, response: Response) -> LoanAnswer:
    """Apply for a loan under a number of your choice. Nothing is paid before two persons have looked at it."""
    check_own(caller, body.member_id)
    with resources.engine.begin() as tx:
        new = _new_loan(tx, body, caller)
        if not loan_tables.insert(tx, new):
            response.status_code = 200
        found = loan_tables.load(tx, [body.loan_id])[body.loan_id]
        _check_same(found, new)
        response.headers["Location"] = f"/v1/loans/{body.loan_id}"
        return _answer(tx, found)


def _new_loan(tx: Connection, body: LoanBody, caller: Principal) -> dict[str, Any]:
    member = member_tables.load(tx, [body.member_id]).get(body.member_id)
    if member is None:
        raise no_member(body.member_id)
    if member.state != MemberState.ACTIVE or member.status != AccountStatus.ACTIVE:
        raise Problem(status=403, detail="The member takes no loan: its accounts are not open, or it is not ACTIVE.")
    way = next((each for each in ways(tx) if body.provider in (None, each.provider)), None)
    flaws = []
    if not is_whole(body.principal_minor):
        detail = "Not whole shillings; a provider moves no cents, so send a multiple of 100."
        flaws.append(FieldError(pointer="#/principal_minor", detail=detail))
    least_minor = terms_tables.load_tariffs(tx).valid(utc_now()).payout_min_minor
    if body.principal_minor < least_minor:
        flaws.append(FieldError(pointer="#/principal_minor", detail=f"Less than {least_minor}, the least payout."))
    if body.phone is not None and body.phone not in member_tables.phones_of(tx, [body.member_id])[body.member_id]:
        flaws.append(FieldError(pointer="#/phone", detail="Not a phone of the member; have it added first."))
    if way is None:
        flaws.append(FieldError(pointer="#/provider", detail="No short code of ours is open there."))
    if flaws or way is None:
        raise invalid(flaws)
    return {
        "loan_id": body.loan_id,
        "member_id": body.member_id,
        "principal_minor": body.principal_minor,
        "interest_ppm": body.interest_ppm,
        "term_months": body.term_months,
        "loan_fee_minor": body.loan_fee_minor,
        "penalty_ppm": body.penalty_ppm,
        "phone": body.phone or member.phone,
        "provider": way.provider,
        "short_code": way.short_code,
        "currency": way.currency,
        "applied_by": person(caller),
        "applied_at": utc_now(),
    }


def _check_same(found: LoanRow, new: dict[str, Any]) -> None:
    differing = [name for name in new if name not in ("applied_by", "applied_at") and getattr(found, name) != new[name]]
    if differing:
        raise Problem(
            status=409,
            title="The number is taken",
            detail=f"There is a loan {found.loan_id} with another {differing[0]}; choose another number.",
            type="urn:baraza:problem:loan-exists",
        )


@routes.get("/loans", responses=COMMON)
def list_loans(
    caller: Reader,
    resources: Resources,
    after: After = "",
    limit: Limit = 100,
    member_id: Annotated[str | None, Query(pattern=r"^[A-Z0-9]{3,16}$")] = None,
    state: Annotated[str | None, Query(pattern=r"^[A-Z]{1,20}$")] = None,
) -> LoanPage:
    """Return a page of loans; a member's own ones to a member."""
    owner = caller.subject if is_member(caller) else member_id
    with resources.engine.begin() as tx:
        found = loan_tables.page(tx, after=after, member_id=owner, state=state, limit=limit + 1)
        shown = [_answer(tx, row) for row in found[:limit]]
    return LoanPage(loans=shown, next=shown[-1].loan_id if len(found) > limit else None)


@routes.get("/loans/{loan_id}", responses=ONE)
def read_loan(loan_id: LoanPath, caller: Reader, resources: Resources) -> LoanAnswer:
    """Return a loan. A member sees only its own ones; any other number is a 404."""
    with resources.engine.begin() as tx:
        return _answer(tx, _visible(loan_tables.load(tx, [loan_id]).get(loan_id), loan_id, caller))


@routes.post("/loans/{loan_id}/appraisal", responses=CHANGE)
def appraise_loan(loan_id: LoanPath, body: ReasonBody, caller: Finance, resources: Resources) -> LoanAnswer:
    """Propose that a loan is approved."""
    by = person(caller)
    with resources.engine.begin() as tx:
        row = _locked(tx, loan_id, caller)
        if not loan_tables.appraise(tx, loan_id, by=by, reason=body.reason, at=utc_now()):
            raise decided("loan", row.state)
        return _answer(tx, loan_tables.load(tx, [loan_id])[loan_id])


@routes.post("/loans/{loan_id}/approval", status_code=202, responses=CHANGE)
def approve_loan(
    loan_id: LoanPath, body: ReasonBody, caller: Approver, resources: Resources, trace: Trace
) -> LoanAnswer:
    """Approve what another person proposed. As many parts as the phone may receive in a day are paid out at once."""
    now = utc_now()
    with resources.engine.begin() as tx:
        row = _locked(tx, loan_id, caller)
        by = check_second(row.proposed_by, caller)
        if not loan_tables.approve(tx, loan_id, by=by, reason=body.reason, at=now):
            raise decided("loan", row.state)
        tariff = terms_tables.load_tariffs(tx).valid(now)
        loan_tables.insert_parts(tx, loan_id, loan_work.parts_of(row.principal_minor, tariff.payout_max_minor))
        parts = loan_tables.parts(tx, loan_id)
        loan = loan_tables.load(tx, [loan_id])[loan_id]
        events = loan_work.release_parts(tx, loan, loan_work.within_day(parts, tariff), len(parts), now)
        rows = save_events(tx, events, resources.codec, trace)
        answer = _answer(tx, loan)
    resources.batcher.publish(rows)
    return answer


@routes.post("/loans/{loan_id}/refusal", responses=CHANGE)
def refuse_loan(loan_id: LoanPath, body: ReasonBody, caller: Decider, resources: Resources) -> LoanAnswer:
    """Refuse a loan that is not approved."""
    with resources.engine.begin() as tx:
        row = _locked(tx, loan_id, caller)
        if not loan_tables.refuse(tx, loan_id, reason=body.reason, at=utc_now()):
            raise decided("loan", row.state)
        return _answer(tx, loan_tables.load(tx, [loan_id])[loan_id])


@routes.post("/loans/{loan_id}/parts/{part}/release", status_code=202, responses=CHANGE)
def release_part(
    loan_id: LoanPath,
    part: Annotated[int, Path(ge=1, le=10_000)],
    caller: Approver,
    resources: Resources,
    trace: Trace,
) -> LoanAnswer:
    """Pay out a part that waits for its day, or one again whose payout is proven not paid."""
    with resources.engine.begin() as tx:
        row = _locked(tx, loan_id, caller)
        parts = loan_tables.parts(tx, loan_id)
        chosen = [each for each in parts if each.part == part]
        if not chosen:
            raise Problem(status=404, detail=f"The loan {loan_id} has no part {part}; read it.")
        if chosen[0].state not in (PENDING, PART_FAILED):
            raise decided("part", chosen[0].state)
        rows = _release(tx, row, chosen, len(parts), resources, trace)
        answer = _answer(tx, row)
    resources.batcher.publish(rows)
    return answer


def _release(
    tx: Connection, row: LoanRow, chosen: list[Any], count: int, resources: ApiResources, trace: bytes
) -> list[Any]:
    events = loan_work.release_parts(tx, row, chosen, count, utc_now())
    return save_events(tx, events, resources.codec, trace)


def _locked(tx: Connection, loan_id: str, caller: Principal) -> LoanRow:
    return _visible(loan_tables.lock(tx, [loan_id]).get(loan_id), loan_id, caller)


def _visible(row: LoanRow | None, loan_id: str, caller: Principal) -> LoanRow:
    if row is None or not may_see(caller, row.member_id):
        raise Problem(status=404, detail=f"There is no loan {loan_id} of yours; check its number.")
    return row


def _answer(tx: Connection, row: LoanRow) -> LoanAnswer:
    names = [name for name in LoanAnswer.__dataclass_fields__ if name != "parts"]
    parts = [
        PartAnswer(**{name: getattr(each, name) for name in PartAnswer.__dataclass_fields__})
        for each in loan_tables.parts(tx, row.loan_id)
    ]
    return LoanAnswer(**{name: getattr(row, name) for name in names}, parts=parts)
