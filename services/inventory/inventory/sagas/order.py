"""The order saga: its lines are reserved once its payment is authorized."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from inventory.domain import OUT_OF_STOCK, Reservation, ReserveInventory, Shortage
from messages.contract import Envelope
from messages.inventory import InventoryRejected, InventoryReserved
from messages.payment import PaymentAuthorized


def to_reserve(event: PaymentAuthorized, step: str) -> ReserveInventory:
    """Read the order's lines."""
    lines = tuple((line.sku, line.quantity) for line in event.lines)
    return ReserveInventory(saga_id=event.saga_id, step=step, lines=lines)


def reserved(
    event: PaymentAuthorized, outcome: Reservation | Shortage, envelope: Envelope
) -> InventoryReserved | InventoryRejected:
    """Return the event of a reservation."""
    if isinstance(outcome, Shortage):
        return InventoryRejected(
            **envelope,
            reason=OUT_OF_STOCK,
            detail=f"{outcome.requested} of {outcome.sku} were ordered, {outcome.available} are available.",
            sku=outcome.sku,
            requested=outcome.requested,
            available=outcome.available,
        )
    return InventoryReserved(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        lines=event.lines,
        points_to_burn=event.points_to_burn,
        payable_minor=event.payable_minor,
        ship_to=event.ship_to,
    )


RESERVATION = SagaTrigger(
    saga="order",
    versions=(1,),
    on=PaymentAuthorized,
    read=to_reserve,
    publish=reserved,
    succeeds_with=InventoryReserved,
    rejected_with=InventoryRejected,
)
