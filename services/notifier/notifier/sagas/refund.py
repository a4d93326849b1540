"""The refund saga: its merchant is notified of what was refunded."""

from __future__ import annotations

from messages.ledger import RefundCommitted
from messages.merchant import RefundRequested
from messages.notifier import RefundNotified
from notifier.domain import EventType, Subject, Value
from notifier.sagas.reading import identified, notifying

SAGAS = frozenset({("refund", 1)})


def data(event: RefundCommitted) -> dict[str, Value]:
    """Return what the merchant learns of the refund."""
    return {"refund_id": str(event.refund_id), "currency": event.currency, "refund_minor": event.refund_minor}


def subject(event: RefundRequested) -> Subject:
    """Return what a refund is about, which its failure does not say."""
    return Subject(
        saga_id=event.saga_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        payment_id=event.payment_id,
        fails_as=EventType.REFUND_FAILED,
        cancelled_as=EventType.REFUND_FAILED,
        data=identified(
            event, refund_id=str(event.refund_id), currency=event.currency, refund_minor=event.refund_minor
        ),
    )


NOTIFYING = notifying(
    "refund",
    on=RefundCommitted,
    type_of=lambda _: EventType.REFUND_SUCCEEDED,
    data=data,
    succeeds_with=RefundNotified,
)
