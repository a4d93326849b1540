"""Shipping's handlers: two calls to the courier, each guarded by its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Call, ExternalCompensation, ExternalStep, Handler
from messages.loyalty import LoyaltyPointsBurned
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from shipping import domain
from shipping.courier import Booking, Courier
from shipping.tables import load_nothing, load_shipments, save_shipments


def bookings(events: Sequence[LoyaltyPointsBurned], _tx: Connection) -> Mapping[str, Booking]:
    """Return the bookings to request, by saga id."""
    return {
        event.saga_id: Booking(reference=event.saga_id, ship_to=event.ship_to, lines=event.lines) for event in events
    }


def tracking_numbers(commands: Sequence[CancelShipment], tx: Connection) -> Mapping[str, str]:
    """Return the tracking numbers of the shipments to cancel, by saga id."""
    found = load_shipments(commands, tx).found
    return {command.saga_id: found[command.saga_id].tracking_number or "" for command in commands}


def handlers(courier: Courier) -> tuple[Handler, ...]:
    """Return shipping's handlers. They call this courier."""
    return (
        ExternalStep(
            name="book_shipment",
            on=LoyaltyPointsBurned,
            call=Call(prepare=bookings, run=courier.book, find=courier.find_booking),
            load=load_nothing,
            decide=domain.book,
            save=save_shipments,
            succeeds_with=ShipmentBooked,
            rejected_with=ShipmentRejected,
            compensation=ExternalCompensation(
                on=CancelShipment,
                undoes=("book_shipment",),
                call=Call(prepare=tracking_numbers, run=courier.cancel, find=courier.find_cancellation),
                load=load_shipments,
                decide=domain.cancel,
                save=save_shipments,
                replies=(ShipmentCancelled,),
            ),
        ),
    )
