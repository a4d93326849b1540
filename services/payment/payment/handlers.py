"""Payment's handlers: four calls to the gateway, each guarded by its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Call, ExternalCompensation, ExternalStep, Handler, NoCall
from messages.payment import PaymentRefunded, RefundPayment
from payment import domain
from payment.domain import AuthorizePayment, CapturePayment, NothingToRefund, RefundPart
from payment.gateway import Authorization, Capture, PartialRefund, PaymentGateway, Refunded, Undo
from payment.sagas import order, return_order
from payment.tables import load_nothing, load_order_payments, load_payments, save_payments


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


def partial_refunds(
    requests: Sequence[RefundPart], tx: Connection
) -> Mapping[str, PartialRefund | NoCall[Refunded | NothingToRefund]]:
    """Return the parts to refund, by saga id."""
    payments = load_order_payments(requests, tx)
    wanted = {request.saga_id: domain.part_to_refund(request, payments) for request in requests}
    return {saga_id: NoCall(part) if isinstance(part, NothingToRefund) else part for saga_id, part in wanted.items()}


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
        ExternalStep(
            name="refund_payment",
            triggers=(return_order.REFUND,),
            call=Call(prepare=partial_refunds, run=gateway.refund, find=gateway.find_refund),
            load=load_nothing,
            record=domain.refund_part,
            save=save_payments,
            compensation=None,
        ),
    )
