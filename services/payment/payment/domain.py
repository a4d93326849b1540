"""Payment's decisions on the gateway's outcomes. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from chassis.saga.triggers import StepKey, StepRequest
from messages.contract import Envelope
from messages.payment import PaymentRefunded, RefundPayment
from payment.gateway import Authorized, Captured, CaptureDeclined, Declined, PartialRefund, Refunded, Voided


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
class RefundPart(StepRequest):
    """Refund a part of the payment that the step ``paid_by`` of an order's saga made. 0 refunds nothing."""

    order_id: str
    paid_by: str
    amount_minor: int
    currency: str

    @property
    def payment(self) -> StepKey:
        """The key of the payment of which it refunds a part. The saga that refunds is another one."""
        return self.order_id, self.paid_by


class NotRefundable(ValueError):
    """A payment has nothing that a return may refund. The text says why; a person decides what the customer gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingToRefund:
    """The outcome of a refund of 0, for which no gateway is called."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A part of an order's payment that one step of a saga has refunded; ``refund_id`` is None where it was 0."""

    saga_id: str
    step: str
    order_id: str
    amount_minor: int
    currency: str
    refund_id: str | None

    @property
    def key(self) -> StepKey:
        """The saga and the step that made it."""
        return self.saga_id, self.step


@dataclass(slots=True)
class Payments:
    """The payments that a batch touches, by the saga and the step that made them, changed in memory.

    ``refunded`` are the refunds of parts, which leave their payments as they are.
    """

    found: dict[StepKey, Payment] = field(default_factory=dict)
    made: list[Payment] = field(default_factory=list)
    changed: dict[StepKey, Payment] = field(default_factory=dict)
    refunded: list[Refund] = field(default_factory=list)

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


def capture(request: CapturePayment, outcome: Captured | CaptureDeclined, payments: Payments) -> None:
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


def part_to_refund(request: RefundPart, payments: Payments) -> PartialRefund | NothingToRefund:
    """Return what the gateway is to refund.

    Raises NotRefundable for a payment that is not captured, or is refunded as a whole: then the saga is parked. That
    all parts together are not more than was captured is the gateway's to refuse, which alone knows them all.
    """
    if request.amount_minor == 0:
        return NothingToRefund()
    payment = payments.of(request.payment)
    if payment.state is not PaymentState.CAPTURED or payment.capture_id is None:
        raise NotRefundable(
            f"The payment of order {request.order_id} is {payment.state}; {request.amount_minor} minor units of "
            f"{request.currency} cannot be refunded of it. Look at the order's timeline."
        )
    if request.currency != payment.currency:
        raise NotRefundable(
            f"The payment of order {request.order_id} is in {payment.currency}, the refund in {request.currency}."
        )
    return PartialRefund(capture_id=payment.capture_id, amount_minor=request.amount_minor)


def refund_part(request: RefundPart, outcome: Refunded | NothingToRefund, payments: Payments) -> None:
    """Record the refund of a part. Raises NotRefundable where the gateway refunded another amount than it was sent."""
    refund_id = outcome.refund_id if isinstance(outcome, Refunded) else None
    refunded_minor = outcome.amount_minor if isinstance(outcome, Refunded) else 0
    if refunded_minor != request.amount_minor:
        raise NotRefundable(
            f"The gateway refunded {refunded_minor} minor units of {request.currency} for return {request.saga_id}, "
            f"which are not the {request.amount_minor} that it was sent; refund {refund_id}."
        )
    payments.refunded.append(
        Refund(
            saga_id=request.saga_id,
            step=request.step,
            order_id=request.order_id,
            amount_minor=refunded_minor,
            currency=request.currency,
            refund_id=refund_id,
        )
    )
