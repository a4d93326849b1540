"""The sagas of payments: each event of the ledger and of the gateways becomes one record. Pure."""

from __future__ import annotations

from typing import Final, TypeAlias

from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted, VoidCommitted
from messages.payment import GatewayCaptured, GatewayRefunded, LateCaptured, ReversalReported
from reconciliation.model.kinds import Kind, Source
from reconciliation.model.records import Record

PAYMENT: Final = frozenset({("payment", 1)})
CAPTURE_LATER: Final = frozenset({("capture_later", 1)})
VOID_PAYMENT: Final = frozenset({("void_payment", 1)})
REFUND: Final = frozenset({("refund", 1)})
PAYMENT_REVERSAL: Final = frozenset({("payment_reversal", 1)})

Captured: TypeAlias = GatewayCaptured | LateCaptured | PaymentCommitted | CaptureCommitted
Refunded: TypeAlias = GatewayRefunded | RefundCommitted
Reversed: TypeAlias = ReversalReported | ReversalPosted
OURS: Final = (GatewayCaptured, LateCaptured, GatewayRefunded, ReversalReported)


def source_of(event: object) -> Source:
    """Return whose record an event is."""
    return Source.GATEWAY if isinstance(event, OURS) else Source.LEDGER


def captured(event: Captured) -> Record:
    """Return the record of a capture, or of an authorization where the merchant captures later."""
    return Record(
        saga_id=event.saga_id,
        source=source_of(event),
        kind=Kind.CAPTURE if event.captured_minor else Kind.AUTHORIZED,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        gateway=event.gateway,
        account=event.gateway_account,
        gateway_payment_id=event.gateway_payment_id,
        currency=event.currency,
        minor=event.captured_minor,
        fee_minor=event.fee_minor if event.captured_minor else 0,
        occurred_at=event.occurred_at,
    )


def voided(event: VoidCommitted) -> Record:
    """Return the record of a payment that was cancelled before its capture: it must move nothing."""
    return Record(
        saga_id=event.saga_id,
        source=Source.LEDGER,
        kind=Kind.VOID,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        gateway=event.gateway,
        account=event.gateway_account,
        gateway_payment_id=event.gateway_payment_id,
        currency=event.currency,
        minor=0,
        occurred_at=event.occurred_at,
    )


def refunded(event: Refunded) -> Record:
    """Return the record of a refund."""
    return Record(
        saga_id=event.saga_id,
        source=source_of(event),
        kind=Kind.REFUND,
        payment_id=event.payment_id,
        refund_id=event.refund_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        gateway=event.gateway,
        account=event.gateway_account,
        reference=event.gateway_refund_id,
        currency=event.currency,
        minor=event.refund_minor,
        occurred_at=event.occurred_at,
    )


def reversed_(event: Reversed) -> Record:
    """Return the record of what a gateway took back, or will not pay."""
    return Record(
        saga_id=event.saga_id,
        source=source_of(event),
        kind=Kind(event.kind),
        payment_id=event.payment_id,
        refund_id=event.refund_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        gateway=event.gateway,
        account=event.gateway_account,
        reference=event.gateway_reference,
        currency=event.currency,
        minor=event.reversed_minor,
        occurred_at=event.occurred_at,
    )
