"""What the three sagas of a payout share: the commit of one that is proven paid."""

from __future__ import annotations

from chassis.saga.triggers import AnySagaTrigger
from ledger.domain import sacco_trigger
from ledger.model.payouts import CommitPayout, PayoutSource
from ledger.sagas.reading import payout_fields
from messages.ledger import PayoutCommitted
from messages.mobile_money import PayoutPaid


def commit(event: PayoutPaid, step: str) -> CommitPayout:
    """Return what a paid payout books. Raises ValueError for a source that is none of ours."""
    return CommitPayout(
        **payout_fields(event, step),
        pays=PayoutSource(event.source),
        loan_id=event.loan_id,
        charge_minor=event.charge_minor,
        completed_at=event.completed_at,
    )


def committing(saga: str) -> AnySagaTrigger:
    """Return the trigger of a payout's commit in a saga."""
    return sacco_trigger(saga=saga, on=PayoutPaid, read=commit, succeeds_with=PayoutCommitted)
