"""Payment's steps with the gateway inside of the process: its records commit with the effects that they belong to.

Nothing is called, so no step needs ``STARTED``.
"""

from __future__ import annotations

from typing import TypeAlias

from bench_providers.gateway.tables import GatewayRecords, save_gateway_records
from bench_providers.records import WithRecords, loading, saving
from chassis.saga.steps import Compensation, Handler, Step
from messages.contract import Envelope
from messages.payment import PaymentRefunded, RefundPayment
from payment import domain
from payment.domain import AuthorizePayment, CapturePayment, NothingToRefund, Payments, RefundPart
from payment.gateway import Authorized, Captured, Declined, PartialRefund, Refunded, Voided
from payment.sagas import order, return_order
from payment.tables import load_nothing, load_order_payments, load_payments, save_payments

DECLINED_TOKENS = frozenset({"tok_declined", "tok_insufficient_funds"})

Touched: TypeAlias = WithRecords[Payments, GatewayRecords]
load_new = loading(load_nothing, GatewayRecords)
load = loading(load_payments, GatewayRecords)
load_orders = loading(load_order_payments, GatewayRecords)
save = saving(save_payments, save_gateway_records)


def authorize(request: AuthorizePayment, touched: Touched, envelope: Envelope) -> Authorized | Declined:
    """Authorize the amount, unless the token is one of those that are declined."""
    outcome: Authorized | Declined
    if request.token in DECLINED_TOKENS:
        outcome = Declined(reason=request.token.removeprefix("tok_"), detail="The card issuer declined.")
    else:
        outcome = Authorized(authorization_id=f"auth_{envelope['message_id']}")
        touched.records.authorized.append((outcome.authorization_id, request.reference, request.amount_minor))
    domain.authorize(request, outcome, touched.rows)
    return outcome


def capture(request: CapturePayment, touched: Touched, envelope: Envelope) -> Captured:
    """Capture the authorized amount."""
    payment = touched.rows.of(request.payment)
    touched.records.captured.append((payment.authorization_id or "", payment.amount_minor))
    outcome = Captured(capture_id=f"cap_{envelope['message_id']}", amount_minor=payment.amount_minor)
    domain.capture(request, outcome, touched.rows)
    return outcome


def refund(command: RefundPayment, undoes: bool, touched: Touched, envelope: Envelope) -> PaymentRefunded:
    """Void an open authorization, or refund its capture."""
    if not undoes:
        return domain.refund(command, None, touched.rows, envelope)
    payment = touched.rows.of((command.saga_id, command.step))
    outcome: Voided | Refunded = Voided(amount_minor=payment.amount_minor)
    if payment.capture_id is None:
        touched.records.voided.append(payment.authorization_id or "")
    else:
        touched.records.refunded.append((payment.authorization_id or "", payment.amount_minor))
        outcome = Refunded(refund_id=f"ref_{envelope['message_id']}", amount_minor=payment.amount_minor)
    return domain.refund(command, outcome, touched.rows, envelope)


def refund_part(request: RefundPart, touched: Touched, envelope: Envelope) -> Refunded | NothingToRefund:
    """Refund a part of the capture."""
    part = domain.part_to_refund(request, touched.rows)
    outcome: Refunded | NothingToRefund = NothingToRefund()
    if isinstance(part, PartialRefund):
        authorization_id = touched.rows.of(request.payment).authorization_id or ""
        touched.records.refunded.append((authorization_id, part.amount_minor))
        outcome = Refunded(refund_id=f"ref_{envelope['message_id']}", amount_minor=part.amount_minor)
    domain.refund_part(request, outcome, touched.rows)
    return outcome


HANDLERS: tuple[Handler, ...] = (
    Step(
        name="authorize_payment",
        triggers=(order.AUTHORIZATION,),
        load=load_new,
        decide=authorize,
        save=save,
        compensation=Compensation(
            on=RefundPayment,
            undoes=("authorize_payment", "capture_payment"),
            load=load,
            decide=refund,
            save=save,
            replies=(PaymentRefunded,),
        ),
    ),
    Step(
        name="capture_payment",
        triggers=(order.CAPTURE,),
        load=load,
        decide=capture,
        save=save,
        compensation=None,
    ),
    Step(
        name="refund_payment",
        triggers=(return_order.REFUND,),
        load=load_orders,
        decide=refund_part,
        save=save,
        compensation=None,
    ),
)
