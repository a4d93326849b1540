"""A courier inside of the process, for benchmarks: its records are rows that commit with the effects they belong to.

Nothing is called, so no step of it needs ``STARTED``.
"""

from __future__ import annotations

from typing import TypeAlias

from chassis.saga.beside import Beside, loading, saving
from chassis.saga.steps import Compensation, Handler, Step
from messages.contract import Envelope
from messages.loyalty import LoyaltyPointsBurned
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected

from shipping import domain
from shipping.courier import Booked, Cancelled, Rejected
from shipping.domain import Shipments
from shipping.tables import CourierRecords, load_nothing, load_shipments, save_courier_records, save_shipments

URL = "in-process:"
"""The courier's address that asks for this one."""
UNDELIVERABLE = "UNDELIVERABLE"
"""The postal code to which it does not deliver."""

Rows: TypeAlias = Beside[Shipments, CourierRecords]
load_new = loading(load_nothing, CourierRecords)
load = loading(load_shipments, CourierRecords)
save = saving(save_shipments, save_courier_records)


def book(event: LoyaltyPointsBurned, rows: Rows, envelope: Envelope) -> ShipmentBooked | ShipmentRejected:
    """Ship, unless the address is the one that nobody finds."""
    if event.ship_to.postal_code == UNDELIVERABLE:
        rejected = Rejected(reason="undeliverable_address", detail="The courier does not deliver to this address.")
        return domain.book(event, rejected, rows.own, envelope)
    tracking_number = f"BRZ{envelope['message_id']}"
    rows.notes.booked.append((tracking_number, event.saga_id))
    return domain.book(event, Booked(tracking_number=tracking_number), rows.own, envelope)


def cancel(command: CancelShipment, undoes: bool, rows: Rows, envelope: Envelope) -> ShipmentCancelled:
    """Do not ship after all."""
    if not undoes:
        return domain.cancel(command, None, rows.own, envelope)
    tracking_number = rows.own.found[command.saga_id].tracking_number or ""
    rows.notes.cancelled.append(tracking_number)
    return domain.cancel(command, Cancelled(tracking_number=tracking_number), rows.own, envelope)


HANDLERS: tuple[Handler, ...] = (
    Step(
        name="book_shipment",
        on=LoyaltyPointsBurned,
        load=load_new,
        decide=book,
        save=save,
        succeeds_with=ShipmentBooked,
        rejected_with=ShipmentRejected,
        compensation=Compensation(
            on=CancelShipment,
            undoes=("book_shipment",),
            load=load,
            decide=cancel,
            save=save,
            replies=(ShipmentCancelled,),
        ),
    ),
)
