"""Merchant's reactions: what becomes of payments, of what merchants do to them, and of new merchants.

A redelivery changes nothing, and the order does not matter: events only add facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from prometheus_client import Counter, Histogram
from sqlalchemy import Connection

from chassis.saga.steps import Besides, Handler, Reaction
from chassis.telemetry.metrics import STEP_BUCKETS_S
from merchant import late_cancellations, merchant_tables, tables
from merchant.domain import Operation, Payment
from merchant.reactions import APPLY
from merchant.sagas import payment_reversal
from merchant.tables import PaymentRow
from messages.contract import Message
from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted, VoidCommitted
from messages.payment import GatewayAuthorized, GatewayCaptured
from messages.saga import (
    CaptureCompleted,
    CaptureFailed,
    MerchantOnboarded,
    MerchantOnboardingFailed,
    PaymentCompleted,
    PaymentFailed,
    RefundCompleted,
    RefundFailed,
    VoidCompleted,
    VoidFailed,
)

CAPTURED_SECONDS = Histogram(
    "baraza_payment_captured_seconds",
    "Duration from the request for a payment to the proof of its capture, of those that capture at once.",
    buckets=STEP_BUCKETS_S,
)
ENDED_PAYMENTS = Counter("baraza_payments_ended_total", "Payments by the status that their saga led to.", ["status"])

PAYMENT: Final = frozenset({("payment", 1)})
CAPTURE_LATER: Final = frozenset({("capture_later", 1)})
VOID_PAYMENT: Final = frozenset({("void_payment", 1)})
REFUND: Final = frozenset({("refund", 1)})
ONBOARDING: Final = frozenset({("merchant_onboarding", 1)})


def apply(events: Sequence[Message], tx: Connection) -> list[Message]:
    """Add these events to the facts of their payments. The rows are locked in one order everywhere.

    Return what begins the voids of payments whose cancellation came too late for their saga.
    """
    found = tables.lock_payments(
        tx,
        ids={payment_id for event in events if (payment_id := getattr(event, "payment_id", None)) is not None},
        saga_ids={event.saga_id for event in events},
    )
    before = {row.payment_id: tables.payment_of(row, own) for row, own in found}
    by_saga = {payment.saga_id: payment.payment_id for payment in before.values()}
    by_saga |= {each.saga_id: each.payment_id for payment in before.values() for each in payment.operations}
    after = dict(before)
    causes: dict[int, Message] = {}
    for event in events:
        payment_id = getattr(event, "payment_id", None) or by_saga.get(event.saga_id)
        if payment_id is not None and payment_id in after:
            after[payment_id] = APPLY[type(event)](after[payment_id], event)
            causes[payment_id] = event
    changed = [payment for payment_id, payment in after.items() if payment != before[payment_id]]
    tables.save_facts(tx, changed, [each for payment in changed for each in _changed(before, payment)])
    rows = {row.payment_id: row for row, _ in found}
    for payment in changed:
        _measure(before[payment.payment_id], payment, rows[payment.payment_id].created_at)
    return [
        message
        for number, cause in causes.items()
        if (message := _voided_late(rows[number], after[number], cause, tx)) is not None
    ]


def _voided_late(row: PaymentRow, payment: Payment, cause: Message, tx: Connection) -> Message | None:
    """Store the void that a late cancellation leads to, and return what begins it."""
    new = late_cancellations.void_of(row, payment)
    if new is None:
        return None
    tables.insert_operation(tx, new, now=cause.occurred_at)
    return late_cancellations.requested(row, new, cause)


def _changed(before: dict[int, Payment], payment: Payment) -> Iterator[Operation]:
    known = before[payment.payment_id].operations
    return (now for then, now in zip(known, payment.operations, strict=True) if now is not then)


def _measure(before: Payment, after: Payment, created_at: Any) -> None:
    if before.captured_at is None and after.captured_at is not None and after.capture == "NOW":
        CAPTURED_SECONDS.observe(max(0.0, (after.captured_at - created_at).total_seconds()))
    if after.is_ended and not before.is_ended:
        ENDED_PAYMENTS.labels(after.status.value).inc()


def pass_over(events: Sequence[Message], tx: Connection) -> None:
    """Change nothing: what the event completes was noted when the ledger had committed it."""


def on_merchant_onboarded(events: Sequence[MerchantOnboarded], tx: Connection) -> None:
    """Take payments of these merchants from now on."""
    merchant_tables.onboard(tx, {event.saga_id: event.occurred_at for event in events})


def on_merchant_onboarding_failed(events: Sequence[MerchantOnboardingFailed], tx: Connection) -> None:
    """Note why the accounts of these merchants could not be opened."""
    merchant_tables.fail(tx, {event.saga_id: event.reason for event in events})


def _reaction(on: type[Any], sagas: frozenset[tuple[str, int]], do: Callable[..., Besides] = apply) -> Reaction[Any]:
    return Reaction(on=on, sagas=sagas, apply=do)


HANDLERS: tuple[Handler, ...] = (
    _reaction(GatewayAuthorized, PAYMENT),
    _reaction(GatewayCaptured, PAYMENT),
    _reaction(PaymentCommitted, PAYMENT),
    _reaction(PaymentCompleted, PAYMENT),
    _reaction(PaymentFailed, PAYMENT),
    _reaction(CaptureCommitted, CAPTURE_LATER),
    _reaction(CaptureFailed, CAPTURE_LATER),
    _reaction(CaptureCompleted, CAPTURE_LATER, pass_over),
    _reaction(VoidCommitted, VOID_PAYMENT),
    _reaction(VoidFailed, VOID_PAYMENT),
    _reaction(VoidCompleted, VOID_PAYMENT, pass_over),
    _reaction(RefundCommitted, REFUND),
    _reaction(RefundFailed, REFUND),
    _reaction(RefundCompleted, REFUND, pass_over),
    _reaction(ReversalPosted, payment_reversal.SAGAS),
    _reaction(MerchantOnboarded, ONBOARDING, on_merchant_onboarded),
    _reaction(MerchantOnboardingFailed, ONBOARDING, on_merchant_onboarding_failed),
)
