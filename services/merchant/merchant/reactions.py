"""What events of sagas and services add to the facts of a payment. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar

from merchant.domain import Operation, OperationState, Payment, operation_of, with_operation
from messages.contract import Message
from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted, VoidCommitted
from messages.payment import GatewayAuthorized, GatewayCaptured
from messages.saga import CaptureFailed, PaymentCompleted, PaymentFailed, RefundFailed, VoidFailed

Fact = TypeVar("Fact")


def _first(known: Fact | None, new: Fact | None) -> Fact | None:
    """Return what is known first: a fact that is known is not replaced."""
    return new if known is None else known


def _latest(known: datetime | None, new: datetime | None) -> datetime | None:
    """Return the later of two times, of which either may be unknown."""
    return max(filter(None, (known, new)), default=None)


def _earliest(known: datetime | None, new: datetime) -> datetime:
    return new if known is None else min(known, new)


def on_gateway_authorized(payment: Payment, event: GatewayAuthorized) -> Payment:
    """Note the authorization."""
    return replace(
        payment,
        authorized_at=_earliest(payment.authorized_at, event.occurred_at),
        gateway_payment_id=_first(payment.gateway_payment_id, event.gateway_payment_id),
        expires_at=_latest(payment.expires_at, event.expires_at),
    )


def on_gateway_captured(payment: Payment, event: GatewayCaptured) -> Payment:
    """Note when the capture was proven. The payment is captured for its merchant once it is in the ledger."""
    noted = replace(
        payment,
        gateway_payment_id=_first(payment.gateway_payment_id, event.gateway_payment_id),
        expires_at=_latest(payment.expires_at, event.expires_at),
        authorized_at=_earliest(payment.authorized_at, event.occurred_at),
    )
    if event.captured_minor == 0:
        return noted
    return replace(noted, captured_at=_earliest(payment.captured_at, event.occurred_at))


def on_payment_committed(payment: Payment, event: PaymentCommitted) -> Payment:
    """Note that the payment is in the ledger, and what was captured."""
    noted = replace(
        payment,
        committed_at=_earliest(payment.committed_at, event.occurred_at),
        gateway_payment_id=_first(payment.gateway_payment_id, event.gateway_payment_id),
        expires_at=_latest(payment.expires_at, event.expires_at),
        captured_minor=max(payment.captured_minor, event.captured_minor),
    )
    if event.captured_minor == 0:
        return noted
    return replace(noted, captured_at=_earliest(payment.captured_at, event.occurred_at))


def on_payment_completed(payment: Payment, event: PaymentCompleted) -> Payment:
    """Note that every step has run."""
    return replace(payment, completed_at=_earliest(payment.completed_at, event.occurred_at))


def on_payment_failed(payment: Payment, event: PaymentFailed) -> Payment:
    """Note the failure."""
    if payment.failed_at is not None:
        return payment
    return replace(
        payment,
        failed_at=event.occurred_at,
        failure_cause=event.cause,
        failure_step=event.step,
        failure_reason=event.reason,
    )


def on_capture_committed(payment: Payment, event: CaptureCommitted) -> Payment:
    """Note what was captured later."""
    captured = replace(
        payment,
        captured_minor=max(payment.captured_minor, event.captured_minor),
        captured_at=_earliest(payment.captured_at, event.occurred_at),
        # The event of the payment itself may come after it.
        committed_at=_earliest(payment.committed_at, event.occurred_at),
    )
    return _ended(captured, event.saga_id, OperationState.SUCCEEDED, event.occurred_at)


def on_void_committed(payment: Payment, event: VoidCommitted) -> Payment:
    """Note that the authorization was given back."""
    voided = replace(payment, voided_at=_earliest(payment.voided_at, event.occurred_at))
    return _ended(voided, event.saga_id, OperationState.SUCCEEDED, event.occurred_at)


def on_refund_committed(payment: Payment, event: RefundCommitted) -> Payment:
    """Note that the payer has its money back."""
    return _ended(payment, event.saga_id, OperationState.SUCCEEDED, event.occurred_at)


def on_operation_failed(payment: Payment, event: CaptureFailed | VoidFailed | RefundFailed) -> Payment:
    """Note that a capture, a void or a refund failed: its amount can be used again."""
    return _ended(payment, event.saga_id, OperationState.FAILED, event.occurred_at, event.reason)


def on_reversal_posted(payment: Payment, event: ReversalPosted) -> Payment:
    """Note what the gateway took back unasked."""
    at = event.occurred_at
    match event.kind:
        case "CAPTURE_FAILED":
            return replace(payment, capture_failed_at=_earliest(payment.capture_failed_at, at))
        case "AUTHORIZATION_EXPIRED":
            return replace(payment, expired_at=_earliest(payment.expired_at, at))
        case "REFUND_FAILED":
            refund = next((each for each in payment.operations if each.operation_id == event.refund_id), None)
            return payment if refund is None else _reversed(payment, refund, at, event.reason)
        case "DISPUTED":
            return replace(payment, disputed_minor=max(payment.disputed_minor, event.reversed_minor))
        case "DISPUTE_WON":
            return replace(payment, dispute_won_minor=max(payment.dispute_won_minor, event.reversed_minor))
        case "DISPUTE_LOST":
            return replace(payment, dispute_lost_minor=max(payment.dispute_lost_minor, event.reversed_minor))
    return payment


def _reversed(payment: Payment, refund: Operation, at: datetime, reason: str) -> Payment:
    return with_operation(payment, refund.ended(OperationState.REVERSED, at, reason))


def _ended(payment: Payment, saga_id: str, state: OperationState, at: datetime, reason: str | None = None) -> Payment:
    operation = operation_of(payment, saga_id)
    return payment if operation is None else with_operation(payment, operation.ended(state, at, reason))


APPLY: Final[Mapping[type[Message], Callable[[Payment, Any], Payment]]] = {
    GatewayAuthorized: on_gateway_authorized,
    GatewayCaptured: on_gateway_captured,
    PaymentCommitted: on_payment_committed,
    PaymentCompleted: on_payment_completed,
    PaymentFailed: on_payment_failed,
    CaptureCommitted: on_capture_committed,
    VoidCommitted: on_void_committed,
    RefundCommitted: on_refund_committed,
    CaptureFailed: on_operation_failed,
    VoidFailed: on_operation_failed,
    RefundFailed: on_operation_failed,
    ReversalPosted: on_reversal_posted,
}
"""What each event adds, by its type."""
