"""The order saga: its captured payment is posted to the gateway's receivable, the members' points and sales."""

from __future__ import annotations

from ledger.domain import UNNAMED, transfer_trigger
from ledger.model.charts import SHOP
from ledger.model.transfers import Transfer
from messages.contract import Envelope
from messages.ledger import LedgerPosted
from messages.payment import PaymentCaptured


def posting(event: PaymentCaptured) -> Transfer:
    """Return the transfer of a captured payment; its value date is the capture's.

    The gateway owes us what it captured, the points that paid the rest are a smaller liability, and both are sales.
    """
    amounts = {"captured": event.amount_minor, "net": event.amount_minor + event.points_minor}
    points = {"points": event.points_minor} if event.points_minor else {}
    return Transfer(
        reference=UNNAMED,
        entries=SHOP.entries("captured", amounts | points, event.currency),
        effective_at=event.occurred_at,
    )


def posted(event: PaymentCaptured, envelope: Envelope) -> LedgerPosted:
    """Report that a captured payment is posted."""
    return LedgerPosted(**envelope, currency=event.currency, amount_minor=event.amount_minor)


POSTING = transfer_trigger(
    saga="order",
    versions=(1,),
    on=PaymentCaptured,
    transfer=posting,
    succeeded=posted,
    succeeds_with=LedgerPosted,
)
