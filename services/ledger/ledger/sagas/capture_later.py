"""The saga of a later capture: what was captured is committed, and the rest of the payment's hold is released."""

from __future__ import annotations

from typing import Final

from ledger.domain import payment_trigger
from ledger.model.merchants import Merchant
from ledger.model.payment_requests import CommitCapture
from messages.ledger import CaptureCommitted
from messages.payment import LateCaptured

NAME: Final = "capture_later"
SAGAS: Final = frozenset({(NAME, 1)})


def commit(event: LateCaptured, step: str) -> CommitCapture:
    """Return what a proven later capture books."""
    return CommitCapture(
        saga_id=event.saga_id,
        step=step,
        message_id=event.message_id,
        payment_id=str(event.payment_id),
        merchant=Merchant(merchant_id=event.merchant_id, is_live=event.is_live),
        currency=event.currency,
        payment_saga_id=event.payment_saga_id,
        captured_minor=event.captured_minor,
        fee_minor=event.fee_minor,
    )


COMMITTING = payment_trigger(saga=NAME, on=LateCaptured, read=commit, succeeds_with=CaptureCommitted)
