"""Payment's handlers: three calls to the gateway, each guarded by its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Call, ExternalCompensation, ExternalStep, Handler
from messages.checkout import OrderSubmitted
from messages.payment import (
    PaymentAuthorized,
    PaymentCaptured,
    PaymentCaptureFailed,
    PaymentDeclined,
    PaymentRefunded,
    RefundPayment,
)
from messages.shipping import ShipmentBooked
from payment import domain
from payment.gateway import Authorization, Capture, PaymentGateway, Undo
from payment.tables import load_nothing, load_payments, save_payments


def authorizations(events: Sequence[OrderSubmitted], _tx: Connection) -> Mapping[str, Authorization]:
    """Return the authorizations to request, by saga id."""
    return {
        event.saga_id: Authorization(
            amount_minor=event.payable_minor,
            currency=event.currency,
            token=event.payment_token,
            reference=event.saga_id,
        )
        for event in events
    }


def captures(events: Sequence[ShipmentBooked], tx: Connection) -> Mapping[str, Capture]:
    """Return the captures to request, by saga id."""
    payments = load_payments(events, tx)
    return {
        event.saga_id: Capture(
            authorization_id=payments.of(event.saga_id).authorization_id or "",
            amount_minor=payments.of(event.saga_id).amount_minor,
        )
        for event in events
    }


def undos(commands: Sequence[RefundPayment], tx: Connection) -> Mapping[str, Undo]:
    """Return the charges to undo, by saga id."""
    payments = load_payments(commands, tx)
    return {
        command.saga_id: Undo(
            authorization_id=payments.of(command.saga_id).authorization_id or "",
            capture_id=payments.of(command.saga_id).capture_id,
            amount_minor=payments.of(command.saga_id).amount_minor,
        )
        for command in commands
    }


def handlers(gateway: PaymentGateway) -> tuple[Handler, ...]:
    """Return payment's handlers. They call this gateway."""
    return (
        ExternalStep(
            name="authorize_payment",
            on=OrderSubmitted,
            call=Call(prepare=authorizations, run=gateway.authorize, find=gateway.find_authorization),
            load=load_nothing,
            decide=domain.authorize,
            save=save_payments,
            succeeds_with=PaymentAuthorized,
            rejected_with=PaymentDeclined,
            compensation=ExternalCompensation(
                on=RefundPayment,
                undoes=("authorize_payment", "capture_payment"),
                call=Call(prepare=undos, run=gateway.undo, find=gateway.find_undo),
                load=load_payments,
                decide=domain.refund,
                save=save_payments,
                replies=(PaymentRefunded,),
            ),
        ),
        ExternalStep(
            name="capture_payment",
            on=ShipmentBooked,
            call=Call(prepare=captures, run=gateway.capture, find=gateway.find_capture),
            load=load_payments,
            decide=domain.capture,
            save=save_payments,
            succeeds_with=PaymentCaptured,
            rejected_with=PaymentCaptureFailed,
            compensation=None,
        ),
    )
