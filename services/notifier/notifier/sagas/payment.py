"""The payment saga: its merchant is notified that it is captured, or authorized where it is captured later."""

from __future__ import annotations

from messages.ledger import PaymentCommitted
from messages.merchant import PaymentSubmitted
from messages.notifier import PaymentNotified
from notifier.domain import EventType, Subject, Value
from notifier.sagas.reading import identified, notifying

SAGAS = frozenset({("payment", 1)})
LATER = "LATER"


def type_of(event: PaymentCommitted) -> EventType:
    """Return what has happened to the payment."""
    return EventType.PAYMENT_AUTHORIZED if event.capture == LATER else EventType.PAYMENT_CAPTURED


def data(event: PaymentCommitted) -> dict[str, Value]:
    """Return what the merchant learns of the payment."""
    return {
        "reference": event.reference,
        "currency": event.currency,
        "amount_minor": event.amount_minor,
        "captured_minor": event.captured_minor,
        "fee_minor": event.fee_minor,
        "authorization_expires_at": None if event.expires_at is None else event.expires_at.isoformat(),
    }


def subject(event: PaymentSubmitted) -> Subject:
    """Return what a payment is about, which its failure does not say."""
    return Subject(
        saga_id=event.saga_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        payment_id=event.payment_id,
        fails_as=EventType.PAYMENT_FAILED,
        cancelled_as=EventType.PAYMENT_CANCELED,
        data=identified(event, reference=event.reference, currency=event.currency, amount_minor=event.amount_minor),
    )


NOTIFYING = notifying("payment", on=PaymentCommitted, type_of=type_of, data=data, succeeds_with=PaymentNotified)
