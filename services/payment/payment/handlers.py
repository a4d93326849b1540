"""Payment's handlers: three calls to the gateway, each guarded by its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Call, ExternalCompensation, ExternalStep, Handler
from messages.payment import PaymentRefunded, RefundPayment
from payment import domain
from payment.domain import AuthorizePayment, CapturePayment
from payment.gateway import Authorization, Capture, PaymentGateway, Undo
from payment.sagas import order
from payment.tables import load_nothing, load_payments, save_payments


def authorizations(requests: Sequence[AuthorizePayment], _tx: Connection) -> Mapping[str, Authorization]:
    """Return the authorizations to request, by saga id."""
    return {
        request.saga_id: Authorization(
            amount_minor=request.amount_minor,
            currency=request.currency,
            token=request.token,
            reference=request.reference,
        )
        for request in requests
    }


def captures(requests: Sequence[CapturePayment], tx: Connection) -> Mapping[str, Capture]:
    """Return the captures to request, by saga id."""
    payments = load_payments(requests, tx)
    return {
        request.saga_id: Capture(
            authorization_id=payments.of(request.payment).authorization_id or "",
            amount_minor=payments.of(request.payment).amount_minor,
        )
        for request in requests
    }


def undos(commands: Sequence[RefundPayment], tx: Connection) -> Mapping[str, Undo]:
    """Return the charges to undo, by saga id."""
    payments = load_payments(commands, tx)
    found = {command.saga_id: payments.of((command.saga_id, command.step)) for command in commands}
    return {
        saga_id: Undo(
            authorization_id=payment.authorization_id or "",
            capture_id=payment.capture_id,
            amount_minor=payment.amount_minor,
        )
        for saga_id, payment in found.items()
    }


def handlers(gateway: PaymentGateway) -> tuple[Handler, ...]:
    """Return payment's handlers. They call this gateway."""
    return (
        ExternalStep(
            name="authorize_payment",
            triggers=(order.AUTHORIZATION,),
            call=Call(prepare=authorizations, run=gateway.authorize, find=gateway.find_authorization),
            load=load_nothing,
            record=domain.authorize,
            save=save_payments,
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
            triggers=(order.CAPTURE,),
            call=Call(prepare=captures, run=gateway.capture, find=gateway.find_capture),
            load=load_payments,
            record=domain.capture,
            save=save_payments,
            compensation=None,
        ),
    )
