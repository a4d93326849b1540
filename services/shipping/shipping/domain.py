"""Shipping's decisions on the courier's outcomes. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from chassis.saga.triggers import StepKey, StepRequest
from messages.checkout import Address, OrderLine
from messages.contract import Envelope
from messages.shipping import CancelShipment, ShipmentCancelled
from shipping.courier import Booked, Cancelled, Rejected


class ShipmentState(enum.StrEnum):
    """The state of a shipment."""

    BOOKED = "BOOKED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class BookShipment(StepRequest):
    """Ship these lines to this address. ``reference`` is the number by which the courier's records are reconciled."""

    reference: str
    ship_to: Address
    lines: tuple[OrderLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One shipment of a saga, booked by its step ``step``."""

    saga_id: str
    step: str
    state: ShipmentState
    tracking_number: str | None

    @property
    def key(self) -> StepKey:
        """The saga and the step that booked it."""
        return self.saga_id, self.step


@dataclass(slots=True)
class Shipments:
    """The shipments that a batch touches, changed in memory."""

    found: dict[StepKey, Shipment] = field(default_factory=dict)
    made: list[Shipment] = field(default_factory=list)
    changed: list[Shipment] = field(default_factory=list)


def book(request: BookShipment, outcome: Booked | Rejected, shipments: Shipments) -> None:
    """Record the outcome of the booking."""
    is_booked = isinstance(outcome, Booked)
    shipments.made.append(
        Shipment(
            saga_id=request.saga_id,
            step=request.step,
            state=ShipmentState.BOOKED if is_booked else ShipmentState.REJECTED,
            tracking_number=outcome.tracking_number if isinstance(outcome, Booked) else None,
        )
    )


def cancel(
    command: CancelShipment, outcome: Cancelled | None, shipments: Shipments, envelope: Envelope
) -> ShipmentCancelled:
    """Record the cancellation. Without an outcome there was nothing to cancel, or it is already cancelled."""
    if outcome is not None:
        shipments.changed.append(replace(shipments.found[command.saga_id, command.step], state=ShipmentState.CANCELLED))
    return ShipmentCancelled(**envelope, step=command.step, undone=outcome is not None)
