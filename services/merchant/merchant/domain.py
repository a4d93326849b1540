"""What merchant decides: fees, what may be captured, voided and refunded, and the status of a payment. Pure.

A payment is a set of facts, and its status a function of them. Facts are only ever added, so the order in which they
come and how often does not matter, and a status never goes back because of an event that came late.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

BASIS_POINTS: Final = 10_000
HALF: Final = BASIS_POINTS // 2
AMOUNT_MAX_MINOR: Final = 2**53 - 1
"""JSON readers round larger integers differently."""
GATEWAY_AMOUNT_MAX_MINOR: Final = {"stripe": 99_999_999}
"""What a gateway takes in one payment, where it is less: Stripe has eight digits."""


class Capture(enum.StrEnum):
    """When a payment is captured: with its authorization, or by a request of its own."""

    NOW = "NOW"
    LATER = "LATER"


class Status(enum.StrEnum):
    """The status of a payment, as its merchant sees it."""

    PENDING = "PENDING"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    PARTLY_REFUNDED = "PARTLY_REFUNDED"
    REFUNDED = "REFUNDED"
    VOIDED = "VOIDED"
    EXPIRED = "EXPIRED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"
    CAPTURE_FAILED = "CAPTURE_FAILED"
    DISPUTED = "DISPUTED"
    DISPUTE_LOST = "DISPUTE_LOST"


class Kind(enum.StrEnum):
    """What a merchant may do to a payment."""

    CAPTURE = "CAPTURE"
    VOID = "VOID"
    REFUND = "REFUND"


class OperationState(enum.StrEnum):
    """The state of a capture, a void or a refund. A refund that the gateway takes back later is REVERSED."""

    PENDING = "PENDING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REVERSED = "REVERSED"


COUNTED: Final = frozenset({OperationState.PENDING, OperationState.SUCCEEDED})
"""What takes its amount. A failed or reversed one gives it back."""
ORDER_OF_STATES: Final = tuple(OperationState)
"""A state is only replaced by a later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What we keep of a merchant's payment: basis points of the amount, and a fixed part in its currency."""

    basis_points: int
    fixed_minor: int

    def fee_minor(self, amount_minor: int) -> int:
        """Return the fee in minor units.

        The share is rounded half up to a whole minor unit, then the fixed part is added. It is never more than the
        amount.
        """
        share = (amount_minor * self.basis_points + HALF) // BASIS_POINTS
        return min(amount_minor, share + self.fixed_minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A capture, a void or a refund that a merchant requested; ``saga_id`` is that of its own saga."""

    operation_id: int
    payment_id: int
    saga_id: str
    kind: Kind
    state: OperationState
    amount_minor: int
    failure_reason: str | None = None
    decided_at: datetime | None = None

    def ended(self, state: OperationState, at: datetime, reason: str | None = None) -> Operation:
        """Return it in a later state; a state never goes back."""
        if ORDER_OF_STATES.index(state) <= ORDER_OF_STATES.index(self.state):
            return self
        return replace(self, state=state, decided_at=at, failure_reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """What is known of one dispute: the report of its beginning and of its end may come in any order."""

    disputed_minor: int = 0
    won_minor: int = 0
    lost_minor: int = 0

    @property
    def open_minor(self) -> int:
        """The amount that is neither won nor lost yet."""
        return max(0, self.disputed_minor - self.won_minor - self.lost_minor)

    @property
    def taken_minor(self) -> int:
        """The amount that is not the merchant's: open or lost."""
        return self.open_minor + self.lost_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The facts of a payment that events add to. A time is None until its fact is known."""

    payment_id: int
    saga_id: str
    amount_minor: int
    capture: Capture
    captured_minor: int = 0
    gateway_payment_id: str | None = None
    expires_at: datetime | None = None
    authorized_at: datetime | None = None
    captured_at: datetime | None = None
    committed_at: datetime | None = None
    voided_at: datetime | None = None
    failed_at: datetime | None = None
    failure_cause: str | None = None
    failure_step: str | None = None
    failure_reason: str | None = None
    expired_at: datetime | None = None
    capture_failed_at: datetime | None = None
    completed_at: datetime | None = None
    disputed_minor: int = 0
    dispute_won_minor: int = 0
    dispute_lost_minor: int = 0
    operations: tuple[Operation, ...] = ()

    @property
    def refunded_minor(self) -> int:
        """What was refunded."""
        return self._sum({OperationState.SUCCEEDED})

    @property
    def refunding_minor(self) -> int:
        """What is being refunded."""
        return self._sum({OperationState.PENDING})

    @property
    def dispute(self) -> Dispute:
        """What is known of its disputes."""
        return Dispute(
            disputed_minor=self.disputed_minor, won_minor=self.dispute_won_minor, lost_minor=self.dispute_lost_minor
        )

    @property
    def refundable_minor(self) -> int:
        """What may still be refunded: what was captured and is neither refunded, being refunded, nor disputed."""
        if self.committed_at is None or self.capture_failed_at is not None:
            return 0
        return max(0, self.captured_minor - self._sum(COUNTED) - self.dispute.taken_minor)

    @property
    def under_way(self) -> Operation | None:
        """The capture or void that is under way or done; there is one at most."""
        return next((each for each in self.operations if each.kind is not Kind.REFUND and each.state in COUNTED), None)

    @property
    def status(self) -> Status:
        """The status that these facts have."""
        if self.failed_at is not None:
            return Status.CANCELED if self.failure_cause == "CANCELLED" else Status.FAILED
        if self.voided_at is not None:
            return Status.VOIDED
        if self.capture_failed_at is not None:
            return Status.CAPTURE_FAILED
        if self.captured_minor == 0:
            return self._status_before_capture()
        if self.dispute.open_minor:
            return Status.DISPUTED
        if self.dispute.lost_minor:
            return Status.DISPUTE_LOST
        if self.refunded_minor == 0:
            return Status.CAPTURED
        return Status.REFUNDED if self.refunded_minor >= self.captured_minor else Status.PARTLY_REFUNDED

    @property
    def is_ended(self) -> bool:
        """Whether the request for the payment has its outcome: it is committed or failed."""
        return self.committed_at is not None or self.failed_at is not None

    def _status_before_capture(self) -> Status:
        if self.expired_at is not None:
            return Status.EXPIRED
        return Status.PENDING if self.authorized_at is None and self.committed_at is None else Status.AUTHORIZED

    def _sum(self, states: frozenset[OperationState] | set[OperationState]) -> int:
        return sum(each.amount_minor for each in self.operations if each.kind is Kind.REFUND and each.state in states)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPossible:
    """Why an operation is refused. ``left_minor`` is what is left to capture or refund.

    With ``is_amount`` the amount is the reason, and a smaller one may do; otherwise the payment's status is.
    """

    detail: str
    left_minor: int
    is_amount: bool = False


def check_capture(payment: Payment, capture_minor: int) -> NotPossible | None:
    """Return why the payment cannot be captured, None where it can."""
    reason = _not_open(payment, "captured")
    if reason is not None:
        return NotPossible(detail=reason, left_minor=0)
    if capture_minor > payment.amount_minor:
        detail = f"{capture_minor} is more than the {payment.amount_minor} that are authorized; capture at most that."
        return NotPossible(detail=detail, left_minor=payment.amount_minor, is_amount=True)
    return None


def check_void(payment: Payment) -> NotPossible | None:
    """Return why the payment cannot be voided, None where it can."""
    reason = _not_open(payment, "voided")
    return None if reason is None else NotPossible(detail=reason, left_minor=0)


def check_refund(payment: Payment, refund_minor: int) -> NotPossible | None:
    """Return why the payment cannot be refunded, None where it can."""
    left = payment.refundable_minor
    if refund_minor <= left:
        return None
    if left == 0:
        detail = f"The payment is {payment.status}, and nothing of it is left to refund; read the payment."
        return NotPossible(detail=detail, left_minor=0)
    detail = f"{refund_minor} is more than the {left} that are left to refund; refund at most that."
    return NotPossible(detail=detail, left_minor=left, is_amount=True)


def _not_open(payment: Payment, done: str) -> str | None:
    """Return why a payment is no open authorization, None where it is one."""
    if payment.capture is Capture.NOW:
        return f"The payment captures at once, so it is not {done} by a request; refund it once it is captured."
    if payment.status is not Status.AUTHORIZED or payment.committed_at is None:
        return f"The payment is {payment.status}; only an authorized one can be {done}. Read the payment."
    other = payment.under_way
    if other is not None:
        return f"A {other.kind.lower()} of this payment is {other.state}; it can be {done} only once. Read the payment."
    return None


def refund_fee_minor(fee_minor: int, refund_minor: int, captured_minor: int) -> int:
    """Return the part of our fee that belongs to a refund, rounded down, so that the parts are never more than it."""
    return fee_minor * refund_minor // captured_minor


def with_operation(payment: Payment, changed: Operation) -> Payment:
    """Return the payment with this operation in place of its former form."""
    operations = tuple(changed if each.saga_id == changed.saga_id else each for each in payment.operations)
    return replace(payment, operations=operations)


def operation_of(payment: Payment, saga_id: str) -> Operation | None:
    """Return the payment's operation with this saga."""
    return next((each for each in payment.operations if each.saga_id == saga_id), None)
