"""The saga of a payment that its merchant abandons: its hold is released."""

from __future__ import annotations

from ledger.domain import payment_trigger
from ledger.model.merchants import Merchant
from ledger.model.payment_requests import CommitVoid
from messages.ledger import VoidCommitted
from messages.payment import GatewayVoided


def commit(event: GatewayVoided, step: str) -> CommitVoid:
    """Return the release of what is held for a payment whose authorization is cancelled."""
    return CommitVoid(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        payment_id=str(event.payment_id),
        merchant=Merchant(merchant_id=event.merchant_id, is_live=event.is_live),
        currency=event.currency,
        payment_saga_id=event.payment_saga_id,
    )


COMMITTING = payment_trigger(saga="void_payment", on=GatewayVoided, read=commit, succeeds_with=VoidCommitted)
