"""Shipping's steps with the courier inside of the process: its records commit with the effects that they belong to.

Nothing is called, so no step needs ``STARTED``.
"""

from __future__ import annotations

from typing import TypeAlias

from bench_providers.courier.tables import CourierRecords, save_courier_records
from bench_providers.records import WithRecords, loading, saving
from chassis.saga.answers import NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from chassis.saga.steps import Compensation, Handler, Step
from messages.contract import Envelope
from messages.shipping import CancelShipment, ShipmentCancelled
from shipping import domain
from shipping.collecting import collecting
from shipping.courier import Booked, Cancelled, Pickup, Rejected
from shipping.domain import BookShipment, Shipments
from shipping.parcels import ParcelEnd, Piece, Report
from shipping.sagas import order
from shipping.tables import load_nothing, load_shipments, save_shipments

UNDELIVERABLE = "UNDELIVERABLE"
"""The postal code to which the courier does not deliver."""

Touched: TypeAlias = WithRecords[Shipments, CourierRecords]
load_new = loading(load_nothing, CourierRecords)
load = loading(load_shipments, CourierRecords)
save = saving(save_shipments, save_courier_records)


def book(request: BookShipment, touched: Touched, envelope: Envelope) -> Booked | Rejected:
    """Book the shipment, unless the courier does not deliver to its postal code."""
    outcome: Booked | Rejected
    if request.ship_to.postal_code == UNDELIVERABLE:
        outcome = Rejected(reason="undeliverable_address", detail="The courier does not deliver to this address.")
    else:
        outcome = Booked(tracking_number=f"BRZ{envelope['message_id']}")
        touched.records.booked.append((outcome.tracking_number, request.reference))
    domain.book(request, outcome, touched.rows)
    return outcome


def cancel(command: CancelShipment, undoes: bool, touched: Touched, envelope: Envelope) -> ShipmentCancelled:
    """Cancel the shipment."""
    if not undoes:
        return domain.cancel(command, None, touched.rows, envelope)
    tracking_number = touched.rows.found[command.saga_id, command.step].tracking_number or ""
    touched.records.cancelled.append(tracking_number)
    return domain.cancel(command, Cancelled(tracking_number=tracking_number), touched.rows, envelope)


class Pickups:
    """Parcels that are here as soon as they are requested. Nothing is kept of them: no benchmark returns an order."""

    def collect(self, request: Pickup, key: str) -> SendAnswer:
        pieces = tuple(Piece(sku=line.sku, quantity=line.quantity) for line in request.lines)
        detail = Report(end=ParcelEnd.ARRIVED, pieces=pieces).detail
        return Proven(outcome=Outcome.SUCCEEDED, reference=key, detail=detail)

    def find_collection(self, key: str, provider_id: str | None) -> QueryAnswer:
        return NotFound()

    def call_off(self, key: str, provider_id: str | None) -> Proven:
        return Proven(outcome=Outcome.VOIDED, detail=Report(end=ParcelEnd.CALLED_OFF).detail)


HANDLERS: tuple[Handler, ...] = (
    Step(
        name="book_shipment",
        triggers=(order.BOOKING,),
        load=load_new,
        decide=book,
        save=save,
        compensation=Compensation(
            on=CancelShipment,
            undoes=("book_shipment",),
            load=load,
            decide=cancel,
            save=save,
            replies=(ShipmentCancelled,),
        ),
    ),
    collecting(Pickups()),
)
