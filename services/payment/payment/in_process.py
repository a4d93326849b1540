"""A gateway inside of the process, for benchmarks: its records are rows that commit with the effects they belong to.

Nothing is called, so no step of it needs ``STARTED``. It must never be what takes real money: whoever can write
payment's database can write its gateway's records as well.
"""

from __future__ import annotations

from typing import TypeAlias

from chassis.saga.beside import Beside, loading, saving
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
from payment.tables import GatewayRecords, load_nothing, load_payments, save_gateway_records, save_payments

URL = "in-process:"
"""The gateway's address that asks for this one."""
DECLINED_TOKENS = frozenset({"tok_declined", "tok_insufficient_funds"})

Rows: TypeAlias = Beside[Payments, GatewayRecords]
load_new = loading(load_nothing, GatewayRecords)
load = loading(load_payments, GatewayRecords)
save = saving(save_payments, save_gateway_records)


def authorize(event: OrderSubmitted, rows: Rows, envelope: Envelope) -> PaymentAuthorized | PaymentDeclined:
    """Hold the amount, unless the token is one of those that are declined."""
    if event.payment_token in DECLINED_TOKENS:
        declined = Declined(reason=event.payment_token.removeprefix("tok_"), detail="The card issuer declined.")
        return domain.authorize(event, declined, rows.own, envelope)
    authorization_id = f"auth_{envelope['message_id']}"
    rows.notes.authorized.append((authorization_id, event.saga_id, event.payable_minor))
    return domain.authorize(event, Authorized(authorization_id=authorization_id), rows.own, envelope)


def capture(event: ShipmentBooked, rows: Rows, envelope: Envelope) -> PaymentCaptured | PaymentCaptureFailed:
    """Settle the amount that is held."""
    payment = rows.own.of(event.saga_id)
    rows.notes.captured.append((payment.authorization_id or "", payment.amount_minor))
    outcome = Captured(capture_id=f"cap_{envelope['message_id']}", amount_minor=payment.amount_minor)
    return domain.capture(event, outcome, rows.own, envelope)


def refund(command: RefundPayment, undoes: bool, rows: Rows, envelope: Envelope) -> PaymentRefunded:
    """Void what is held, or pay back what was captured."""
    if not undoes:
        return domain.refund(command, None, rows.own, envelope)
    payment = rows.own.of(command.saga_id)
    outcome: Voided | Refunded = Voided(amount_minor=payment.amount_minor)
    if payment.capture_id is None:
        rows.notes.voided.append(payment.authorization_id or "")
    else:
        rows.notes.refunded.append((payment.authorization_id or "", payment.amount_minor))
        outcome = Refunded(refund_id=f"ref_{envelope['message_id']}", amount_minor=payment.amount_minor)
    return domain.refund(command, outcome, rows.own, envelope)


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
