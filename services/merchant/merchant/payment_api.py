"""Merchant's HTTP API for payments. A response states only what is certain; a refusal has reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from prometheus_client import Counter
from pydantic import TypeAdapter
from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.fields import CurrencyCode, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, FieldError, Problem, invalid
from chassis.postgres.transient import utc_now
from merchant import operations, tables
from merchant.access import Merchant, Reader, is_merchant, may_see, mode_of
from merchant.bodies import CancelBody, CaptureBody, PaymentBody, RefundBody
from merchant.domain import Capture, Kind, OperationState, Payment, Price, Status
from merchant.endpoints import (
    CHANGE,
    COMMON,
    INT64_MAX,
    ONE,
    ApiResources,
    IdempotencyKey,
    PaymentId,
    Resources,
    Trace,
    new_operation_id,
    number_of,
)
from merchant.intake import submission
from merchant.operations import Context, Done, Requested, no_payment
from merchant.tables import NewPayment, PaymentRow
from merchant.waiting import seconds_of

PAGE_SIZE_MAX: Final = 100
REQUESTS = Counter("baraza_payment_requests_total", "Requests for payments by outcome.", ["outcome"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureAnswer:
    """Why a payment failed: the cause, the step of its saga, and one sentence."""

    cause: str
    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodAnswer:
    """What pays. The token is not returned."""

    type: str
    holder_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationAnswer:
    """A capture, a void or a refund. Its amount counts while it is PENDING or SUCCEEDED."""

    id: str
    payment_id: str
    kind: Kind
    state: OperationState
    amount_minor: int
    currency: str
    reason: str
    failure_reason: str | None
    created_at: datetime
    decided_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentAnswer:
    """A payment as it stands. ``id`` is a text: many clients round a JSON number of more than 53 bits.

    ``fee_minor`` is of what was captured, before that of the whole amount.
    """

    id: str
    merchant_id: str
    is_live: bool
    status: Status
    amount_minor: int
    currency: str
    capture: Capture
    captured_minor: int
    refunded_minor: int
    refunding_minor: int
    refundable_minor: int
    disputed_minor: int
    fee_minor: int
    reference: str
    metadata: dict[str, str]
    payment_method: MethodAnswer
    gateway: str
    gateway_payment_id: str | None
    failure: FailureAnswer | None
    operations: list[OperationAnswer]
    created_at: datetime
    cancellation_requested_at: datetime | None
    authorized_at: datetime | None
    authorization_expires_at: datetime | None
    captured_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPage:
    """Payments, the newest first. Pass ``next`` as ``before`` for the next page; null: this is the last one."""

    payments: list[PaymentAnswer]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundsAnswer:
    """The refunds of a payment, the first one first, and what is left to refund."""

    refunds: list[OperationAnswer]
    refundable_minor: int


ANSWER: Final = TypeAdapter(PaymentAnswer)
OPERATION: Final = TypeAdapter(OperationAnswer)
routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["payments"])


@routes.post(
    "/payments",
    status_code=202,
    response_model=PaymentAnswer,
    responses={200: {"description": "The payment has its outcome already.", "model": PaymentAnswer},
               409: PROBLEM_RESPONSES[409]},
)  # fmt: skip
async def submit_payment(
    body: PaymentBody,
    key: IdempotencyKey,
    caller: Merchant,
    resources: Resources,
    request: Request,
    response: Response,
    prefer: Annotated[
        str | None, Header(max_length=200, description="wait=5: respond at the outcome, or after so many seconds.")
    ] = None,
) -> Response:
    """Accept a payment. 202: it is under way, and the resource at ``Location`` shows what becomes of it."""
    if not resources.takes_payments:
        raise _no_payer_key()
    sent = submission(caller.subject, key, body, request.scope["traceparent"], is_live=mode_of(caller))
    outcome = await resources.batcher.submit(sent)
    if isinstance(outcome, Problem):
        REQUESTS.labels(str(outcome.status)).inc()
        raise outcome
    REQUESTS.labels("replayed" if outcome.is_replay else "accepted").inc()
    headers = dict(response.headers) | {"Location": f"/v1/payments/{outcome.payment_id}"}
    if outcome.is_replay:
        headers["Idempotent-Replayed"] = "true"
    wait_s = seconds_of(prefer)
    if wait_s:
        headers["Preference-Applied"] = f"wait={wait_s}"
        await resources.waiter.wait(outcome.payment_id, wait_s)
    if outcome.new is None or wait_s:
        answer, saga_id, is_ended = await to_thread.run_sync(_read, resources, outcome.payment_id)
    else:
        answer, saga_id, is_ended = _fresh(outcome.new)
    request.scope["saga_id"] = saga_id
    return Response(answer, 200 if is_ended else 202, headers=headers, media_type="application/json")


@routes.get("/payments/{payment_id}", responses=ONE)
def read_payment(payment_id: PaymentId, caller: Reader, resources: Resources) -> PaymentAnswer:
    """Return a payment. A merchant sees only its own ones, of its key's mode; any other number is a 404."""
    with resources.engine.begin() as tx:
        return answer_of(*_visible(tx, payment_id, caller))


@routes.get("/payments", responses=ONE)
def list_payments(
    caller: Reader,
    resources: Resources,
    before: Annotated[str, Query(pattern=r"^[1-9][0-9]{0,18}$", description="A payment's number.")] = str(INT64_MAX),
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 20,
    status: Annotated[Status | None, Query()] = None,
    currency: Annotated[CurrencyCode | None, Query()] = None,
    reference: Annotated[str | None, Query(max_length=80, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = None,
    created_from: Annotated[Time | None, Query()] = None,
    created_to: Annotated[Time | None, Query()] = None,
    merchant_id: Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="For staff.")] = None,
    is_live: Annotated[bool | None, Query(description="For staff; a merchant's key has its mode.")] = None,
) -> PaymentPage:
    """Return a page of a merchant's payments, the newest first."""
    owner, mode = _listed(caller, merchant_id, is_live)
    with resources.engine.begin() as tx:
        found = tables.page(
            tx,
            merchant_id=owner,
            is_live=mode,
            before=min(int(before), INT64_MAX),
            status=None if status is None else status.value,
            currency=currency,
            reference=reference,
            created_from=created_from,
            created_to=created_to,
            limit=limit + 1,
        )
    shown = [answer_of(row, tables.payment_of(row, own), own) for row, own in found[:limit]]
    return PaymentPage(payments=shown, next=shown[-1].id if len(found) > limit else None)


@routes.post("/payments/{payment_id}/capture", status_code=202, response_model=OperationAnswer, responses=CHANGE)
def capture_payment(
    payment_id: PaymentId,
    body: CaptureBody,
    key: IdempotencyKey,
    caller: Merchant,
    resources: Resources,
    trace: Trace,
    response: Response,
) -> Response:
    """Capture an authorized payment, all of it or a part. The rest is released, so there is one capture."""
    return _operate(
        operations.capture, _requested(payment_id, body, key, caller, trace, operations.CAPTURE), resources, response
    )


@routes.post(
    "/payments/{payment_id}/cancel",
    status_code=202,
    response_model=PaymentAnswer,
    responses=CHANGE,
)
def cancel_payment(
    payment_id: PaymentId,
    body: CancelBody,
    key: IdempotencyKey,
    caller: Merchant,
    resources: Resources,
    trace: Trace,
    response: Response,
) -> Response:
    """Cancel a payment that is under way, or give its authorization back. The payment shows whether it came in time."""
    requested = _requested(payment_id, body, key, caller, trace, operations.CANCEL)
    return _operate(operations.cancel, requested, resources, response, shows_payment=True)


@routes.post("/payments/{payment_id}/refunds", status_code=202, response_model=OperationAnswer, responses=CHANGE)
def refund_payment(
    payment_id: PaymentId,
    body: RefundBody,
    key: IdempotencyKey,
    caller: Merchant,
    resources: Resources,
    trace: Trace,
    response: Response,
) -> Response:
    """Refund a captured payment, all that is left or a part. There may be several, never for more than was captured."""
    return _operate(
        operations.refund, _requested(payment_id, body, key, caller, trace, operations.REFUND), resources, response
    )


@routes.get("/payments/{payment_id}/refunds", responses=ONE)
def read_refunds(payment_id: PaymentId, caller: Reader, resources: Resources) -> RefundsAnswer:
    """Return the refunds of a payment, the first one first."""
    with resources.engine.begin() as tx:
        row, payment, own = _visible(tx, payment_id, caller)
    refunds = [_operation(each, row.currency) for each in own if each.kind == Kind.REFUND]
    return RefundsAnswer(refunds=refunds, refundable_minor=payment.refundable_minor)


def _no_payer_key() -> Problem:
    return Problem(
        status=503,
        detail="No payment is taken here: the service has no key for payers; set BARAZA_PAYER_KEY_FILE.",
        headers={"Retry-After": "60"},
    )


def _listed(caller: Principal, merchant_id: str | None, is_live: bool | None) -> tuple[str, bool]:
    """Return whose payments are listed, and in which mode. Raises Problem."""
    if is_merchant(caller):
        mode = mode_of(caller)
        if merchant_id not in (None, caller.subject) or is_live not in (None, mode):
            raise Problem(status=404, detail="There is no such merchant of yours; leave merchant_id and is_live out.")
        return caller.subject, mode
    if merchant_id is None or is_live is None:
        missing = "merchant_id" if merchant_id is None else "is_live"
        raise invalid(
            [FieldError(pointer=f"query:{missing}", detail="Missing; staff names the merchant and the mode.")]
        )
    return merchant_id, is_live


def _requested(
    payment_id: str, body: Any, key: str, caller: Principal, trace: bytes, action: tuple[str, TypeAdapter[Any]]
) -> Requested:
    return Requested(
        merchant_id=caller.subject,
        is_live=mode_of(caller),
        payment_id=number_of(payment_id),
        key=key,
        action=action,
        body=body,
        traceparent=trace,
    )


def _operate(
    do: Callable[[Connection, Requested, Context], Done],
    requested: Requested,
    resources: ApiResources,
    response: Response,
    *,
    shows_payment: bool = False,
) -> Response:
    """Store an operation, and publish its event after the commit. The response shows it, or its payment."""
    context = Context(
        codec=resources.codec,
        now=utc_now(),
        operation_id=new_operation_id(resources),
        new_saga_id=resources.batcher.new_saga_id,
    )
    with resources.engine.begin() as tx:
        done = do(tx, requested, context)
        ((row, own),) = tables.load_payments(tx, [requested.payment_id])
    resources.batcher.publish(done.rows)
    headers = dict(response.headers) | {"Location": f"/v1/payments/{row.payment_id}"}
    if done.is_replay:
        headers["Idempotent-Replayed"] = "true"
    if shows_payment:
        text = ANSWER.dump_json(answer_of(row, tables.payment_of(row, own), own))
    else:
        (operation,) = [each for each in own if each.operation_id == done.operation_id]
        text = OPERATION.dump_json(_operation(operation, row.currency))
    return Response(text, 202, headers=headers, media_type="application/json")


def _read(resources: ApiResources, payment_id: int) -> tuple[bytes, str, bool]:
    """Return a payment as JSON, its saga, and whether it has its outcome."""
    with resources.engine.begin() as tx:
        ((row, own),) = tables.load_payments(tx, [payment_id])
    payment = tables.payment_of(row, own)
    return ANSWER.dump_json(answer_of(row, payment, own)), row.saga_id, payment.is_ended


def _fresh(new: NewPayment) -> tuple[bytes, str, bool]:
    """As :func:`_read`, of a payment that was stored just now."""
    return ANSWER.dump_json(answer_of(new, new.facts, [])), new.saga_id, False


def _visible(tx: Connection, payment_id: str, caller: Principal) -> tuple[PaymentRow, Payment, list[PaymentRow]]:
    found = tables.load_payments(tx, [number_of(payment_id)])
    if not found or not may_see(caller, found[0][0].merchant_id, is_live=found[0][0].is_live):
        raise no_payment(payment_id)
    row, own = found[0]
    return row, tables.payment_of(row, own), own


def answer_of(row: PaymentRow | NewPayment, payment: Payment, own: list[PaymentRow]) -> PaymentAnswer:
    """Return a payment as its merchant sees it."""
    price = Price(basis_points=row.basis_points, fixed_minor=row.fixed_minor)
    failure = None
    if payment.failed_at is not None:
        failure = FailureAnswer(
            cause=payment.failure_cause or "", step=payment.failure_step or "", reason=payment.failure_reason or ""
        )
    return PaymentAnswer(
        id=str(row.payment_id),
        merchant_id=row.merchant_id,
        is_live=row.is_live,
        status=payment.status,
        amount_minor=row.amount_minor,
        currency=row.currency,
        capture=payment.capture,
        captured_minor=payment.captured_minor,
        refunded_minor=payment.refunded_minor,
        refunding_minor=payment.refunding_minor,
        refundable_minor=payment.refundable_minor,
        disputed_minor=payment.dispute.open_minor,
        fee_minor=price.fee_minor(payment.captured_minor or row.amount_minor),
        reference=row.reference,
        metadata=dict(row.metadata),
        payment_method=MethodAnswer(type=row.method_type, holder_name=row.holder_name),
        gateway=row.gateway,
        gateway_payment_id=payment.gateway_payment_id,
        failure=failure,
        operations=[_operation(each, row.currency) for each in own],
        created_at=row.created_at,
        cancellation_requested_at=None if isinstance(row, NewPayment) else row.cancellation_requested_at,
        authorized_at=payment.authorized_at,
        authorization_expires_at=payment.expires_at,
        captured_at=payment.captured_at,
    )


def _operation(row: PaymentRow, currency: str) -> OperationAnswer:
    return OperationAnswer(
        id=str(row.operation_id),
        payment_id=str(row.payment_id),
        kind=Kind(row.kind),
        state=OperationState(row.state),
        amount_minor=row.amount_minor,
        currency=currency,
        reason=row.reason,
        failure_reason=row.failure_reason,
        created_at=row.created_at,
        decided_at=row.decided_at,
    )
