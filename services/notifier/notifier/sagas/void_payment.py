"""The saga of a void: its merchant is notified that nothing of the payment is held any more."""

from __future__ import annotations

from messages.ledger import VoidCommitted
from messages.merchant import VoidRequested
from messages.notifier import VoidNotified
from notifier.domain import EventType, Subject, Value
from notifier.sagas.reading import identified, notifying

SAGAS = frozenset({("void_payment", 1)})


def data(event: VoidCommitted) -> dict[str, Value]:
    """Return what the merchant learns of the void."""
    return {"reference": event.reference, "currency": event.currency, "amount_minor": event.amount_minor}


def subject(event: VoidRequested) -> Subject:
    """Return what a void is about, which its failure does not say."""
    return Subject(
        saga_id=event.saga_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        payment_id=event.payment_id,
        fails_as=EventType.PAYMENT_VOID_FAILED,
        cancelled_as=EventType.PAYMENT_VOID_FAILED,
        data=identified(event, reference=event.reference, currency=event.currency, amount_minor=event.amount_minor),
    )


NOTIFYING = notifying(
    "void_payment",
    on=VoidCommitted,
    type_of=lambda _: EventType.PAYMENT_VOIDED,
    data=data,
    succeeds_with=VoidNotified,
)
