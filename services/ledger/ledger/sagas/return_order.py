"""The return saga: what the card and the customer's points got back is taken off sales."""

from __future__ import annotations

from ledger.domain import UNNAMED, transfer_trigger
from ledger.model.charts import SHOP
from ledger.model.transfers import Transfer
from messages.contract import Envelope
from messages.ledger import ReturnPosted
from messages.loyalty import ReturnPointsCredited


def posting(event: ReturnPointsCredited) -> Transfer:
    """Return the transfer of a return; its value date is that of its points.

    The gateway owes us less by what it refunded, and the points are owed to the customer again.
    """
    points = {"points": event.points_minor} if event.points_minor else {}
    return Transfer(
        reference=UNNAMED,
        entries=SHOP.entries("returned", {"refund": event.refund_minor} | points, event.currency),
        effective_at=event.occurred_at,
    )


def posted(event: ReturnPointsCredited, envelope: Envelope) -> ReturnPosted:
    """Report that a return is posted."""
    return ReturnPosted(**envelope, currency=event.currency, amount_minor=event.refund_minor)


POSTING = transfer_trigger(
    saga="return_order",
    versions=(1,),
    on=ReturnPointsCredited,
    transfer=posting,
    succeeded=posted,
    succeeds_with=ReturnPosted,
)
