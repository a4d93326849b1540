"""Inventory's decisions: whether the lines of an order can be reserved, and what a release returns. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from messages.contract import Envelope
from messages.inventory import InventoryRejected, InventoryReleased, InventoryReserved, ReleaseInventory
from messages.payment import PaymentAuthorized


class ReservationState(enum.StrEnum):
    """The state of a reservation: it holds stock, or has returned it."""

    RESERVED = "RESERVED"
    RELEASED = "RELEASED"


@dataclass(slots=True)
class Reservation:
    """The units by SKU that are reserved for one order."""

    saga_id: str
    quantities: dict[str, int]
    state: ReservationState = ReservationState.RESERVED


@dataclass(slots=True)
class Stock:
    """The stock and the reservations that a batch touches, changed in memory; ``moved`` is what to add to each SKU."""

    on_hand: dict[str, int]
    reservations: dict[str, Reservation] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)
    made: list[Reservation] = field(default_factory=list)
    released: list[Reservation] = field(default_factory=list)

    def available(self, sku: str) -> int:
        """Return the free units of the SKU, after the changes of this batch so far."""
        return self.on_hand.get(sku, 0) + self.moved[sku]

    def reserve(self, saga_id: str, quantities: dict[str, int]) -> None:
        """Reserve the units for one order."""
        self.moved.subtract(quantities)
        self.made.append(Reservation(saga_id=saga_id, quantities=quantities))

    def release(self, reservation: Reservation) -> None:
        """Return the units of one reservation to the stock."""
        self.moved.update(reservation.quantities)
        reservation.state = ReservationState.RELEASED
        self.released.append(reservation)


def reserve(event: PaymentAuthorized, stock: Stock, envelope: Envelope) -> InventoryReserved | InventoryRejected:
    """Reserve all lines or none. The rejection names the first SKU that is short."""
    wanted: Counter[str] = Counter()
    for line in event.lines:
        wanted[line.sku] += line.quantity
    for sku, quantity in wanted.items():
        available = stock.available(sku)
        if available < quantity:
            return InventoryRejected(
                **envelope,
                reason="out_of_stock",
                detail=f"{quantity} of {sku} were ordered, {available} are available.",
                sku=sku,
                requested=quantity,
                available=available,
            )
    stock.reserve(event.saga_id, dict(wanted))
    return InventoryReserved(
        **envelope,
        customer_id=event.customer_id,
        currency=event.currency,
        lines=event.lines,
        points_to_burn=event.points_to_burn,
        payable_minor=event.payable_minor,
        ship_to=event.ship_to,
    )


def release(command: ReleaseInventory, undo: bool, stock: Stock, envelope: Envelope) -> InventoryReleased:
    """Release the order's reservation. Without ``undo`` there is nothing to release, or it is already released."""
    if undo:
        stock.release(stock.reservations[command.saga_id])
    return InventoryReleased(**envelope, step=command.step, undone=undo)
