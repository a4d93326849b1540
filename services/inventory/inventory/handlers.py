"""Inventory's handlers."""

from __future__ import annotations

from chassis.saga.steps import Compensation, Handler, Step
from inventory.domain import release, reserve, restock
from inventory.sagas import order, return_order
from inventory.tables import load_reservations, load_restocked, load_stock, lock_stock, save_stock
from messages.inventory import InventoryReleased, ReleaseInventory

HANDLERS: tuple[Handler, ...] = (
    Step(
        name="reserve_inventory",
        triggers=(order.RESERVATION,),
        load=load_stock,
        decide=reserve,
        save=save_stock,
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
    Step(
        name="restock_inventory",
        triggers=(return_order.RESTOCK,),
        load=load_restocked,
        decide=restock,
        save=save_stock,
        compensation=None,
        lock=lock_stock,
    ),
)
