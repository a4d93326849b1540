"""Inventory's handlers."""

from __future__ import annotations

from chassis.saga.steps import Compensation, Handler, Step
from inventory.domain import release, reserve
from inventory.tables import load_reservations, load_stock, lock_stock, save_stock
from messages.inventory import InventoryRejected, InventoryReleased, InventoryReserved, ReleaseInventory
from messages.payment import PaymentAuthorized

HANDLERS: tuple[Handler, ...] = (
    Step(
        name="reserve_inventory",
        on=PaymentAuthorized,
        load=load_stock,
        decide=reserve,
        save=save_stock,
        succeeds_with=InventoryReserved,
        rejected_with=InventoryRejected,
        lock=lock_stock,
        compensation=Compensation(
            on=ReleaseInventory,
            undoes=("reserve_inventory",),
            load=load_reservations,
            decide=release,
            save=save_stock,
            replies=(InventoryReleased,),
            lock=lock_stock,
        ),
    ),
)
