"""The sagas of merchants' payments: what each asks of a gateway, and the event of what is proven."""

from __future__ import annotations

from datetime import datetime

from chassis.saga.answers import Settlement
from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.ledger import BalanceReserved, RefundReserved
from messages.merchant import CaptureRequested, VoidRequested
from messages.payment import (
    GatewayAuthorized,
    GatewayCaptured,
    GatewayCaptureFailed,
    GatewayDeclined,
    GatewayRefunded,
    GatewayRefundFailed,
    GatewayVoided,
    GatewayVoidFailed,
    LateCaptured,
    LateCaptureFailed,
)
from payment.gateways.port import Refused, Taken
from payment.merchants import domain
from payment.merchants.domain import Act, AuthorizeGateway, CaptureOrVoid, RefundGateway

NO_TEXT = "The gateway gave no reason."


def to_authorize(event: BalanceReserved, step: str) -> AuthorizeGateway:
    """Read what is to be authorized, and where."""
    return AuthorizeGateway(
        saga_id=event.saga_id,
        step=step,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        account=event.gateway_account,
        currency=event.currency,
        amount_minor=event.amount_minor,
        reference=event.reference,
        token=event.payment_method,
        payer=event.payer,
        capture=event.capture,
    )


def authorized(
    event: BalanceReserved, settlement: Settlement, envelope: Envelope
) -> GatewayAuthorized | GatewayDeclined:
    """Return the event of an authorization."""
    if not settlement.is_done:
        refused = Refused.of(settlement.proof.detail)
        return GatewayDeclined(
            **envelope,
            payment_id=event.payment_id,
            merchant_id=event.merchant_id,
            is_live=event.is_live,
            gateway=refused.gateway,
            reason=refused.reason,
            detail=refused.text or NO_TEXT,
        )
    taken, note = _taken(settlement), settlement.proof.note
    return GatewayAuthorized(
        **envelope,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        currency=event.currency,
        amount_minor=event.amount_minor,
        reference=event.reference,
        gateway_account=event.gateway_account,
        capture=event.capture,
        fee_minor=event.fee_minor,
        gateway=taken.gateway,
        gateway_payment_id=taken.gateway_payment_id,
        expires_at=None if note is None else datetime.fromisoformat(note),
    )


def to_capture(event: GatewayAuthorized, step: str) -> CaptureOrVoid:
    """Read what is to be captured; the merchant may do so later."""
    is_later = event.capture == domain.CAPTURE_LATER
    return CaptureOrVoid(
        saga_id=event.saga_id,
        step=step,
        payment_id=event.payment_id,
        act=Act.CAPTURE_LATER if is_later else Act.CAPTURE,
        currency=event.currency,
        amount_minor=0 if is_later else event.amount_minor,
    )


def captured(
    event: GatewayAuthorized, settlement: Settlement, envelope: Envelope
) -> GatewayCaptured | GatewayCaptureFailed:
    """Return the event of a capture."""
    if not settlement.is_done:
        refused = Refused.of(settlement.proof.detail)
        return GatewayCaptureFailed(
            **envelope,
            payment_id=event.payment_id,
            merchant_id=event.merchant_id,
            is_live=event.is_live,
            reason=refused.reason,
            detail=refused.text or NO_TEXT,
        )
    return GatewayCaptured(
        **envelope,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        currency=event.currency,
        amount_minor=event.amount_minor,
        reference=event.reference,
        gateway_account=event.gateway_account,
        capture=event.capture,
        fee_minor=event.fee_minor,
        gateway=event.gateway,
        gateway_payment_id=event.gateway_payment_id,
        captured_minor=0 if event.capture == domain.CAPTURE_LATER else event.amount_minor,
        expires_at=event.expires_at,
    )


def to_capture_later(event: CaptureRequested, step: str) -> CaptureOrVoid:
    """Read what is to be captured of an authorization."""
    return CaptureOrVoid(
        saga_id=event.saga_id,
        step=step,
        payment_id=event.payment_id,
        act=Act.CAPTURE,
        currency=event.currency,
        amount_minor=event.capture_minor,
    )


def captured_later(
    event: CaptureRequested, settlement: Settlement, envelope: Envelope
) -> LateCaptured | LateCaptureFailed:
    """Return the event of a later capture."""
    if not settlement.is_done:
        refused = Refused.of(settlement.proof.detail)
        return LateCaptureFailed(
            **envelope,
            payment_id=event.payment_id,
            merchant_id=event.merchant_id,
            is_live=event.is_live,
            reason=refused.reason,
            detail=refused.text or NO_TEXT,
        )
    taken = _taken(settlement)
    return LateCaptured(
        **envelope,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        currency=event.currency,
        amount_minor=event.amount_minor,
        reference=event.reference,
        gateway_account=event.gateway_account,
        fee_minor=event.fee_minor,
        gateway=taken.gateway,
        gateway_payment_id=taken.gateway_payment_id,
        captured_minor=event.capture_minor,
        payment_saga_id=event.payment_saga_id,
    )


def to_void(event: VoidRequested, step: str) -> CaptureOrVoid:
    """Read which authorization is to be cancelled."""
    return CaptureOrVoid(
        saga_id=event.saga_id,
        step=step,
        payment_id=event.payment_id,
        act=Act.VOID,
        currency=event.currency,
        amount_minor=event.amount_minor,
    )


def voided(event: VoidRequested, settlement: Settlement, envelope: Envelope) -> GatewayVoided | GatewayVoidFailed:
    """Return the event of a void."""
    if not settlement.is_done:
        refused = Refused.of(settlement.proof.detail)
        return GatewayVoidFailed(
            **envelope,
            payment_id=event.payment_id,
            merchant_id=event.merchant_id,
            is_live=event.is_live,
            reason=refused.reason,
            detail=refused.text or NO_TEXT,
        )
    taken = _taken(settlement)
    return GatewayVoided(
        **envelope,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        currency=event.currency,
        amount_minor=event.amount_minor,
        reference=event.reference,
        gateway_account=event.gateway_account,
        gateway=taken.gateway,
        gateway_payment_id=taken.gateway_payment_id,
        payment_saga_id=event.payment_saga_id,
    )


def to_refund(event: RefundReserved, step: str) -> RefundGateway:
    """Read what is to be refunded."""
    return RefundGateway(
        saga_id=event.saga_id,
        step=step,
        refund_id=event.refund_id,
        payment_id=event.payment_id,
        currency=event.currency,
        amount_minor=event.refund_minor,
    )


def refunded(
    event: RefundReserved, settlement: Settlement, envelope: Envelope
) -> GatewayRefunded | GatewayRefundFailed:
    """Return the event of a refund."""
    if not settlement.is_done:
        refused = Refused.of(settlement.proof.detail)
        return GatewayRefundFailed(
            **envelope,
            refund_id=event.refund_id,
            payment_id=event.payment_id,
            merchant_id=event.merchant_id,
            is_live=event.is_live,
            reason=refused.reason,
            detail=refused.text or NO_TEXT,
        )
    return GatewayRefunded(
        **envelope,
        refund_id=event.refund_id,
        payment_id=event.payment_id,
        merchant_id=event.merchant_id,
        is_live=event.is_live,
        currency=event.currency,
        refund_minor=event.refund_minor,
        gateway_account=event.gateway_account,
        payment_saga_id=event.payment_saga_id,
        gateway=_taken(settlement).gateway,
        gateway_refund_id=settlement.proof.reference or "",
    )


def _taken(settlement: Settlement) -> Taken:
    """Return what a success says; a restored service that no gateway answered knows no more than that it succeeded."""
    found = Taken.of(settlement.proof.detail)
    return found or Taken(gateway="", gateway_payment_id="", amount_minor=0, currency="")


AUTHORIZATION = SagaTrigger(
    saga="payment",
    versions=(1,),
    on=BalanceReserved,
    read=to_authorize,
    publish=authorized,
    succeeds_with=GatewayAuthorized,
    rejected_with=GatewayDeclined,
)
CAPTURE = SagaTrigger(
    saga="payment",
    versions=(1,),
    on=GatewayAuthorized,
    read=to_capture,
    publish=captured,
    succeeds_with=GatewayCaptured,
    rejected_with=GatewayCaptureFailed,
)
CAPTURE_LATER = SagaTrigger(
    saga="capture_later",
    versions=(1,),
    on=CaptureRequested,
    read=to_capture_later,
    publish=captured_later,
    succeeds_with=LateCaptured,
    rejected_with=LateCaptureFailed,
)
VOID = SagaTrigger(
    saga="void_payment",
    versions=(1,),
    on=VoidRequested,
    read=to_void,
    publish=voided,
    succeeds_with=GatewayVoided,
    rejected_with=GatewayVoidFailed,
)
REFUND = SagaTrigger(
    saga="refund",
    versions=(1,),
    on=RefundReserved,
    read=to_refund,
    publish=refunded,
    succeeds_with=GatewayRefunded,
    rejected_with=GatewayRefundFailed,
)
