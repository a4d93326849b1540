"""The saga of what a gateway takes back unasked: it is booked with the payment's status."""

from __future__ import annotations

from ledger.domain import payment_trigger
from ledger.model.merchants import Merchant
from ledger.model.reversals import PostReversal, ReversalKind
from messages.ledger import ReversalPosted
from messages.payment import ReversalReported


def post(event: ReversalReported, step: str) -> PostReversal:
    """Return what a reversal books. Raises ValueError for a kind that is none of ours."""
    return PostReversal(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        payment_id=str(event.payment_id),
        merchant=Merchant(merchant_id=event.merchant_id, is_live=event.is_live),
        currency=event.currency,
        kind=ReversalKind(event.kind),
        payment_saga_id=event.payment_saga_id,
        reversed_minor=event.reversed_minor,
        refund_id=event.refund_id,
        dispute_id=f"{event.gateway_account}:{event.gateway_reference}",
    )


POSTING = payment_trigger(saga="payment_reversal", on=ReversalReported, read=post, succeeds_with=ReversalPosted)
