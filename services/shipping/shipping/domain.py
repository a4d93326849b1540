"""Shipping's decisions on the courier's outcomes. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from messages.contract import Envelope
from messages.loyalty import LoyaltyPointsBurned
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from shipping.courier import Booked, Cancelled, Rejected


class ShipmentState(enum.StrEnum):
    """The state of an order's shipment."""

    BOOKED = "BOOKED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """One order's shipment."""

    saga_id: str
    state: ShipmentState
    tracking_number: str | None


@dataclass(slots=True)
class Shipments:
    """The shipments that a batch touches, changed in memory."""

    found: dict[str, Shipment] = field(default_factory=dict)
    made: list[Shipment] = field(default_factory=list)
    changed: list[Shipment] = field(default_factory=list)


def book(
    event: LoyaltyPointsBurned, outcome: Booked | Rejected, shipments: Shipments, envelope: Envelope
) -> ShipmentBooked | ShipmentRejected:
    """Record the outcome of the booking."""
    if isinstance(outcome, Rejected):
        shipments.made.append(Shipment(saga_id=event.saga_id, state=ShipmentState.REJECTED, tracking_number=None))
        return ShipmentRejected(**envelope, reason=outcome.reason, detail=outcome.detail)
    shipments.made.append(
        Shipment(saga_id=event.saga_id, state=ShipmentState.BOOKED, tracking_number=outcome.tracking_number)
    )
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


def cancel(
    command: CancelShipment, outcome: Cancelled | None, shipments: Shipments, envelope: Envelope
) -> ShipmentCancelled:
    """Record the cancellation. Without an outcome there was nothing to cancel, or it is already cancelled."""
    if outcome is not None:
        shipments.changed.append(replace(shipments.found[command.saga_id], state=ShipmentState.CANCELLED))
    return ShipmentCancelled(**envelope, step=command.step, undone=outcome is not None)
