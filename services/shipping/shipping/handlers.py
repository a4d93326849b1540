"""Shipping's handlers: two calls to the courier, each guarded by its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Call, ExternalCompensation, ExternalStep, Handler
from messages.shipping import CancelShipment, ShipmentCancelled
from shipping import domain
from shipping.courier import Booking, Courier
from shipping.domain import BookShipment
from shipping.sagas import order
from shipping.tables import load_nothing, load_shipments, save_shipments


def bookings(requests: Sequence[BookShipment], _tx: Connection) -> Mapping[str, Booking]:
    """Return the bookings to request, by saga id."""
    return {
        request.saga_id: Booking(reference=request.reference, ship_to=request.ship_to, lines=request.lines)
        for request in requests
    }


def tracking_numbers(commands: Sequence[CancelShipment], tx: Connection) -> Mapping[str, str]:
    """Return the tracking numbers of the shipments to cancel, by saga id."""
    found = load_shipments(commands, tx).found
    return {command.saga_id: found[command.saga_id, command.step].tracking_number or "" for command in commands}


def handlers(courier: Courier) -> tuple[Handler, ...]:
    """Return shipping's handlers. They call this courier."""
    return (
        ExternalStep(
            name="book_shipment",
            triggers=(order.BOOKING,),
            call=Call(prepare=bookings, run=courier.book, find=courier.find_booking),
            load=load_nothing,
            record=domain.book,
            save=save_shipments,
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
