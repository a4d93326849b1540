"""The return saga: a part of its order's payment is refunded once its parcel has arrived."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.inventory import InventoryRestocked
from messages.payment import ReturnRefunded
from payment.domain import NothingToRefund, RefundPart
from payment.gateway import Refunded
from payment.sagas.order import AUTHORIZE_PAYMENT

NO_REFUND = ""
"""The number of the refund where there was nothing to refund."""


def to_refund(event: InventoryRestocked, step: str) -> RefundPart:
    """Read how much of which order's payment goes back to the card. An order's id is the id of its saga."""
    return RefundPart(
        saga_id=event.saga_id,
        step=step,
        order_id=event.order_id,
        paid_by=AUTHORIZE_PAYMENT,
        amount_minor=event.refund_minor,
        currency=event.currency,
    )


def refunded(event: InventoryRestocked, outcome: Refunded | NothingToRefund, envelope: Envelope) -> ReturnRefunded:
    """Return the event of a refund."""
    return ReturnRefunded(
        **envelope,
        order_id=event.order_id,
        customer_id=event.customer_id,
        currency=event.currency,
        refund_id=outcome.refund_id if isinstance(outcome, Refunded) else NO_REFUND,
        refund_minor=event.refund_minor,
        points_minor=event.points_minor,
        points=event.points,
    )


REFUND = SagaTrigger(
    saga="return_order",
    versions=(1,),
    on=InventoryRestocked,
    read=to_refund,
    publish=refunded,
    succeeds_with=ReturnRefunded,
)
