"""A courier inside of the process, for benchmarks: its records are rows that commit with the effects they belong to.

Nothing is called, so no step of it needs ``STARTED``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from messages.contract import Envelope
from messages.loyalty import LoyaltyPointsBurned
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from messaging.steps import Compensation, Handler, Step
from sqlalchemy import Connection

from shipping import domain
from shipping.courier import Booked, Cancelled, Rejected
from shipping.domain import Shipments
from shipping.tables import CourierRecords, load_nothing, load_shipments, save_courier_records, save_shipments

URL = "in-process:"
"""The courier's address that asks for this one."""
UNDELIVERABLE = "UNDELIVERABLE"
"""The postal code to which it does not deliver."""


@dataclass(slots=True)
class Rows:
    """What a batch touches: our shipments, and what the courier notes of them."""

    shipments: Shipments
    records: CourierRecords


def load_new(events: Sequence[LoyaltyPointsBurned], tx: Connection) -> Rows:
    """A booking begins both."""
    return Rows(shipments=load_nothing(events, tx), records=CourierRecords())


def load(commands: Sequence[CancelShipment], tx: Connection) -> Rows:
    """Lock our shipments; the courier's rows are reached through them alone."""
    return Rows(shipments=load_shipments(commands, tx), records=CourierRecords())


def save(rows: Rows, tx: Connection) -> None:
    """Save both, in one transaction."""
    save_shipments(rows.shipments, tx)
    save_courier_records(rows.records, tx)


def book(event: LoyaltyPointsBurned, rows: Rows, envelope: Envelope) -> ShipmentBooked | ShipmentRejected:
    """Ship, unless the address is the one that nobody finds."""
    if event.ship_to.postal_code == UNDELIVERABLE:
        rejected = Rejected(reason="undeliverable_address", detail="The courier does not deliver to this address.")
        return domain.book(event, rejected, rows.shipments, envelope)
    tracking_number = f"BRZ{envelope['message_id']}"
    rows.records.booked.append((tracking_number, event.saga_id))
    return domain.book(event, Booked(tracking_number=tracking_number), rows.shipments, envelope)


def cancel(command: CancelShipment, undoes: bool, rows: Rows, envelope: Envelope) -> ShipmentCancelled:
    """Do not ship after all."""
    if not undoes:
        return domain.cancel(command, None, rows.shipments, envelope)
    tracking_number = rows.shipments.found[command.saga_id].tracking_number or ""
    rows.records.cancelled.append(tracking_number)
    return domain.cancel(command, Cancelled(tracking_number=tracking_number), rows.shipments, envelope)


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
