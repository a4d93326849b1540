"""Books what gateways accept of captures that merchants request later, and corrects what then fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from chassis.postgres.transient import utc_now
from ledger.model.merchants import Merchant
from ledger.model.payment_books import CAPTURE_OR_VOID, Source
from ledger.model.payment_requests import AcceptLateCapture, CorrectLateCapture
from ledger.store import late_captures, payment_books
from ledger.store.late_captures import LateCapture
from messages.merchant import CaptureRequested
from messages.saga import CaptureFailed, StepAwaited


def on_capture_requested(events: Sequence[CaptureRequested], tx: Connection) -> None:
    """Record what is captured: the gateway's acceptance does not say so itself."""
    _record((LateCapture(saga_id=event.saga_id, request=_request(event)) for event in events), tx)


def on_accepted(events: Sequence[StepAwaited], tx: Connection) -> None:
    """Book what gateways have accepted."""
    _record((LateCapture(saga_id=event.saga_id, accepted_by=event.message_id) for event in events), tx)


def on_capture_failed(events: Sequence[CaptureFailed], tx: Connection) -> None:
    """Correct what was accepted and then failed."""
    _record((LateCapture(saga_id=event.saga_id, has_failed=True) for event in events), tx)


def _record(facts: Iterable[LateCapture], tx: Connection) -> None:
    known = late_captures.record({each.saga_id: each for each in facts}, tx)
    due = [_due(each, each.request) for each in known if each.request is not None and each.accepted_by is not None]
    if not due:
        return
    books = payment_books.load([each.needs() for each in due], tx, now=utc_now())
    for each in due:
        each.book(books, Source(saga_id=each.saga_id, step=each.step, message_id=each.message_id))
    payment_books.save(books, tx)


def _due(known: LateCapture, request: Any) -> AcceptLateCapture:
    kind = CorrectLateCapture if known.has_failed else AcceptLateCapture
    return kind(
        saga_id=known.saga_id,
        step=CAPTURE_OR_VOID,
        message_id=known.accepted_by or "",
        payment_id=request["payment_id"],
        merchant=Merchant(merchant_id=request["merchant_id"], is_live=request["is_live"]),
        currency=request["currency"],
        payment_saga_id=request["payment_saga_id"],
        capture_minor=request["capture_minor"],
    )


def _request(event: CaptureRequested) -> dict[str, Any]:
    return {
        "payment_id": str(event.payment_id),
        "merchant_id": event.merchant_id,
        "is_live": event.is_live,
        "currency": event.currency,
        "payment_saga_id": event.payment_saga_id,
        "capture_minor": event.capture_minor,
    }
