"""The withdrawal saga: a member's savings are held, and leave once the payout is proven paid."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.payouts import PayoutSource, PlaceHold
from ledger.sagas.payouts import committing
from ledger.sagas.reading import NO_SOURCE, payout_fields
from messages.ledger import HoldPlaced, HoldRefused
from messages.members import WithdrawalRequested


def hold(event: WithdrawalRequested, step: str) -> PlaceHold:
    """Return the hold of a withdrawal."""
    return PlaceHold(**payout_fields(event, step), pays=PayoutSource.SAVINGS)


HOLDING = sacco_trigger(
    saga="withdrawal",
    on=WithdrawalRequested,
    read=hold,
    succeeds_with=HoldPlaced,
    rejected_with=HoldRefused,
    more={"source": PayoutSource.SAVINGS.value, **NO_SOURCE},
)
COMMITTING = committing("withdrawal")
