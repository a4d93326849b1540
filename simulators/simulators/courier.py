"""A simulated courier: books shipments and cancels them.

Of an address it keeps the postal code, and a digest that shows where a parcel went to a reader who knows the address.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from simulators.faults import Fault, FaultKind
from simulators.problems import Text
from simulators.records import Record, Records
from simulators.server import SimulatorSettings, load, serve
from simulators.simulator import Answer, Call, Operation, Simulator, Submission

LINES_MAX = 10_000
"""More lines than checkout accepts in any cart."""


Part = Annotated[Text | None, Field(exclude_if=lambda part: part is None)]
"""A part that an address may lack: then it is no part of a request's fingerprint either."""


class Address(BaseModel):
    """The destination."""

    model_config = ConfigDict(extra="forbid")

    name: Text
    street: Text
    street_2: Part = None
    city: Part = None
    region: Part = None
    postal_code: Part = None
    phone: Part = None
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class Line(BaseModel):
    """One line of the parcel's content."""

    model_config = ConfigDict(extra="ignore")

    sku: Text
    quantity: Annotated[int, Field(strict=True, ge=1)]


class Shipment(Submission):
    """A request to ship these lines to an address."""

    model_config = ConfigDict(extra="forbid")

    ship_to: Address
    lines: Annotated[list[Line], Field(min_length=1, max_length=LINES_MAX)]

    @property
    def fault_token(self) -> str:
        return self.ship_to.postal_code or ""


class Nothing(BaseModel):
    """The empty body of an operation whose path contains everything."""

    model_config = ConfigDict(extra="forbid")


def destination(reference: str, to: Address) -> str:
    """Return the SHA-256 of the reference and the address, a line each, in hexadecimal digits."""
    parts = (to.name, to.street, to.street_2, to.city, to.region, to.postal_code, to.country, to.phone)
    return hashlib.sha256("\n".join([reference, *(part or "" for part in parts)]).encode()).hexdigest()


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
}


def main() -> None:
    """Serve the courier."""
    settings = load(SimulatorSettings)
    with Records.open(settings.simulator_records) as records:
        simulator = Simulator("courier", OPERATIONS, MAGIC_POSTAL_CODES, records, settings.simulator_seed)
        serve(simulator.app(), settings)


if __name__ == "__main__":
    main()
