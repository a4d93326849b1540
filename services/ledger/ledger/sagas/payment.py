"""The payment saga: its amount is held, and committed with its status once the gateway has proven the capture."""

from __future__ import annotations

from typing import Final

from ledger.domain import payment_trigger
from ledger.model.merchants import Merchant
from ledger.model.payment_requests import CommitCapture, ReservePayment
from messages.ledger import BalanceRejected, BalanceReserved, PaymentCommitted
from messages.payment import GatewayCaptured
from messages.risk import PaymentValidated

SAGAS: Final = frozenset({("payment", 1)})


def reserve(event: PaymentValidated, step: str) -> ReservePayment:
    """Return the hold of a payment that may be charged."""
    return ReservePayment(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        payment_id=str(event.payment_id),
        merchant=Merchant(merchant_id=event.merchant_id, is_live=event.is_live),
        currency=event.currency,
        amount_minor=event.amount_minor,
        fee_minor=event.fee_minor,
    )


def commit(event: GatewayCaptured, step: str) -> CommitCapture:
    """Return what a proven capture books; one of nothing is captured later."""
    return CommitCapture(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        payment_id=str(event.payment_id),
        merchant=Merchant(merchant_id=event.merchant_id, is_live=event.is_live),
        currency=event.currency,
        payment_saga_id=event.saga_id,
        captured_minor=event.captured_minor,
        fee_minor=event.fee_minor,
        is_later=event.capture == "LATER",
    )


RESERVING = payment_trigger(
    saga="payment",
    on=PaymentValidated,
    read=reserve,
    succeeds_with=BalanceReserved,
    rejected_with=BalanceRejected,
)
COMMITTING = payment_trigger(saga="payment", on=GatewayCaptured, read=commit, succeeds_with=PaymentCommitted)
