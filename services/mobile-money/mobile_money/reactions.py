"""What mobile-money does about the ends of the sagas that it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog
from sqlalchemy import Connection

from chassis.saga.steps import Handler, Reaction
from messages.saga import ReceiptCompleted, ReceiptFailed
from mobile_money import receipts
from mobile_money.receipts import ReceiptState

RECEIPTS: Final = frozenset({(receipts.SAGA, receipts.VERSION)})

log = structlog.get_logger()


def on_receipt_completed(events: Sequence[ReceiptCompleted], tx: Connection) -> None:
    """Record that these receipts are booked."""
    receipts.end(tx, [(each.saga_id, ReceiptState.COMPLETED) for each in events])


def on_receipt_failed(events: Sequence[ReceiptFailed], tx: Connection) -> None:
    """List these receipts: their sagas were stopped before they were recorded, and the money is here all the same."""
    for each in events:
        log.error("The saga of a receipt was stopped; start it again.", saga_id=each.saga_id)
    receipts.end(tx, [(each.saga_id, ReceiptState.FAILED) for each in events])


REACTIONS: Final[tuple[Handler, ...]] = (
    Reaction(on=ReceiptCompleted, sagas=RECEIPTS, apply=on_receipt_completed),
    Reaction(on=ReceiptFailed, sagas=RECEIPTS, apply=on_receipt_failed),
)
