"""Payment's decisions on the gateway's outcomes. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from chassis.saga.triggers import StepKey, StepRequest
from messages.contract import Envelope
from messages.payment import PaymentRefunded, RefundPayment
from payment.gateway import Authorized, Captured, CaptureFailed, Declined, Refunded, Voided


class PaymentState(enum.StrEnum):
    """The state of a payment."""

    AUTHORIZED = "AUTHORIZED"
    DECLINED = "DECLINED"
    CAPTURED = "CAPTURED"
    CAPTURE_FAILED = "CAPTURE_FAILED"
    VOIDED = "VOIDED"
    REFUNDED = "REFUNDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizePayment(StepRequest):
    """Authorize an amount. ``token`` is the payment method, ``reference`` reconciles the gateway's records."""

    amount_minor: int
    currency: str
    token: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePayment(StepRequest):
    """Capture the whole amount that the saga's step ``authorized_by`` has authorized."""

    authorized_by: str

    @property
    def payment(self) -> StepKey:
        """The key of the payment that it captures."""
        return self.saga_id, self.authorized_by


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One payment of a saga, made by its step ``step``. ``amount_minor`` is what the card is charged."""

    saga_id: str
    step: str
    state: PaymentState
    currency: str
    amount_minor: int
    authorization_id: str | None = None
    capture_id: str | None = None
    refund_id: str | None = None

    @property
    def key(self) -> StepKey:
        """The saga and the step that made it."""
        return self.saga_id, self.step


@dataclass(slots=True)
class Payments:
    """The payments that a batch touches, by the saga and the step that made them, changed in memory."""

    found: dict[StepKey, Payment] = field(default_factory=dict)
    made: list[Payment] = field(default_factory=list)
    changed: dict[StepKey, Payment] = field(default_factory=dict)

    def of(self, key: StepKey) -> Payment:
        """Return a payment. Raises LookupError when there is none: then no later step can have run."""
        payment = self.changed.get(key) or self.found.get(key)
        if payment is None:
            saga_id, step = key
            raise LookupError(f"Saga {saga_id} has no payment of {step}, yet a later step ran; look at its timeline.")
        return payment

    def change(self, payment: Payment) -> None:
        """Record a payment's new state."""
        self.changed[payment.key] = payment


def authorize(request: AuthorizePayment, outcome: Authorized | Declined, payments: Payments) -> None:
    """Record the outcome of the authorization."""
    payment = Payment(
        saga_id=request.saga_id,
        step=request.step,
        state=PaymentState.DECLINED,
        currency=request.currency,
        amount_minor=request.amount_minor,
    )
    if isinstance(outcome, Authorized):
        payment = replace(payment, state=PaymentState.AUTHORIZED, authorization_id=outcome.authorization_id)
    payments.made.append(payment)


def capture(request: CapturePayment, outcome: Captured | CaptureFailed, payments: Payments) -> None:
    """Record the outcome of the capture."""
    payment = payments.of(request.payment)
    if isinstance(outcome, Captured):
        payments.change(replace(payment, state=PaymentState.CAPTURED, capture_id=outcome.capture_id))
    else:
        payments.change(replace(payment, state=PaymentState.CAPTURE_FAILED))


def refund(
    command: RefundPayment, outcome: Voided | Refunded | None, payments: Payments, envelope: Envelope
) -> PaymentRefunded:
    """Record that the charge is undone. Without an outcome there was nothing to undo, or it is already undone."""
    if outcome is None:
        return PaymentRefunded(**envelope, step=command.step, undone=False, amount_minor=0, kind="NOTHING")
    state = PaymentState.REFUNDED if isinstance(outcome, Refunded) else PaymentState.VOIDED
    refund_id = outcome.refund_id if isinstance(outcome, Refunded) else None
    payments.change(replace(payments.of((command.saga_id, command.step)), state=state, refund_id=refund_id))
    return PaymentRefunded(
        **envelope, step=command.step, undone=True, amount_minor=outcome.amount_minor, kind=state.value
    )
