"""The return saga: the pieces of its parcel that can be sold again are put back when the parcel has arrived."""

from __future__ import annotations

from chassis.saga.triggers import SagaTrigger
from inventory.domain import Restock, RestockInventory
from messages.contract import Envelope
from messages.inventory import InventoryRestocked
from messages.shipping import ParcelArrived


def to_restock(event: ParcelArrived, step: str) -> RestockInventory:
    """Read the good pieces. A lost parcel has none, and damaged ones are not sold again."""
    lines = tuple((line.sku, line.good) for line in event.received)
    return RestockInventory(saga_id=event.saga_id, step=step, lines=lines)


def restocked(event: ParcelArrived, outcome: Restock, envelope: Envelope) -> InventoryRestocked:
    """Return the event of a restock."""
    return InventoryRestocked(
        **envelope,
        order_id=event.order_id,
        customer_id=event.customer_id,
        currency=event.currency,
        units=sum(outcome.units.values()),
        refund_minor=event.refund_minor,
        points_minor=event.points_minor,
        points=event.points,
    )


RESTOCK = SagaTrigger(
    saga="return_order",
    versions=(1,),
    on=ParcelArrived,
    read=to_restock,
    publish=restocked,
    succeeds_with=InventoryRestocked,
)
