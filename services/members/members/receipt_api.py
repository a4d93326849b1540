"""Members' HTTP API for receipts: the work list, and what one person proposes about a receipt and another approves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.fields import Time
from chassis.http.json_body import JsonRoute
from chassis.http.people import person
from chassis.http.problem import Problem
from chassis.postgres.transient import utc_now
from chassis.wire.envelope import TIME_MIN, new_id
from members import receipt_tables, receipt_work
from members.access import (
    Approver,
    Decider,
    Reader,
    StaffMember,
    Teller,
    check_second,
    decided,
    is_member,
    may_see,
)
from members.bodies import AssignmentBody, ReasonBody, ReturnBody
from members.domain import ReceiptState
from members.endpoints import (
    CHANGE,
    COMMON,
    ONE,
    After,
    ApiResources,
    Limit,
    ReceiptPath,
    RequestPath,
    Resources,
    Trace,
    save_events,
)
from members.receipt_tables import ASSIGNMENTS, RETURNS, ProposalRow, Proposals, ReceiptRow
from messages.contract import Message

PROPOSED, REFUSED, APPROVED = "PROPOSED", "REFUSED", "APPROVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptAnswer:
    """A receipt. In SUSPENSE it waits for persons, ``hint_member_id`` is whose phone the payer's may be."""

    provider: str
    short_code: str
    receipt: str
    saga_id: str
    state: str
    reason: str | None
    amount_minor: int
    currency: str
    completed_at: datetime
    reference: str | None
    collection_id: str | None
    member_id: str | None
    hint_member_id: str | None
    policy: str
    policy_version: int
    allocations: list[dict[str, Any]]
    recorded_at: datetime
    waiting_s: int | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptPage:
    """Receipts, the oldest first. Pass ``next_at`` and ``next`` as ``after_at`` and ``after``; null: the last page."""

    receipts: list[ReceiptAnswer]
    next_at: datetime | None
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentAnswer:
    """Who proposes whose a receipt is, who decided about it, and how it ended. Its id is its saga's."""

    proposal_id: str
    provider: str
    short_code: str
    receipt: str
    member_id: str
    target: str
    state: str
    proposed_by: str
    reason: str
    proposed_at: datetime
    decided_by: str | None
    decision_reason: str | None
    decided_at: datetime | None
    outcome: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAnswer:
    """Who proposes to return a receipt, who decided about it, and how it ended. Its id is its saga's."""

    proposal_id: str
    provider: str
    short_code: str
    receipt: str
    source: str
    member_id: str | None
    state: str
    proposed_by: str
    reason: str
    proposed_at: datetime
    decided_by: str | None
    decision_reason: str | None
    decided_at: datetime | None
    outcome: str | None
    ended_at: datetime | None


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["receipts"])


@routes.get("/receipts", responses=COMMON)
def list_receipts(
    caller: Reader,
    resources: Resources,
    state: Annotated[ReceiptState | None, Query()] = None,
    member_id: Annotated[str | None, Query(pattern=r"^[A-Z0-9]{3,16}$")] = None,
    after_at: Annotated[Time | None, Query()] = None,
    after: After = "",
    limit: Limit = 100,
) -> ReceiptPage:
    """Return a page of receipts, the oldest first; with ``state=SUSPENSE`` the work list. A member sees its own."""
    owner = caller.subject if is_member(caller) else member_id
    filters = {"state": None if state is None else state.value, "member_id": owner, "after": after}
    with resources.engine.begin() as tx:
        found = receipt_tables.page(tx, **filters, after_at=after_at or TIME_MIN, limit=limit + 1)
    now = utc_now()
    shown = [_receipt(row, now) for row in found[:limit]]
    if len(found) <= limit:
        return ReceiptPage(receipts=shown, next_at=None, next=None)
    return ReceiptPage(receipts=shown, next_at=shown[-1].recorded_at, next=shown[-1].receipt)


@routes.get("/receipts/{receipt}", responses=ONE)
def read_receipt(
    receipt: ReceiptPath,
    caller: Reader,
    resources: Resources,
    short_code: Annotated[str | None, Query(pattern=r"^[0-9]{5,7}$")] = None,
) -> ReceiptAnswer:
    """Return a receipt by its number. A member sees only its own ones."""
    with resources.engine.begin() as tx:
        return _receipt(_one(tx, receipt, short_code, caller), utc_now())


@routes.post("/receipts/{receipt}/assignments", status_code=201, responses=CHANGE)
def propose_assignment(
    receipt: ReceiptPath, body: AssignmentBody, caller: Teller, resources: Resources
) -> AssignmentAnswer:
    """Propose whose a receipt on the work list is, and where it goes. Nothing is booked until another person agrees."""
    with resources.engine.begin() as tx:
        row = _one(tx, receipt, body.short_code, caller, locks=True)
        if row.state != ReceiptState.SUSPENSE:
            raise _not_waiting(row)
        receipt_work.targets(tx, row, body.member_id, body.target)
        new = _proposal(row, caller, body.reason) | {"member_id": body.member_id, "target": body.target}
        return _assignment(_propose(tx, ASSIGNMENTS, new))


@routes.post("/receipts/{receipt}/returns", status_code=201, responses=CHANGE)
def propose_return(receipt: ReceiptPath, body: ReturnBody, caller: Teller, resources: Resources) -> ReturnAnswer:
    """Propose that a receipt goes back to its payer. What is allocated is taken from the member's savings."""
    with resources.engine.begin() as tx:
        row = _one(tx, receipt, body.short_code, caller, locks=True)
        source = SOURCES.get(row.state)
        if source is None:
            raise _not_waiting(row)
        new = _proposal(row, caller, body.reason) | {"source": source, "member_id": row.member_id}
        return _return(_propose(tx, RETURNS, new))


SOURCES: Final = {ReceiptState.SUSPENSE.value: "UNALLOCATED", ReceiptState.ALLOCATED.value: "SAVINGS"}
"""What a receipt is returned from, by its state."""


@routes.get("/assignments", responses=COMMON)
def list_assignments(
    _caller: StaffMember,
    resources: Resources,
    state: Annotated[str | None, Query(pattern=r"^[A-Z]{1,20}$")] = None,
    after: After = "",
    limit: Limit = 100,
) -> list[AssignmentAnswer]:
    """Return assignments in the order in which they were proposed; continue with ``after`` the last one's id."""
    with resources.engine.begin() as tx:
        return [_assignment(row) for row in ASSIGNMENTS.page(tx, state=state, after=after, limit=limit)]


@routes.get("/returns", responses=COMMON)
def list_returns(
    _caller: StaffMember,
    resources: Resources,
    state: Annotated[str | None, Query(pattern=r"^[A-Z]{1,20}$")] = None,
    after: After = "",
    limit: Limit = 100,
) -> list[ReturnAnswer]:
    """Return returns in the order in which they were proposed; continue with ``after`` the last one's id."""
    with resources.engine.begin() as tx:
        return [_return(row) for row in RETURNS.page(tx, state=state, after=after, limit=limit)]


@routes.get("/assignments/{request_id}", responses=ONE)
def read_assignment(request_id: RequestPath, _caller: StaffMember, resources: Resources) -> AssignmentAnswer:
    """Return an assignment."""
    with resources.engine.begin() as tx:
        return _assignment(_found(ASSIGNMENTS.find(tx, request_id)))


@routes.get("/returns/{request_id}", responses=ONE)
def read_return(request_id: RequestPath, _caller: StaffMember, resources: Resources) -> ReturnAnswer:
    """Return a return."""
    with resources.engine.begin() as tx:
        return _return(_found(RETURNS.find(tx, request_id)))


@routes.post("/assignments/{request_id}/approval", status_code=202, responses=CHANGE)
def approve_assignment(
    request_id: RequestPath, body: ReasonBody, caller: Approver, resources: Resources, trace: Trace
) -> AssignmentAnswer:
    """Approve what another person proposed. The receipt is allocated by a saga that begins now."""
    row = _approve(
        ASSIGNMENTS, request_id, body.reason, caller, resources, trace, ReceiptState.ASSIGNED, receipt_work.assigned
    )
    return _assignment(row)


@routes.post("/returns/{request_id}/approval", status_code=202, responses=CHANGE)
def approve_return(
    request_id: RequestPath, body: ReasonBody, caller: Approver, resources: Resources, trace: Trace
) -> ReturnAnswer:
    """Approve what another person proposed. The receipt is returned by a saga that begins now."""
    row = _approve(
        RETURNS, request_id, body.reason, caller, resources, trace, ReceiptState.RETURNING, receipt_work.returned
    )
    return _return(row)


@routes.post("/assignments/{request_id}/refusal", responses=CHANGE)
def refuse_assignment(
    request_id: RequestPath, body: ReasonBody, caller: Decider, resources: Resources
) -> AssignmentAnswer:
    """Refuse an assignment, or withdraw one's own. The receipt waits on."""
    return _assignment(_refuse(ASSIGNMENTS, request_id, body.reason, caller, resources))


@routes.post("/returns/{request_id}/refusal", responses=CHANGE)
def refuse_return(request_id: RequestPath, body: ReasonBody, caller: Decider, resources: Resources) -> ReturnAnswer:
    """Refuse a return, or withdraw one's own. The receipt stays what it is."""
    return _return(_refuse(RETURNS, request_id, body.reason, caller, resources))


def _proposal(row: ReceiptRow, caller: Principal, reason: str) -> dict[str, Any]:
    return {
        "proposal_id": new_id(),
        "provider": row.provider,
        "short_code": row.short_code,
        "receipt": row.receipt,
        "proposed_by": person(caller),
        "reason": reason,
        "proposed_at": utc_now(),
    }


def _propose(tx: Connection, proposals: Proposals, new: dict[str, Any]) -> ProposalRow:
    if not proposals.insert(tx, new):
        raise Problem(
            status=409,
            title="One is proposed",
            detail="Another proposal of this kind about the receipt is open; decide about that one first.",
            type="urn:baraza:problem:proposal-open",
        )
    return _found(proposals.find(tx, new["proposal_id"]))


def _approve(
    proposals: Proposals,
    proposal_id: str,
    reason: str,
    caller: Principal,
    resources: ApiResources,
    trace: bytes,
    state: ReceiptState,
    begin: Callable[[Connection, ProposalRow, ReceiptRow], Message],
) -> ProposalRow:
    """Approve a proposal and begin its saga, where the receipt still is what it was when that was proposed.

    The receipt's row is locked first, as where something is proposed: of an assignment and a return one is approved.
    """
    with resources.engine.begin() as tx:
        proposal = _found(proposals.find(tx, proposal_id))
        (receipt,) = receipt_tables.find(tx, proposal.receipt, proposal.short_code, locks=True)
        by = check_second(proposal.proposed_by, caller)
        if proposal.state == PROPOSED and receipt.state not in _expected(proposal):
            raise _not_waiting(receipt)
        row = proposals.decide(tx, proposal_id, APPROVED, by=by, reason=reason, at=utc_now())
        if row is None:
            raise decided("proposal", proposal.state)
        rows = save_events(tx, [begin(tx, row, receipt)], resources.codec, trace)
        receipt_tables.set_state(tx, receipt, state)
    resources.batcher.publish(rows)
    return row


def _expected(proposal: ProposalRow) -> set[str]:
    source = getattr(proposal, "source", SOURCES[ReceiptState.SUSPENSE.value])
    return {state for state, each in SOURCES.items() if each == source}


def _refuse(
    proposals: Proposals, proposal_id: str, reason: str, caller: Principal, resources: ApiResources
) -> ProposalRow:
    with resources.engine.begin() as tx:
        known = _found(proposals.find(tx, proposal_id))
        row = proposals.decide(tx, proposal_id, REFUSED, by=person(caller), reason=reason, at=utc_now())
        if row is None:
            raise decided("proposal", known.state)
    return row


def _one(tx: Connection, receipt: str, short_code: str | None, caller: Principal, *, locks: bool = False) -> ReceiptRow:
    """Return the receipt of a number. Raises Problem: 404 without one, 409 where it needs its short code."""
    found = [row for row in receipt_tables.find(tx, receipt, short_code, locks=locks) if may_see(caller, row.member_id)]
    if not found:
        raise Problem(status=404, detail=f"There is no receipt {receipt} of yours; check its number.")
    if len(found) > 1:
        codes = ", ".join(row.short_code for row in found)
        raise Problem(status=409, detail=f"Several short codes have a receipt {receipt}: {codes}; name one of them.")
    return found[0]


def _not_waiting(row: ReceiptRow) -> Problem:
    return Problem(
        status=409,
        title="The receipt's state does not allow it",
        detail=f"The receipt is {row.state}; read it.",
        type="urn:baraza:problem:receipt-state",
    )


def _found(row: ProposalRow | None) -> ProposalRow:
    if row is None:
        raise Problem(status=404, detail="There is no such proposal; list them.")
    return row


def _receipt(row: ReceiptRow, now: datetime) -> ReceiptAnswer:
    names = [name for name in ReceiptAnswer.__dataclass_fields__ if name != "waiting_s"]
    waits = row.state == ReceiptState.SUSPENSE
    waiting_s = int((now - row.recorded_at).total_seconds()) if waits else None
    return ReceiptAnswer(**{name: getattr(row, name) for name in names}, waiting_s=waiting_s)


def _assignment(row: ProposalRow) -> AssignmentAnswer:
    return AssignmentAnswer(**{name: getattr(row, name) for name in AssignmentAnswer.__dataclass_fields__})


def _return(row: ProposalRow) -> ReturnAnswer:
    return ReturnAnswer(**{name: getattr(row, name) for name in ReturnAnswer.__dataclass_fields__})
