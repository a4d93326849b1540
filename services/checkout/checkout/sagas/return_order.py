"""The return saga: what a customer wants to return is approved by the order that it was bought with."""

from __future__ import annotations

from collections import Counter
from typing import Final

from chassis.saga.triggers import SagaTrigger
from checkout.domain import PricedLine
from checkout.returns import Amounts, ApproveReturn, DecidedReturn, PublishedApproval, ReturnRefusal
from messages.checkout import OrderLine, ReturnApproved, ReturnRefused, ReturnRequested
from messages.contract import Envelope

SAGA_TYPE: Final = "return_order"
SAGA_VERSION: Final = 1
"""The version of the definition for new returns. Returns in flight keep their version."""


def to_approve(event: ReturnRequested, step: str) -> ApproveReturn:
    """Read what is to be returned, and when that was requested."""
    wanted: Counter[str] = Counter()
    for line in event.lines:
        wanted[line.sku] += line.quantity
    return ApproveReturn(
        saga_id=event.saga_id,
        step=step,
        order_id=event.order_id,
        lines=tuple(wanted.items()),
        reason=event.reason,
        requested_at=event.occurred_at,
    )


def approved(
    event: ReturnRequested, outcome: DecidedReturn | ReturnRefusal, envelope: Envelope
) -> ReturnApproved | ReturnRefused:
    """Return the event of a decision."""
    if isinstance(outcome, ReturnRefusal):
        return ReturnRefused(**envelope, reason=outcome.reason, detail=outcome.detail)
    order = outcome.order
    return ReturnApproved(
        **envelope,
        order_id=order.order_id,
        customer_id=order.customer_id,
        currency=order.currency,
        lines=tuple(
            OrderLine(sku=line.sku, quantity=line.quantity, unit_price_minor=line.unit_price_minor)
            for line in outcome.lines
        ),
        collect_from=event.collect_from,
        refund_minor=outcome.amounts.refund_minor,
        points_minor=outcome.amounts.points_minor,
        points=outcome.amounts.points,
    )


def published(event: ReturnApproved) -> PublishedApproval:
    """Read what was approved."""
    return PublishedApproval(
        lines=tuple(
            PricedLine(sku=line.sku, quantity=line.quantity, unit_price_minor=line.unit_price_minor)
            for line in event.lines
        ),
        amounts=Amounts(refund_minor=event.refund_minor, points_minor=event.points_minor, points=event.points),
        approved_at=event.occurred_at,
    )


APPROVAL = SagaTrigger(
    saga=SAGA_TYPE,
    versions=(SAGA_VERSION,),
    on=ReturnRequested,
    read=to_approve,
    publish=approved,
    succeeds_with=ReturnApproved,
    rejected_with=ReturnRefused,
    restore=published,
)
