"""Payment's decisions on the gateway's outcomes. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from messages.checkout import OrderSubmitted
from messages.contract import Envelope
from messages.payment import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentDeclined,
    PaymentRefunded,
    RefundPayment,
)
from messages.shipping import ShipmentBooked
from payment.gateway import Authorized, Captured, CaptureFailed, Declined, Refunded, Voided


class PaymentState(enum.StrEnum):
    """The state of an order's payment."""

    AUTHORIZED = "AUTHORIZED"
    DECLINED = "DECLINED"
    CAPTURED = "CAPTURED"
    CAPTURE_FAILED = "CAPTURE_FAILED"
    VOIDED = "VOIDED"
    REFUNDED = "REFUNDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One order's payment. ``amount_minor`` is the amount that the card is charged."""

    saga_id: str
    state: PaymentState
    currency: str
    amount_minor: int
    authorization_id: str | None = None
    capture_id: str | None = None
    refund_id: str | None = None


@dataclass(slots=True)
class Payments:
    """The payments that a batch touches, changed in memory."""

    found: dict[str, Payment] = field(default_factory=dict)
    made: list[Payment] = field(default_factory=list)
    changed: dict[str, Payment] = field(default_factory=dict)

    def of(self, saga_id: str) -> Payment:
        """Return the payment of a saga. Raises LookupError when there is none: then no later step can have run."""
        payment = self.changed.get(saga_id) or self.found.get(saga_id)
        if payment is None:
            raise LookupError(f"Saga {saga_id} has no payment, yet a later step ran; look at its timeline.")
        return payment

    def change(self, payment: Payment) -> None:
        """Record a payment's new state."""
        self.changed[payment.saga_id] = payment


def authorize(
    event: OrderSubmitted, outcome: Authorized | Declined, payments: Payments, envelope: Envelope
) -> PaymentAuthorized | PaymentDeclined:
    """Record the outcome of the authorization."""
    payment = Payment(
        saga_id=event.saga_id,
        state=PaymentState.DECLINED,
        currency=event.currency,
        amount_minor=event.payable_minor,
    )
    if isinstance(outcome, Declined):
        payments.made.append(payment)
        return PaymentDeclined(**envelope, reason=outcome.reason, detail=outcome.detail)
    payments.made.append(replace(payment, state=PaymentState.AUTHORIZED, authorization_id=outcome.authorization_id))
    return PaymentAuthorized(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        lines=event.lines,
        points_to_burn=event.points_to_burn,
        payable_minor=event.payable_minor,
        ship_to=event.ship_to,
        authorization_id=outcome.authorization_id,
    )


def capture(
    event: ShipmentBooked, outcome: Captured | CaptureFailed, payments: Payments, envelope: Envelope
) -> PaymentCaptured | PaymentCaptureFailed:
    """Record the outcome of the capture."""
    payment = payments.of(event.saga_id)
    if isinstance(outcome, CaptureFailed):
        payments.change(replace(payment, state=PaymentState.CAPTURE_FAILED))
        return PaymentCaptureFailed(**envelope, reason=outcome.reason, detail=outcome.detail)
    payments.change(replace(payment, state=PaymentState.CAPTURED, capture_id=outcome.capture_id))
    return PaymentCaptured(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        amount_minor=outcome.amount_minor,
        points_minor=event.points_minor,
        capture_id=outcome.capture_id,
    )


def refund(
    command: RefundPayment, outcome: Voided | Refunded | None, payments: Payments, envelope: Envelope
) -> PaymentRefunded:
    """Record that the charge is undone. Without an outcome there was nothing to undo, or it is already undone."""
    if outcome is None:
        return PaymentRefunded(**envelope, step=command.step, undone=False, amount_minor=0, kind="NOTHING")
    state = PaymentState.REFUNDED if isinstance(outcome, Refunded) else PaymentState.VOIDED
    refund_id = outcome.refund_id if isinstance(outcome, Refunded) else None
    payments.change(replace(payments.of(command.saga_id), state=state, refund_id=refund_id))
    return PaymentRefunded(
        **envelope, step=command.step, undone=True, amount_minor=outcome.amount_minor, kind=state.value
    )
