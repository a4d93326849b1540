"""Members' HTTP API for collections, withdrawals and repayments from savings.

What is uncertain is never shown as failed, and never with the advice to request it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from prometheus_client import Counter
from pydantic import TypeAdapter
from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.json_body import JsonRoute
from chassis.http.problem import Problem
from chassis.postgres.transient import utc_now
from chassis.wire.envelope import new_id
from members import request_tables
from members.access import Reader, Requester, check_own, may_see
from members.bodies import CollectionBody, ReasonBody, RepaymentBody, WithdrawalBody
from members.domain import CollectionState, RequestState
from members.endpoints import (
    CHANGE,
    COMMON,
    LAST_ID,
    ONE,
    ApiResources,
    Before,
    IdempotencyKey,
    Limit,
    MemberPath,
    RequestPath,
    Resources,
    Trace,
    save_events,
)
from members.intake import Accepted, Submission
from members.key_tables import key_digest
from members.request_tables import COLLECTIONS_OF, REPAYMENTS_OF, WITHDRAWALS_OF, RequestRow
from members.requests import COLLECTION, REPAYMENT, WITHDRAWAL
from members.requests import Request as MemberRequest
from messages.members import WithdrawalCancellationRequested

WAIT: Final = "It is under way, so do not request it again: its outcome is being looked for."
ADVICE: Final[Mapping[str, str]] = {
    CollectionState.REQUESTED: WAIT,
    CollectionState.PROMPTED: "Look at the phone and answer the prompt there; do not request it again.",
    CollectionState.PAID: "It is paid.",
    CollectionState.PAID_LATE: "It is paid: the money came after the prompt had ended.",
    CollectionState.FAILED: "The prompt was not paid. If money was taken from the phone, it is credited when it comes.",
    CollectionState.EXPIRED: "The prompt expired. If money was taken from the phone, it is credited when it comes.",
    RequestState.CANCELLED: "It was cancelled before anything was paid, and the hold is released.",
}
WITHDRAWAL_FAILED: Final = "It was not paid, which is proven, and the hold is released."
REPAYMENT_FAILED: Final = "Nothing was booked."
REQUESTS = Counter("baraza_member_requests_total", "Requests of members by kind and outcome.", ["kind", "outcome"])


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionAnswer:
    """A collection (money) as it stands. ``received_minor`` is what came, which may be another amount."""

    id: str
    member_id: str
    state: CollectionState
    is_final: bool
    may_request_again: bool
    advice: str
    amount_minor: int
    currency: str
    provider: str
    short_code: str
    reference: str
    target: str
    phone: str
    failure: str | None
    failure_detail: str | None
    receipt: str | None
    received_minor: int | None
    requested_at: datetime
    prompted_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalAnswer:
    """A withdrawal as it stands. It is REQUESTED until its outcome is proven, for as long as that takes."""

    id: str
    member_id: str
    state: RequestState
    is_final: bool
    may_request_again: bool
    advice: str
    amount_minor: int
    fee_minor: int
    excise_minor: int
    currency: str
    provider: str
    short_code: str
    phone: str
    receipt: str | None
    failure_cause: str | None
    failure_reason: str | None
    requested_at: datetime
    cancellation_requested_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepaymentAnswer:
    """A repayment from savings as it stands, with where its parts went."""

    id: str
    member_id: str
    loan_id: str
    state: RequestState
    is_final: bool
    may_request_again: bool
    advice: str
    amount_minor: int
    currency: str
    allocations: list[dict[str, Any]]
    failure_reason: str | None
    requested_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPage:
    """Collections, the newest first. Pass ``next`` as ``before`` for the next page; null: this is the last one."""

    collections: list[CollectionAnswer]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalPage:
    """Withdrawals, the newest first. Pass ``next`` as ``before`` for the next page; null: this is the last one."""

    withdrawals: list[WithdrawalAnswer]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepaymentPage:
    """Repayments, the newest first. Pass ``next`` as ``before`` for the next page; null: this is the last one."""

    repayments: list[RepaymentAnswer]
    next: str | None


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["requests"])


@routes.post("/collections", status_code=202, response_model=CollectionAnswer, responses=CHANGE)
async def request_collection(
    body: CollectionBody,
    key: IdempotencyKey,
    caller: Requester,
    resources: Resources,
    request: Request,
    response: Response,
) -> Response:
    """Prompt a phone to pay. 202: it is under way, and the resource at ``Location`` shows what becomes of it."""
    asked = MemberRequest(
        kind=COLLECTION,
        member_id=body.member_id,
        amount_minor=body.amount_minor,
        phone=body.phone or "",
        target=body.target,
        provider=body.provider or "",
    )
    accepted = await _submit(asked, body, key, caller, resources, request, response)
    return await _sent(_SHOWN[COLLECTION], accepted, resources, response)


@routes.post("/withdrawals", status_code=202, response_model=WithdrawalAnswer, responses=CHANGE)
async def request_withdrawal(
    body: WithdrawalBody,
    key: IdempotencyKey,
    caller: Requester,
    resources: Resources,
    request: Request,
    response: Response,
) -> Response:
    """Withdraw savings to one of the member's phones. 202: it is under way."""
    asked = MemberRequest(
        kind=WITHDRAWAL,
        member_id=body.member_id,
        amount_minor=body.amount_minor,
        phone=body.phone or "",
        provider=body.provider or "",
    )
    accepted = await _submit(asked, body, key, caller, resources, request, response)
    return await _sent(_SHOWN[WITHDRAWAL], accepted, resources, response)


@routes.post("/repayments", status_code=202, response_model=RepaymentAnswer, responses=CHANGE)
async def request_repayment(
    body: RepaymentBody,
    key: IdempotencyKey,
    caller: Requester,
    resources: Resources,
    request: Request,
    response: Response,
) -> Response:
    """Repay a loan from savings. Its money is one booking of the ledger, so nothing of it is ever undone."""
    asked = MemberRequest(kind=REPAYMENT, member_id=body.member_id, amount_minor=body.amount_minor, target=body.loan_id)
    accepted = await _submit(asked, body, key, caller, resources, request, response)
    return await _sent(_SHOWN[REPAYMENT], accepted, resources, response)


@routes.post("/withdrawals/{request_id}/cancellation", status_code=202, responses=CHANGE)
def cancel_withdrawal(
    request_id: RequestPath, body: ReasonBody, caller: Requester, resources: Resources, trace: Trace
) -> WithdrawalAnswer:
    """Request that a withdrawal is cancelled. What the provider may have taken already is not: it is proven first."""
    now = utc_now()
    with resources.engine.begin() as tx:
        row = _visible(request_tables.load_withdrawals(tx, [request_id]).get(request_id), caller, "withdrawal")
        if row["ended_at"] is not None:
            raise Problem(
                status=409,
                title="It has ended",
                detail=f"The withdrawal is {row['state']}, so it cannot be cancelled; read it.",
                type="urn:baraza:problem:request-ended",
            )
        rows = []
        if request_tables.request_cancellation(tx, request_id, now=now):
            event = WithdrawalCancellationRequested(
                message_id=new_id(),
                saga_id=request_id,
                saga_type="withdrawal",
                saga_version=1,
                causation_id=None,
                occurred_at=now,
                member_id=row["member_id"],
                reason=body.reason,
            )
            rows = save_events(tx, [event], resources.codec, trace)
        found = request_tables.load_withdrawals(tx, [request_id])[request_id]
    resources.batcher.publish(rows)
    return withdrawal_answer(found._asdict())


@routes.get("/collections/{request_id}", responses=ONE)
def read_collection(request_id: RequestPath, caller: Reader, resources: Resources) -> CollectionAnswer:
    """Return a collection. A member sees only its own ones; any other id is a 404."""
    with resources.engine.begin() as tx:
        found = request_tables.load_collections(tx, [request_id]).get(request_id)
    return collection_answer(_visible(found, caller, "collection"))


@routes.get("/withdrawals/{request_id}", responses=ONE)
def read_withdrawal(request_id: RequestPath, caller: Reader, resources: Resources) -> WithdrawalAnswer:
    """Return a withdrawal. A member sees only its own ones; any other id is a 404."""
    with resources.engine.begin() as tx:
        found = request_tables.load_withdrawals(tx, [request_id]).get(request_id)
    return withdrawal_answer(_visible(found, caller, "withdrawal"))


@routes.get("/repayments/{request_id}", responses=ONE)
def read_repayment(request_id: RequestPath, caller: Reader, resources: Resources) -> RepaymentAnswer:
    """Return a repayment. A member sees only its own ones; any other id is a 404."""
    with resources.engine.begin() as tx:
        found = request_tables.load_repayments(tx, [request_id]).get(request_id)
    return repayment_answer(_visible(found, caller, "repayment"))


@routes.get("/members/{member_id}/collections", responses=ONE)
def list_collections(
    member_id: MemberPath, caller: Reader, resources: Resources, before: Before = LAST_ID, limit: Limit = 20
) -> CollectionPage:
    """Return a page of a member's collections, the newest first."""
    with resources.engine.begin() as tx:
        found = _page(tx, COLLECTIONS_OF, member_id, caller, before, limit)
    shown = [collection_answer(row._asdict()) for row in found[:limit]]
    return CollectionPage(collections=shown, next=shown[-1].id if len(found) > limit else None)


@routes.get("/members/{member_id}/withdrawals", responses=ONE)
def list_withdrawals(
    member_id: MemberPath, caller: Reader, resources: Resources, before: Before = LAST_ID, limit: Limit = 20
) -> WithdrawalPage:
    """Return a page of a member's withdrawals, the newest first."""
    with resources.engine.begin() as tx:
        found = _page(tx, WITHDRAWALS_OF, member_id, caller, before, limit)
    shown = [withdrawal_answer(row._asdict()) for row in found[:limit]]
    return WithdrawalPage(withdrawals=shown, next=shown[-1].id if len(found) > limit else None)


@routes.get("/members/{member_id}/repayments", responses=ONE)
def list_repayments(
    member_id: MemberPath, caller: Reader, resources: Resources, before: Before = LAST_ID, limit: Limit = 20
) -> RepaymentPage:
    """Return a page of a member's repayments from savings, the newest first."""
    with resources.engine.begin() as tx:
        found = _page(tx, REPAYMENTS_OF, member_id, caller, before, limit)
    shown = [repayment_answer(row._asdict()) for row in found[:limit]]
    return RepaymentPage(repayments=shown, next=shown[-1].id if len(found) > limit else None)


def _page(tx: Connection, query: Any, member_id: str, caller: Principal, before: str, limit: int) -> list[RequestRow]:
    check_own(caller, member_id)
    return request_tables.page(tx, query, member_id=member_id, before=before, limit=limit + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """How a kind of request is read and shown."""

    path: str
    adapter: TypeAdapter[Any]
    load: Callable[[Connection, Collection[str]], dict[str, RequestRow]]
    answer: Callable[[Mapping[str, Any]], Any]


async def _submit(
    asked: MemberRequest,
    body: Any,
    key: str,
    caller: Principal,
    resources: ApiResources,
    request: Request,
    response: Response,
) -> Accepted:
    """Store a request, or find what its key was used for. Raises Problem."""
    check_own(caller, asked.member_id)
    submission = Submission(
        request=asked,
        digest=key_digest(caller.subject, f"POST /v1/{asked.kind}s", key),
        body=TypeAdapter(type(body)).dump_python(body, mode="json", exclude_none=True),
        traceparent=request.scope["traceparent"],
    )
    outcome = await resources.batcher.submit(submission)
    if isinstance(outcome, Problem):
        REQUESTS.labels(asked.kind, str(outcome.status)).inc()
        raise outcome
    REQUESTS.labels(asked.kind, "replayed" if outcome.is_replay else "accepted").inc()
    request.scope["saga_id"] = outcome.id
    return outcome


async def _sent(shown: _Shown, accepted: Accepted, resources: ApiResources, response: Response) -> Response:
    """Return the response of a request: as it was stored just now, or as it stands where its key was used before."""
    headers = dict(response.headers) | {"Location": f"/v1/{shown.path}/{accepted.id}"}
    if accepted.new is None:
        headers["Idempotent-Replayed"] = "true"
        answer = await to_thread.run_sync(_read, shown, accepted.id, resources)
    else:
        answer = shown.answer(asdict(accepted.new))
    status = 200 if answer.is_final else 202
    return Response(shown.adapter.dump_json(answer), status, headers=headers, media_type="application/json")


def _read(shown: _Shown, request_id: str, resources: ApiResources) -> Any:
    with resources.engine.begin() as tx:
        return shown.answer(shown.load(tx, [request_id])[request_id]._asdict())


def _visible(row: RequestRow | None, caller: Principal, what: str) -> Mapping[str, Any]:
    if row is None or not may_see(caller, row.member_id):
        raise Problem(status=404, detail=f"There is no such {what} of yours; check its id.")
    return dict(row._asdict())


def collection_answer(row: Mapping[str, Any]) -> CollectionAnswer:
    """Return a collection as it is shown. It may be requested again once its prompt is proven to have ended."""
    return CollectionAnswer(**_fields(row, CollectionAnswer, CollectionState, ADVICE), id=row["collection_id"])


def withdrawal_answer(row: Mapping[str, Any]) -> WithdrawalAnswer:
    """Return a withdrawal as it is shown. It may be requested again once it is proven paid, or proven not paid."""
    advice = {**ADVICE, RequestState.FAILED: WITHDRAWAL_FAILED}
    return WithdrawalAnswer(**_fields(row, WithdrawalAnswer, RequestState, advice), id=row["withdrawal_id"])


def repayment_answer(row: Mapping[str, Any]) -> RepaymentAnswer:
    """Return a repayment as it is shown."""
    fields = _fields(row, RepaymentAnswer, RequestState, {**ADVICE, RequestState.FAILED: REPAYMENT_FAILED})
    return RepaymentAnswer(**fields | {"allocations": fields["allocations"] or []}, id=row["repayment_id"])


def _fields(row: Mapping[str, Any], answer: Any, states: Any, advice: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of an answer; what a new row lacks is not known yet."""
    state = states(row.get("state", states.REQUESTED))
    is_final = row.get("ended_at") is not None
    own = {"state": state, "is_final": is_final, "may_request_again": is_final, "advice": advice[state]}
    return {name: row.get(name) for name in answer.__dataclass_fields__ if name != "id"} | own


_SHOWN: Final[Mapping[str, _Shown]] = {
    COLLECTION: _Shown(
        path="collections",
        adapter=TypeAdapter(CollectionAnswer),
        load=request_tables.load_collections,
        answer=collection_answer,
    ),
    WITHDRAWAL: _Shown(
        path="withdrawals",
        adapter=TypeAdapter(WithdrawalAnswer),
        load=request_tables.load_withdrawals,
        answer=withdrawal_answer,
    ),
    REPAYMENT: _Shown(
        path="repayments",
        adapter=TypeAdapter(RepaymentAnswer),
        load=request_tables.load_repayments,
        answer=repayment_answer,
    ),
}
