"""The order saga: its total is authorized when the order is submitted, and captured when the shipment is booked."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from messages.checkout import OrderSubmitted
from messages.contract import Envelope
from messages.payment import PaymentAuthorized, PaymentCaptured, PaymentCaptureFailed, PaymentDeclined
from messages.shipping import ShipmentBooked
from payment.domain import AuthorizePayment, CapturePayment
from payment.gateway import Authorized, Captured, CaptureDeclined, Declined

AUTHORIZE_PAYMENT = "authorize_payment"


def to_authorize(event: OrderSubmitted, step: str) -> AuthorizePayment:
    """Read what the order's customer is to be charged."""
    return AuthorizePayment(
        saga_id=event.saga_id,
        step=step,
        amount_minor=event.payable_minor,
        currency=event.currency,
        token=event.payment_token,
        reference=event.saga_id,
    )


def authorized(
    event: OrderSubmitted, outcome: Authorized | Declined, envelope: Envelope
) -> PaymentAuthorized | PaymentDeclined:
    """Return the event of an authorization."""
    if isinstance(outcome, Declined):
        return PaymentDeclined(**envelope, reason=outcome.reason, detail=outcome.detail)
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


def to_capture(event: ShipmentBooked, step: str) -> CapturePayment:
    """Read which payment is to be captured."""
    return CapturePayment(saga_id=event.saga_id, step=step, authorized_by=AUTHORIZE_PAYMENT)


def captured(
    event: ShipmentBooked, outcome: Captured | CaptureDeclined, envelope: Envelope
) -> PaymentCaptured | PaymentCaptureFailed:
    """Return the event of a capture."""
    if isinstance(outcome, CaptureDeclined):
        return PaymentCaptureFailed(**envelope, reason=outcome.reason, detail=outcome.detail)
    return PaymentCaptured(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        amount_minor=outcome.amount_minor,
        points_minor=event.points_minor,
        capture_id=outcome.capture_id,
    )


AUTHORIZATION = SagaTrigger(
    saga="order",
    versions=(1,),
    on=OrderSubmitted,
    read=to_authorize,
    publish=authorized,
    succeeds_with=PaymentAuthorized,
    rejected_with=PaymentDeclined,
)
CAPTURE = SagaTrigger(
    saga="order",
    versions=(1,),
    on=ShipmentBooked,
    read=to_capture,
    publish=captured,
    succeeds_with=PaymentCaptured,
    rejected_with=PaymentCaptureFailed,
)
