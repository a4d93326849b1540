"""The order saga: the points that its customer redeems are burned once its lines are reserved."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from loyalty.domain import INSUFFICIENT_POINTS, Burn, BurnPoints, Shortage
from messages.contract import Envelope
from messages.inventory import InventoryReserved
from messages.loyalty import LoyaltyPointsBurned, LoyaltyPointsRejected


def to_burn(event: InventoryReserved, step: str) -> BurnPoints:
    """Read the points that the customer redeems."""
    return BurnPoints(saga_id=event.saga_id, step=step, customer_id=event.customer_id, points=event.points_to_burn)


def burned(
    event: InventoryReserved, outcome: Burn | Shortage, envelope: Envelope
) -> LoyaltyPointsBurned | LoyaltyPointsRejected:
    """Return the event of a burn."""
    if isinstance(outcome, Shortage):
        return LoyaltyPointsRejected(
            **envelope,
            reason=INSUFFICIENT_POINTS,
            detail=f"{outcome.requested} points were to be burned, the account holds {outcome.available}.",
            requested=outcome.requested,
            available=outcome.available,
        )
    return LoyaltyPointsBurned(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        lines=event.lines,
        points_to_burn=event.points_to_burn,
        payable_minor=event.payable_minor,
        ship_to=event.ship_to,
    )


BURN = SagaTrigger(
    saga="order",
    versions=(1,),
    on=InventoryReserved,
    read=to_burn,
    publish=burned,
    succeeds_with=LoyaltyPointsBurned,
    rejected_with=LoyaltyPointsRejected,
)
