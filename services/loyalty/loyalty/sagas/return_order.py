"""The return saga: the points that paid a part of its pieces are given back once the card has its part."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from loyalty.domain import Credit, CreditPoints
from messages.contract import Envelope
from messages.loyalty import ReturnPointsCredited
from messages.payment import ReturnRefunded


def to_credit(event: ReturnRefunded, step: str) -> CreditPoints:
    """Read the points that go back to the order's customer."""
    return CreditPoints(
        saga_id=event.saga_id,
        step=step,
        order_id=event.order_id,
        customer_id=event.customer_id,
        points=event.points,
    )


def credited(event: ReturnRefunded, _outcome: Credit, envelope: Envelope) -> ReturnPointsCredited:
    """Return the event of a credit."""
    return ReturnPointsCredited(
        **envelope,
        order_id=event.order_id,
        currency=event.currency,
        refund_minor=event.refund_minor,
        points_minor=event.points_minor,
        points=event.points,
    )


CREDIT = SagaTrigger(
    saga="return_order",
    versions=(1,),
    on=ReturnRefunded,
    read=to_credit,
    publish=credited,
    succeeds_with=ReturnPointsCredited,
)
