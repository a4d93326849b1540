"""The order saga: its shipment is booked once its points are burned."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.loyalty import LoyaltyPointsBurned
from messages.shipping import ShipmentBooked, ShipmentRejected
from shipping.courier import Booked, Rejected
from shipping.domain import BookShipment


def to_book(event: LoyaltyPointsBurned, step: str) -> BookShipment:
    """Read what is shipped, and where to."""
    return BookShipment(
        saga_id=event.saga_id, step=step, reference=event.saga_id, ship_to=event.ship_to, lines=event.lines
    )


def booked(
    event: LoyaltyPointsBurned, outcome: Booked | Rejected, envelope: Envelope
) -> ShipmentBooked | ShipmentRejected:
    """Return the event of a booking."""
    if isinstance(outcome, Rejected):
        return ShipmentRejected(**envelope, reason=outcome.reason, detail=outcome.detail)
    return ShipmentBooked(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        payable_minor=event.payable_minor,
        points_minor=points_minor(event),
        tracking_number=outcome.tracking_number,
    )


def points_minor(event: LoyaltyPointsBurned) -> int:
    """Return what an order's points pay: what its lines cost more than the card is charged."""
    return sum(line.quantity * line.unit_price_minor for line in event.lines) - event.payable_minor


BOOKING = SagaTrigger(
    saga="order",
    versions=(1,),
    on=LoyaltyPointsBurned,
    read=to_book,
    publish=booked,
    succeeds_with=ShipmentBooked,
    rejected_with=ShipmentRejected,
)
