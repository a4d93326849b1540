"""The return saga: a parcel is collected once its return is approved."""

from __future__ import annotations

from chassis.saga.answers import Settlement
from chassis.saga.triggers import SagaTrigger
from messages.checkout import ReturnApproved
from messages.contract import Envelope
from messages.shipping import ParcelArrived, ParcelNotCollected
from shipping.parcels import Approved, CollectParcel, NotCollected, outcome_of


def to_collect(event: ReturnApproved, step: str) -> CollectParcel:
    """Read what is collected, and where."""
    return CollectParcel(
        saga_id=event.saga_id,
        step=step,
        reference=event.saga_id,
        order_id=event.order_id,
        collect_from=event.collect_from,
        approved=approved_by(event),
    )


def approved_by(event: ReturnApproved) -> Approved:
    """Read the pieces of a return, and the amounts if all of them arrive."""
    return Approved(
        lines=event.lines, refund_minor=event.refund_minor, points_minor=event.points_minor, points=event.points
    )


def ended(event: ReturnApproved, settlement: Settlement, envelope: Envelope) -> ParcelArrived | ParcelNotCollected:
    """Return the event of a collection's end."""
    outcome = outcome_of(approved_by(event), settlement)
    if isinstance(outcome, NotCollected):
        return ParcelNotCollected(**envelope, reason=outcome.reason, detail=outcome.detail)
    return ParcelArrived(
        **envelope,
        order_id=event.order_id,
        customer_id=event.customer_id,
        currency=event.currency,
        collection_id=outcome.collection_id,
        is_lost=outcome.is_lost,
        received=outcome.received,
        refund_minor=outcome.refund_minor,
        points_minor=outcome.points_minor,
        points=outcome.points,
    )


COLLECTION = SagaTrigger(
    saga="return_order",
    versions=(1,),
    on=ReturnApproved,
    read=to_collect,
    publish=ended,
    succeeds_with=ParcelArrived,
    rejected_with=ParcelNotCollected,
)
