"""A simulated courier: books shipments and cancels them, and collects parcels that come back.

Of an address it keeps the postal code, and a digest that shows where a parcel went to a reader who knows the address.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from simulators import parcels, webhooks
from simulators.addresses import Address, Lines, Nothing, destination
from simulators.faults import Fault, FaultKind
from simulators.records import Record, Records
from simulators.server import SimulatorSettings, load, serve
from simulators.simulator import Answer, Call, Operation, Simulator, Submission


class CourierSettings(SimulatorSettings):
    """The courier's settings. Environment: BARAZA_COURIER_DAY_S, BARAZA_COURIER_WEBHOOK_URL and its secrets' file.

    Without a URL no webhook is sent. The file's first line signs; a shop still accepts the secret that it replaced.
    """

    courier_day_s: float = 86_400.0
    courier_webhook_url: str | None = None
    courier_webhook_secret_file: Path | None = None


class Shipment(Submission):
    """A request to ship these lines to an address."""

    model_config = ConfigDict(extra="forbid")

    ship_to: Address
    lines: Lines

    @property
    def fault_token(self) -> str:
        return self.ship_to.postal_code or ""


def book(records: Records, call: Call[Shipment]) -> Answer:
    shipment = Record(
        kind="shipment",
        id=call.new_id("BRZ"),
        reference=call.reference,
        state="live",
        fields={
            "token": call.token,
            "lines": len(call.body.lines),
            "contents": [[line.sku, line.quantity] for line in call.body.lines],
            "destination": destination(call.reference, call.body.ship_to),
        },
    )
    records.add(shipment)
    body = {"tracking_number": shipment.id, "status": "booked", "reference": shipment.reference}
    return Answer(status=201, body=body)


def cancel(records: Records, call: Call[Nothing]) -> Answer:
    shipment = call.target
    if shipment is None:
        return Answer.refused(404, "shipment_not_found", f"There is no shipment {call.target_id!r}.")
    if shipment.state != "live":
        return Answer.refused(409, "shipment_cancelled", f"shipment {shipment.id} is cancelled already.")
    records.update(shipment.become("cancelled"))
    return Answer(status=201, body={"tracking_number": shipment.id, "status": "cancelled"})


OPERATIONS: tuple[Operation[Any], ...] = (
    Operation(
        name="book",
        path="/v1/shipments",
        body=Shipment,
        apply=book,
        refusal=(422, "undeliverable_address", "The courier does not deliver to this address."),
    ),
    Operation(
        name="cancel",
        path="/v1/shipments/{id}/cancel",
        body=Nothing,
        apply=cancel,
        refusal=(422, "already_collected", "The parcel is on its way."),
        target_kind="shipment",
    ),
)

MAGIC_POSTAL_CODES = {
    "UNDELIVERABLE": Fault(operation="book", kind=FaultKind.REJECT),
    "OVERWEIGHT": Fault(operation="book", kind=FaultKind.REJECT, code="overweight"),
    "COURIER-ERROR": Fault(operation="book", kind=FaultKind.ERROR),
    parcels.NOT_COLLECTABLE: Fault(operation="collect", kind=FaultKind.REJECT),
}


def main() -> None:
    """Serve the courier, and carry parcels meanwhile."""
    settings = load(CourierSettings)
    stopping = threading.Event()
    with Records.open(settings.simulator_records) as records:
        threading.Thread(
            target=webhooks.run,
            args=(
                settings.simulator_records,
                settings.courier_webhook_url,
                settings.courier_webhook_secret_file,
            ),
            kwargs={"clock": time.time, "seed": settings.simulator_seed, "stopping": stopping},
            name="parcels",
            daemon=True,
        ).start()
        simulator = Simulator(
            "courier",
            (*OPERATIONS, *parcels.operations(time.time, settings.courier_day_s)),
            MAGIC_POSTAL_CODES,
            records,
            settings.simulator_seed,
            queries=parcels.routes(records),
            also_faulty=(parcels.WEBHOOK,),
        )
        serve(simulator.app(), settings)
    stopping.set()


if __name__ == "__main__":
    main()
