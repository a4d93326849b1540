"""What is requested of a gateway for a merchant's payment, and what its proof makes of the rows. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import datetime

from chassis.saga.answers import Proven, Settlement
from chassis.saga.attempts import Outcome
from chassis.saga.triggers import StepRequest
from messages.contract import Envelope
from messages.payment import AuthorizationVoided, VoidAuthorization
from payment.gateways.port import Taken

CAPTURE_LATER = "LATER"
"""How a payment is captured whose merchant captures it by a request of its own."""


class MerchantPaymentState(enum.StrEnum):
    """The state of a merchant's payment at its gateway."""

    REQUESTED = "REQUESTED"
    AUTHORIZED = "AUTHORIZED"
    DECLINED = "DECLINED"
    CAPTURED = "CAPTURED"
    CAPTURE_FAILED = "CAPTURE_FAILED"
    VOIDED = "VOIDED"
    EXPIRED = "EXPIRED"


class RefundState(enum.StrEnum):
    """The state of a refund at its gateway."""

    REQUESTED = "REQUESTED"
    REFUNDED = "REFUNDED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    """It had succeeded, and the gateway took that back later."""


class Act(enum.StrEnum):
    """What a step does with an authorization."""

    CAPTURE = "CAPTURE"
    CAPTURE_LATER = "CAPTURE_LATER"
    VOID = "VOID"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeGateway(StepRequest):
    """Authorize a merchant's payment at the account that its merchant and currency have."""

    payment_id: int
    merchant_id: str
    is_live: bool
    account: str
    currency: str
    amount_minor: int
    reference: str
    token: str
    payer: str
    capture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOrVoid(StepRequest):
    """Capture this amount of an authorization, leave it for later, or cancel it."""

    payment_id: int
    act: Act
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundGateway(StepRequest):
    """Refund this amount of a captured payment."""

    refund_id: int
    payment_id: int
    currency: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantPayment:
    """A merchant's payment. ``saga_id`` is the saga that made it; amounts are in ISO's minor units.

    ``acting_saga_id`` is the saga that captures or voids it, or did so last.
    """

    payment_id: int
    saga_id: str
    merchant_id: str
    is_live: bool
    account: str
    currency: str
    amount_minor: int
    reference: str
    payer: str
    capture: str
    state: MerchantPaymentState = MerchantPaymentState.REQUESTED
    gateway: str = ""
    gateway_payment_id: str | None = None
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    expires_at: datetime | None = None
    acting_saga_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantRefund:
    """A refund of a merchant's payment."""

    refund_id: int
    payment_id: int
    saga_id: str
    currency: str
    amount_minor: int
    state: RefundState = RefundState.REQUESTED
    gateway_refund_id: str | None = None


@dataclass(slots=True)
class MerchantPayments:
    """The payments that a batch touches, by number, and their refunds, changed in memory."""

    found: dict[int, MerchantPayment] = field(default_factory=dict)
    by_saga: dict[str, int] = field(default_factory=dict)
    changed: dict[int, MerchantPayment] = field(default_factory=dict)
    refunds: dict[int, MerchantRefund] = field(default_factory=dict)

    def of(self, payment_id: int) -> MerchantPayment:
        """Return a payment as the batch has left it so far. Raises LookupError where there is none."""
        payment = self.changed.get(payment_id) or self.found.get(payment_id)
        if payment is None:
            raise LookupError(f"Payment {payment_id} has no authorization here, yet a later step ran.")
        return payment

    def of_saga(self, saga_id: str) -> MerchantPayment:
        """Return the payment that a saga has made. Raises LookupError where there is none."""
        if saga_id not in self.by_saga:
            raise LookupError(f"Saga {saga_id} has made no payment here; see its timeline.")
        return self.of(self.by_saga[saga_id])

    def change(self, payment: MerchantPayment) -> None:
        """Record a payment's new state."""
        self.changed[payment.payment_id] = payment


def requested(request: AuthorizeGateway) -> MerchantPayment:
    """Return the row of a payment whose authorization is requested."""
    return MerchantPayment(
        payment_id=request.payment_id,
        saga_id=request.saga_id,
        merchant_id=request.merchant_id,
        is_live=request.is_live,
        account=request.account,
        currency=request.currency,
        amount_minor=request.amount_minor,
        reference=request.reference,
        payer=request.payer,
        capture=request.capture,
    )


def judge_authorization(request: AuthorizeGateway, proof: Proven) -> Proven:
    """Return what a proof means for what was requested."""
    return _judged(proof, request.amount_minor, request.currency)


def judge_capture(request: CaptureOrVoid, proof: Proven) -> Proven:
    """Return what a proof means for what was requested. A void is of the whole authorization."""
    return _judged(proof, request.amount_minor, request.currency)


def judge_refund(request: RefundGateway, proof: Proven) -> Proven:
    """Return what a proof means for what was requested."""
    return _judged(proof, request.amount_minor, request.currency)


def _judged(proof: Proven, amount_minor: int, currency: str) -> Proven:
    """Return a proof; the success of another amount, or of one that is not stated, is a mismatch for a person."""
    if proof.outcome is not Outcome.SUCCEEDED:
        return proof
    taken = Taken.of(proof.detail)
    is_same = taken is not None and (taken.amount_minor, taken.currency) == (amount_minor, currency)
    return proof if is_same else replace(proof, outcome=Outcome.MISMATCHED)


def record_authorization(request: AuthorizeGateway, settlement: Settlement, payments: MerchantPayments) -> None:
    """Record how an authorization ended."""
    payment = payments.changed.get(request.payment_id) or payments.found.get(request.payment_id) or requested(request)
    if not settlement.is_done:
        payments.change(replace(payment, state=MerchantPaymentState.DECLINED))
        return
    taken = Taken.of(settlement.proof.detail)
    note = settlement.proof.note
    payments.change(
        replace(
            payment,
            state=MerchantPaymentState.AUTHORIZED,
            gateway="" if taken is None else taken.gateway,
            gateway_payment_id=None if taken is None else taken.gateway_payment_id,
            authorized_minor=request.amount_minor,
            expires_at=None if note is None else datetime.fromisoformat(note),
        )
    )


def record_capture(request: CaptureOrVoid, settlement: Settlement, payments: MerchantPayments) -> None:
    """Record how a capture or a void ended. One that is left for later changes nothing."""
    payment = payments.of(request.payment_id)
    if request.act is Act.CAPTURE_LATER:
        return
    if request.act is Act.VOID:
        if settlement.is_done:
            payments.change(replace(payment, state=MerchantPaymentState.VOIDED))
        return
    if settlement.is_done:
        captured = replace(payment, state=MerchantPaymentState.CAPTURED, captured_minor=request.amount_minor)
        payments.change(captured)
    elif payment.capture != CAPTURE_LATER:
        # Of one that is captured later the amount is still held: another capture, a void or its end follows.
        payments.change(replace(payment, state=MerchantPaymentState.CAPTURE_FAILED))


def record_refund(request: RefundGateway, settlement: Settlement, payments: MerchantPayments) -> None:
    """Record how a refund ended."""
    payment = payments.of(request.payment_id)
    refund = payments.refunds.get(request.refund_id) or refund_of(request)
    if not settlement.is_done:
        payments.refunds[request.refund_id] = replace(refund, state=RefundState.REFUSED)
        return
    refunded = replace(refund, state=RefundState.REFUNDED, gateway_refund_id=settlement.proof.reference)
    payments.refunds[request.refund_id] = refunded
    payments.change(replace(payment, refunded_minor=payment.refunded_minor + request.amount_minor))


def refund_of(request: RefundGateway) -> MerchantRefund:
    """Return the row of a refund that is requested."""
    return MerchantRefund(
        refund_id=request.refund_id,
        payment_id=request.payment_id,
        saga_id=request.saga_id,
        currency=request.currency,
        amount_minor=request.amount_minor,
    )


def void(
    command: VoidAuthorization, undo_now: bool, payments: MerchantPayments, envelope: Envelope
) -> AuthorizationVoided:
    """Record that an authorization is cancelled."""
    if undo_now:
        payments.change(replace(payments.of_saga(command.saga_id), state=MerchantPaymentState.VOIDED))
    return AuthorizationVoided(**envelope, step=command.step, undone=undo_now)
