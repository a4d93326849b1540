"""The saga of a later capture: its merchant is notified of what was captured."""

from __future__ import annotations

from messages.ledger import CaptureCommitted
from messages.merchant import CaptureRequested
from messages.notifier import CaptureNotified
from notifier.domain import EventType, Subject, Value
from notifier.sagas.reading import identified, notifying

SAGAS = frozenset({("capture_later", 1)})


def data(event: CaptureCommitted) -> dict[str, Value]:
    """Return what the merchant learns of the capture."""
    return {
        "reference": event.reference,
        "currency": event.currency,
        "amount_minor": event.amount_minor,
        "captured_minor": event.captured_minor,
        "fee_minor": event.fee_minor,
    }


def subject(event: CaptureRequested) -> Subject:
    """Return what a later capture is about, which its failure does not say."""
    return Subject(
        saga_id=event.saga_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        payment_id=event.payment_id,
        fails_as=EventType.PAYMENT_CAPTURE_FAILED,
        cancelled_as=EventType.PAYMENT_CAPTURE_FAILED,
        data=identified(
            event,
            reference=event.reference,
            currency=event.currency,
            amount_minor=event.amount_minor,
            capture_minor=event.capture_minor,
        ),
    )


NOTIFYING = notifying(
    "capture_later",
    on=CaptureCommitted,
    type_of=lambda _: EventType.PAYMENT_CAPTURED,
    data=data,
    succeeds_with=CaptureNotified,
)
