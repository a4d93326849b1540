"""Accepts captures, cancellations and refunds, each in one transaction that locks its payment's row.

So however many come at once, no more is captured or refunded than there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection

from chassis.http.problem import FieldError, Problem, pointer
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import NewId, new_id
from merchant import key_tables, tables
from merchant.bodies import CancelBody, CaptureBody, RefundBody
from merchant.domain import (
    Kind,
    NotPossible,
    Payment,
    Price,
    check_capture,
    check_refund,
    check_void,
    refund_fee_minor,
)
from merchant.fingerprints import fingerprint, key_digest
from merchant.intake import in_progress, lock_of, outbox_row, replayed
from merchant.key_tables import UsedKey
from merchant.late_cancellations import NO_REASON, void_requested
from merchant.tables import NewOperation, PaymentRow
from messages.contract import Message
from messages.merchant import CaptureRequested, PaymentCancellationRequested, RefundRequested

SAGA_VERSION: Final = 1
SAGA_OF: Final = {Kind.CAPTURE: "capture_later", Kind.VOID: "void_payment", Kind.REFUND: "refund"}
PAYMENT_SAGA: Final = ("payment", 1)
CAPTURE, CANCEL, REFUND = (
    (f"POST /v1/payments/{{payment_id}}/{name}", TypeAdapter(body))
    for name, body in (("capture", CaptureBody), ("cancel", CancelBody), ("refunds", RefundBody))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A request about a payment, under an idempotency key. ``action`` is its route, and the type of its body."""

    merchant_id: str
    is_live: bool
    payment_id: int
    key: str
    action: tuple[str, TypeAdapter[Any]]
    body: Any
    traceparent: bytes | None

    @property
    def digest(self) -> bytes:
        """What its key is stored as."""
        return key_digest(self.merchant_id, self.action[0], self.key, is_live=self.is_live)

    @property
    def fingerprint(self) -> bytes:
        """The fingerprint of its body and its payment."""
        return fingerprint(self.action[1], self.body, self.payment_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an operation is made with; ``operation_id`` is a new one."""

    codec: Codec
    now: datetime
    operation_id: int
    new_saga_id: NewId


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A request that is stored: its operation (None: a cancellation under way), and the rows to publish."""

    operation_id: int | None
    rows: list[OutboxRow]
    is_replay: bool = False


def capture(tx: Connection, requested: Requested, context: Context) -> Done:
    """Store a capture of all or a part. Raises Problem."""
    return _once(tx, requested, lambda row, payment: _capture(tx, requested, row, payment, context))


def cancel(tx: Connection, requested: Requested, context: Context) -> Done:
    """Store a cancellation: of a payment that is under way, or of its authorization. Raises Problem."""
    return _once(tx, requested, lambda row, payment: _cancel(tx, requested, row, payment, context))


def refund(tx: Connection, requested: Requested, context: Context) -> Done:
    """Store a refund of all that is left or a part. Raises Problem."""
    return _once(tx, requested, lambda row, payment: _refund(tx, requested, row, payment, context))


def _once(tx: Connection, requested: Requested, do: Callable[[PaymentRow, Payment], Done]) -> Done:
    """Do what is requested, or return what an earlier request with the key did.

    1. Lock the key, as payments do; then see what it was used for.
    2. Lock the payment's row. Another mode's or another merchant's payment does not exist.
    """
    # 1.
    locked, used = key_tables.lock_keys_and_load(tx, [lock_of(requested.digest)], [requested.digest])
    known: UsedKey | None = used.get(requested.digest)
    if known is not None:
        outcome = replayed(known, requested.fingerprint)
        if isinstance(outcome, Problem):
            raise outcome
        return Done(operation_id=known.operation_id, rows=[], is_replay=True)
    if not locked:
        raise in_progress()
    # 2.
    found = tables.lock_payments(tx, ids=[requested.payment_id])
    if not found or (found[0][0].merchant_id, found[0][0].is_live) != (requested.merchant_id, requested.is_live):
        raise no_payment(requested.payment_id)
    row, own = found[0]
    return do(row, tables.payment_of(row, own))


def _capture(tx: Connection, requested: Requested, row: PaymentRow, payment: Payment, context: Context) -> Done:
    body: CaptureBody = requested.body
    amount_minor = payment.amount_minor if body.amount_minor is None else body.amount_minor
    _check(check_capture(payment, amount_minor))
    price = Price(basis_points=row.basis_points, fixed_minor=row.fixed_minor)
    new = _new(requested, context, Kind.CAPTURE, amount_minor, price.fee_minor(amount_minor), "")
    event = CaptureRequested(
        **_envelope(new, context),
        **_of(row, "payment_id", "merchant_id", "is_live", "currency", "amount_minor", "reference", "gateway_account"),
        capture_minor=new.amount_minor,
        fee_minor=new.fee_minor,
        payment_saga_id=row.saga_id,
    )
    return _store(tx, requested, context, new, event)


def _refund(tx: Connection, requested: Requested, row: PaymentRow, payment: Payment, context: Context) -> Done:
    body: RefundBody = requested.body
    amount_minor = max(1, payment.refundable_minor) if body.amount_minor is None else body.amount_minor
    _check(check_refund(payment, amount_minor))
    price = Price(basis_points=row.basis_points, fixed_minor=row.fixed_minor)
    fee_minor = refund_fee_minor(price.fee_minor(payment.captured_minor), amount_minor, payment.captured_minor)
    new = _new(requested, context, Kind.REFUND, amount_minor, fee_minor, body.reason or "")
    event = RefundRequested(
        **_envelope(new, context),
        **_of(row, "payment_id", "merchant_id", "is_live", "currency", "gateway_account"),
        refund_id=new.operation_id,
        refund_minor=new.amount_minor,
        payment_saga_id=row.saga_id,
        fee_minor=new.fee_minor,
        reason=new.reason or NO_REASON,
    )
    return _store(tx, requested, context, new, event)


def _cancel(tx: Connection, requested: Requested, row: PaymentRow, payment: Payment, context: Context) -> Done:
    body: CancelBody = requested.body
    if not payment.is_ended:
        return _cancel_under_way(tx, requested, row, context)
    _check(check_void(payment))
    new = _new(requested, context, Kind.VOID, payment.amount_minor, 0, body.reason or "")
    event = void_requested(row, new, message_id=new_id(), causation_id=None, at=context.now)
    return _store(tx, requested, context, new, event)


def _cancel_under_way(tx: Connection, requested: Requested, row: PaymentRow, context: Context) -> Done:
    """Request the cancellation from the saga of the payment, which shows whether it came in time."""
    _claim(tx, requested, None, context)
    reason: str = requested.body.reason or ""
    if not tables.request_cancellation(
        tx, row.payment_id, reason=reason, late_void_id=context.operation_id, now=context.now
    ):
        return Done(operation_id=None, rows=[])
    event = PaymentCancellationRequested(
        message_id=new_id(),
        saga_id=row.saga_id,
        saga_type=PAYMENT_SAGA[0],
        saga_version=PAYMENT_SAGA[1],
        causation_id=None,
        occurred_at=context.now,
        **_of(row, "payment_id", "merchant_id", "is_live"),
        reason=reason or NO_REASON,
    )
    rows = [outbox_row(event, context.codec, requested.traceparent)]
    outbox.save(tx, rows)
    return Done(operation_id=None, rows=rows)


def _new(
    requested: Requested, context: Context, kind: Kind, amount_minor: int, fee_minor: int, reason: str
) -> NewOperation:
    return NewOperation(
        operation_id=context.operation_id,
        payment_id=requested.payment_id,
        saga_id=context.new_saga_id(),
        kind=kind,
        amount_minor=amount_minor,
        fee_minor=fee_minor,
        reason=reason,
    )


def _envelope(new: NewOperation, context: Context) -> dict[str, Any]:
    return {
        "message_id": new_id(),
        "saga_id": new.saga_id,
        "saga_type": SAGA_OF[new.kind],
        "saga_version": SAGA_VERSION,
        "causation_id": None,
        "occurred_at": context.now,
    }


def _of(row: PaymentRow, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _store(tx: Connection, requested: Requested, context: Context, new: NewOperation, event: Message) -> Done:
    _claim(tx, requested, new.operation_id, context)
    tables.insert_operation(tx, new, now=context.now)
    rows = [outbox_row(event, context.codec, requested.traceparent)]
    outbox.save(tx, rows)
    return Done(operation_id=new.operation_id, rows=rows)


def _claim(tx: Connection, requested: Requested, operation_id: int | None, context: Context) -> None:
    used = UsedKey(fingerprint=requested.fingerprint, payment_id=requested.payment_id, operation_id=operation_id)
    key_tables.claim_key(tx, requested.digest, used, now=context.now)


def _check(reason: NotPossible | None) -> None:
    """Raise the problem of what is not possible: 422 where the amount is the reason, else 409."""
    if reason is None:
        return
    left = {"left_minor": reason.left_minor}
    if reason.is_amount:
        error = FieldError(pointer=pointer(["amount_minor"]), detail=reason.detail)
        raise Problem(
            status=422,
            title="More than is left",
            detail=reason.detail,
            type="urn:baraza:problem:more-than-left",
            extra={**left, "errors": [error.to_json()]},
        )
    raise Problem(
        status=409,
        title="The payment's status does not allow it",
        detail=reason.detail,
        type="urn:baraza:problem:payment-state",
        extra=left,
    )


def no_payment(payment_id: int | str) -> Problem:
    """Return the problem of a payment that the caller does not have."""
    return Problem(status=404, detail=f"There is no payment {payment_id} of yours; check its number and the mode.")
