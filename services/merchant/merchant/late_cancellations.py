"""Cancellations that come too late for the saga of their payment: a void follows where nothing is captured yet. Pure.

A payment that its merchant captures later is authorized before its merchant is notified. A cancellation in between is
accepted, and its saga is past the point of no return. Without a void the authorization would stand until it expires.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from chassis.wire.envelope import derived_id
from merchant.domain import Kind, Payment, check_void
from merchant.tables import NewOperation, PaymentRow
from messages.contract import Message
from messages.merchant import VoidRequested

VOID_SAGA: Final = ("void_payment", 1)
NO_REASON: Final = "requested by the merchant"


def void_of(row: PaymentRow, payment: Payment) -> NewOperation | None:
    """Return the void that a late cancellation leads to, once; None where there is none.

    The payment's row has the number of the void since the cancellation was requested.
    """
    number = row.late_void_id
    if number is None or any(each.operation_id == number for each in payment.operations):
        return None
    if check_void(payment) is not None:
        return None
    return NewOperation(
        operation_id=number,
        payment_id=payment.payment_id,
        saga_id=derived_id("late cancellation", payment.saga_id),
        kind=Kind.VOID,
        amount_minor=payment.amount_minor,
        fee_minor=0,
        reason=row.cancellation_reason or "",
    )


def requested(row: PaymentRow, new: NewOperation, cause: Message) -> VoidRequested:
    """Return the event that begins the void, caused by the event that shows the authorization."""
    return void_requested(
        row,
        new,
        message_id=derived_id(new.saga_id, "requested"),
        causation_id=cause.message_id,
        at=cause.occurred_at,
    )


def void_requested(
    row: PaymentRow, new: NewOperation, *, message_id: str, causation_id: str | None, at: datetime
) -> VoidRequested:
    """Return the event that begins a void."""
    return VoidRequested(
        message_id=message_id,
        saga_id=new.saga_id,
        saga_type=VOID_SAGA[0],
        saga_version=VOID_SAGA[1],
        causation_id=causation_id,
        occurred_at=at,
        payment_id=row.payment_id,
        merchant_id=row.merchant_id,
        is_live=row.is_live,
        currency=row.currency,
        amount_minor=row.amount_minor,
        reference=row.reference,
        gateway_account=row.gateway_account,
        payment_saga_id=row.saga_id,
        reason=new.reason or NO_REASON,
    )
