"""The refund saga: its amount is held on the merchant's accounts, and committed once the gateway has refunded it."""

from __future__ import annotations

from ledger.domain import payment_trigger
from ledger.model.merchants import Merchant
from ledger.model.payment_requests import CommitRefund, ReserveRefund
from messages.ledger import RefundCommitted, RefundRejected, RefundReserved
from messages.merchant import RefundRequested
from messages.payment import GatewayRefunded


def reserve(event: RefundRequested, step: str) -> ReserveRefund:
    """Return the hold of a refund."""
    return ReserveRefund(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        payment_id=str(event.payment_id),
        merchant=Merchant(merchant_id=event.merchant_id, is_live=event.is_live),
        currency=event.currency,
        refund_id=event.refund_id,
        refund_minor=event.refund_minor,
    )


def commit(event: GatewayRefunded, step: str) -> CommitRefund:
    """Return what a proven refund books."""
    return CommitRefund(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        payment_id=str(event.payment_id),
        merchant=Merchant(merchant_id=event.merchant_id, is_live=event.is_live),
        currency=event.currency,
        refund_id=event.refund_id,
        refund_minor=event.refund_minor,
    )


RESERVING = payment_trigger(
    saga="refund",
    on=RefundRequested,
    read=reserve,
    succeeds_with=RefundReserved,
    rejected_with=RefundRejected,
)
COMMITTING = payment_trigger(saga="refund", on=GatewayRefunded, read=commit, succeeds_with=RefundCommitted)
