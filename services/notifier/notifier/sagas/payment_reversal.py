"""The saga of a reversal: its merchant is notified of what the gateway has taken back, or will not pay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from messages.ledger import ReversalPosted
from messages.notifier import ReversalNotified
from notifier.domain import EventType, Value
from notifier.sagas.reading import notifying

TYPES: Final[Mapping[str, EventType]] = {
    "CAPTURE_FAILED": EventType.PAYMENT_CAPTURE_FAILED,
    "REFUND_FAILED": EventType.REFUND_FAILED,
    "AUTHORIZATION_EXPIRED": EventType.PAYMENT_AUTHORIZATION_EXPIRED,
    "DISPUTED": EventType.DISPUTE_CREATED,
    "DISPUTE_WON": EventType.DISPUTE_WON,
    "DISPUTE_LOST": EventType.DISPUTE_LOST,
}


class UnknownReversal(ValueError):
    """A reversal of a kind that merchants have no event for. Add it to the types, and redrive its saga."""


def type_of(event: ReversalPosted) -> EventType:
    """Return what has happened to the payment. Raises UnknownReversal."""
    found = TYPES.get(event.kind)
    if found is None:
        raise UnknownReversal(f"No event for a reversal of kind {event.kind!r}; known: {', '.join(TYPES)}.")
    return found


def data(event: ReversalPosted) -> dict[str, Value]:
    """Return what the merchant learns of the reversal."""
    return {
        "reversal_id": event.reversal_id,
        "reference": event.reference,
        "refund_id": None if event.refund_id is None else str(event.refund_id),
        "currency": event.currency,
        "amount_minor": event.amount_minor,
        "reversed_minor": event.reversed_minor,
        "reason": event.reason,
    }


NOTIFYING = notifying("payment_reversal", on=ReversalPosted, type_of=type_of, data=data, succeeds_with=ReversalNotified)
