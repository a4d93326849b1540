"""The saga that pays a line of a dividend run: the dividend is held, and leaves once the payout is proven paid."""

from __future__ import annotations

from ledger.domain import sacco_trigger
from ledger.model.payouts import PayoutSource, PlaceHold
from ledger.sagas.payouts import committing
from ledger.sagas.reading import NO_SOURCE, payout_fields
from messages.ledger import HoldPlaced, HoldRefused
from messages.members import DividendPayoutReleased


def hold(event: DividendPayoutReleased, step: str) -> PlaceHold:
    """Return the hold of a line."""
    return PlaceHold(**payout_fields(event, step), pays=PayoutSource.DIVIDEND)


HOLDING = sacco_trigger(
    saga="dividend_payout",
    on=DividendPayoutReleased,
    read=hold,
    succeeds_with=HoldPlaced,
    rejected_with=HoldRefused,
    more={**NO_SOURCE, "source": PayoutSource.DIVIDEND.value},
)
COMMITTING = committing("dividend_payout")
