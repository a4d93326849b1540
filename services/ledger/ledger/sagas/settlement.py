"""The settlement saga: what a gateway paid, what it kept, and what becomes available to each merchant."""

from __future__ import annotations

from ledger.domain import payment_trigger
from ledger.model.merchants import Merchant
from ledger.model.settlements import PostSettlement, Release
from messages.ledger import SettlementPosted
from messages.reconciliation import SettlementReported


def post(event: SettlementReported, step: str) -> PostSettlement:
    """Return what a settlement books."""
    return PostSettlement(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        is_live=event.is_live,
        currency=event.currency,
        paid_minor=event.paid_minor,
        cost_minor=event.cost_minor,
        releases=tuple(
            Release(
                merchant=Merchant(merchant_id=each.merchant_id, is_live=each.is_live),
                net_minor=each.net_minor,
            )
            for each in event.releases
        ),
    )


POSTING = payment_trigger(saga="settlement", on=SettlementReported, read=post, succeeds_with=SettlementPosted)
