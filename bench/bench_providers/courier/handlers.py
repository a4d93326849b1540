"""Shipping's steps with the courier inside of the process: its records commit with the effects that they belong to.

Nothing is called, so no step needs ``STARTED``.
"""

from __future__ import annotations

from typing import TypeAlias

from bench_providers.courier.tables import CourierRecords, save_courier_records
from bench_providers.records import WithRecords, loading, saving
from chassis.saga.steps import Compensation, Handler, Step
from messages.contract import Envelope
from messages.loyalty import LoyaltyPointsBurned
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from shipping import domain
from shipping.courier import Booked, Cancelled, Rejected
from shipping.domain import Shipments
from shipping.tables import load_nothing, load_shipments, save_shipments

UNDELIVERABLE = "UNDELIVERABLE"
"""The postal code to which the courier does not deliver."""

Touched: TypeAlias = WithRecords[Shipments, CourierRecords]
load_new = loading(load_nothing, CourierRecords)
load = loading(load_shipments, CourierRecords)
save = saving(save_shipments, save_courier_records)


def book(event: LoyaltyPointsBurned, touched: Touched, envelope: Envelope) -> ShipmentBooked | ShipmentRejected:
    """Book the shipment, unless the courier does not deliver to its postal code."""
    if event.ship_to.postal_code == UNDELIVERABLE:
        rejected = Rejected(reason="undeliverable_address", detail="The courier does not deliver to this address.")
        return domain.book(event, rejected, touched.rows, envelope)
    tracking_number = f"BRZ{envelope['message_id']}"
    touched.records.booked.append((tracking_number, event.saga_id))
    return domain.book(event, Booked(tracking_number=tracking_number), touched.rows, envelope)


def cancel(command: CancelShipment, undoes: bool, touched: Touched, envelope: Envelope) -> ShipmentCancelled:
    """Cancel the shipment."""
    if not undoes:
        return domain.cancel(command, None, touched.rows, envelope)
    tracking_number = touched.rows.found[command.saga_id].tracking_number or ""
    touched.records.cancelled.append(tracking_number)
    return domain.cancel(command, Cancelled(tracking_number=tracking_number), touched.rows, envelope)


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
