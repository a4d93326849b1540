"""Inventory's decisions: whether lines can be reserved, and what a release or a return puts back. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from chassis.saga.triggers import StepKey, StepRequest
from messages.contract import Envelope
from messages.inventory import InventoryReleased, ReleaseInventory

OUT_OF_STOCK = "out_of_stock"
"""The reason of a rejection."""


class ReservationState(enum.StrEnum):
    """The state of a reservation: it holds stock, or has returned it."""

    RESERVED = "RESERVED"
    RELEASED = "RELEASED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveInventory(StepRequest):
    """Reserve all lines or none; each is a SKU and its quantity."""

    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestockInventory(StepRequest):
    """Put pieces back that can be sold again; each line is a SKU and its units, which may be none."""

    lines: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """The first SKU of which more is wanted than is available."""

    sku: str
    requested: int
    available: int


@dataclass(slots=True, kw_only=True)
class Reservation:
    """The units by SKU that one step of a saga has reserved."""

    saga_id: str
    step: str
    quantities: dict[str, int]
    state: ReservationState = ReservationState.RESERVED

    @property
    def key(self) -> StepKey:
        """The saga and the step that made it."""
        return self.saga_id, self.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Restock:
    """The units by SKU that one step of a saga has put back."""

    saga_id: str
    step: str
    units: dict[str, int]

    @property
    def key(self) -> StepKey:
        """The saga and the step that made it."""
        return self.saga_id, self.step


@dataclass(slots=True)
class Stock:
    """The stock and the reservations that a batch touches, changed in memory; ``moved`` is what to add to each SKU."""

    on_hand: dict[str, int]
    reservations: dict[StepKey, Reservation] = field(default_factory=dict)
    moved: Counter[str] = field(default_factory=Counter)
    made: list[Reservation] = field(default_factory=list)
    released: list[Reservation] = field(default_factory=list)
    restocked: list[Restock] = field(default_factory=list)

    def available(self, sku: str) -> int:
        """Return the free units of the SKU, after the changes of this batch so far."""
        return self.on_hand.get(sku, 0) + self.moved[sku]

    def reserve(self, request: ReserveInventory, quantities: dict[str, int]) -> Reservation:
        """Reserve the units for one step."""
        self.moved.subtract(quantities)
        reservation = Reservation(saga_id=request.saga_id, step=request.step, quantities=quantities)
        self.made.append(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Return the units of one reservation to the stock."""
        self.moved.update(reservation.quantities)
        reservation.state = ReservationState.RELEASED
        self.released.append(reservation)

    def restock(self, request: RestockInventory, units: dict[str, int]) -> Restock:
        """Put units back for one step."""
        self.moved.update(units)
        restock = Restock(saga_id=request.saga_id, step=request.step, units=units)
        self.restocked.append(restock)
        return restock


def reserve(request: ReserveInventory, stock: Stock, _envelope: Envelope) -> Reservation | Shortage:
    """Reserve all lines or none. A shortage names the first SKU that is short."""
    wanted: Counter[str] = Counter()
    for sku, quantity in request.lines:
        wanted[sku] += quantity
    for sku, quantity in wanted.items():
        available = stock.available(sku)
        if available < quantity:
            return Shortage(sku=sku, requested=quantity, available=available)
    return stock.reserve(request, dict(wanted))


def release(command: ReleaseInventory, undo: bool, stock: Stock, envelope: Envelope) -> InventoryReleased:
    """Release the reservation of this step. Without ``undo`` there is none, or it is released already."""
    if undo:
        stock.release(stock.reservations[command.saga_id, command.step])
    return InventoryReleased(**envelope, step=command.step, undone=undo)


def restock(request: RestockInventory, stock: Stock, _envelope: Envelope) -> Restock:
    """Put back what can be sold again. A return without such pieces puts nothing back."""
    units: Counter[str] = Counter()
    for sku, good in request.lines:
        units[sku] += good
    return stock.restock(request, {sku: good for sku, good in units.items() if good})
