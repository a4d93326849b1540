"""Payment's steps with the gateway inside of the process: its records commit with the effects that they belong to.

Nothing is called, so no step needs ``STARTED``.
"""

from __future__ import annotations

from typing import TypeAlias

from bench_providers.gateway.tables import GatewayRecords, save_gateway_records
from bench_providers.records import WithRecords, loading, saving
from chassis.saga.steps import Compensation, Handler, Step
from messages.checkout import OrderSubmitted
from messages.contract import Envelope
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
from payment.domain import Payments
from payment.gateway import Authorized, Captured, Declined, Refunded, Voided
from payment.tables import load_nothing, load_payments, save_payments

DECLINED_TOKENS = frozenset({"tok_declined", "tok_insufficient_funds"})

Touched: TypeAlias = WithRecords[Payments, GatewayRecords]
load_new = loading(load_nothing, GatewayRecords)
load = loading(load_payments, GatewayRecords)
save = saving(save_payments, save_gateway_records)


def authorize(event: OrderSubmitted, touched: Touched, envelope: Envelope) -> PaymentAuthorized | PaymentDeclined:
    """Authorize the amount, unless the token is one of those that are declined."""
    if event.payment_token in DECLINED_TOKENS:
        declined = Declined(reason=event.payment_token.removeprefix("tok_"), detail="The card issuer declined.")
        return domain.authorize(event, declined, touched.rows, envelope)
    authorization_id = f"auth_{envelope['message_id']}"
    touched.records.authorized.append((authorization_id, event.saga_id, event.payable_minor))
    return domain.authorize(event, Authorized(authorization_id=authorization_id), touched.rows, envelope)


def capture(event: ShipmentBooked, touched: Touched, envelope: Envelope) -> PaymentCaptured | PaymentCaptureFailed:
    """Capture the authorized amount."""
    payment = touched.rows.of(event.saga_id)
    touched.records.captured.append((payment.authorization_id or "", payment.amount_minor))
    outcome = Captured(capture_id=f"cap_{envelope['message_id']}", amount_minor=payment.amount_minor)
    return domain.capture(event, outcome, touched.rows, envelope)


def refund(command: RefundPayment, undoes: bool, touched: Touched, envelope: Envelope) -> PaymentRefunded:
    """Void an open authorization, or refund its capture."""
    if not undoes:
        return domain.refund(command, None, touched.rows, envelope)
    payment = touched.rows.of(command.saga_id)
    outcome: Voided | Refunded = Voided(amount_minor=payment.amount_minor)
    if payment.capture_id is None:
        touched.records.voided.append(payment.authorization_id or "")
    else:
        touched.records.refunded.append((payment.authorization_id or "", payment.amount_minor))
        outcome = Refunded(refund_id=f"ref_{envelope['message_id']}", amount_minor=payment.amount_minor)
    return domain.refund(command, outcome, touched.rows, envelope)


HANDLERS: tuple[Handler, ...] = (
    Step(
        name="authorize_payment",
        on=OrderSubmitted,
        load=load_new,
        decide=authorize,
        save=save,
        succeeds_with=PaymentAuthorized,
        rejected_with=PaymentDeclined,
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
        on=ShipmentBooked,
        load=load,
        decide=capture,
        save=save,
        succeeds_with=PaymentCaptured,
        rejected_with=PaymentCaptureFailed,
        compensation=None,
    ),
)
