"""A simulated card gateway: authorizations, captures, voids and refunds. It never sees a card number.

Amounts are integers of minor units. An authorization is captured once, in whole or in part, or voided; a capture is
refunded in one or more parts.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from simulators.faults import Fault, FaultKind
from simulators.problems import Text
from simulators.records import Record, Records
from simulators.server import SimulatorSettings, load, serve
from simulators.simulator import Answer, Call, Operation, Simulator, Submission

AMOUNT_MINOR_MAX = 10**12
"""Ten billion of the major unit; a larger amount is a mistake."""

Amount = Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MINOR_MAX)]


class Authorization(Submission):
    """A request to reserve an amount on a payment method. Zero verifies the card, as card networks allow."""

    model_config = ConfigDict(extra="forbid")

    amount_minor: Amount
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    token: Text

    @property
    def fault_token(self) -> str:
        return self.token


class PartialAmount(BaseModel):
    """An amount; without one, the whole remaining amount."""

    model_config = ConfigDict(extra="forbid")

    amount_minor: Amount | None = None


class Nothing(BaseModel):
    """The empty body of an operation whose path contains everything."""

    model_config = ConfigDict(extra="forbid")


def authorize(records: Records, call: Call[Authorization]) -> Answer:
    body = call.body
    authorization = Record(
        kind="authorization",
        id=call.new_id("auth"),
        reference=body.reference,
        state="open",
        fields={
            "amount_minor": body.amount_minor,
            "currency": body.currency,
            "token": body.token,
            "captured_minor": 0,
            "refunded_minor": 0,
        },
    )
    records.add(authorization)
    return Answer(
        status=201,
        body={
            "id": authorization.id,
            "status": "authorized",
            "amount_minor": body.amount_minor,
            "currency": body.currency,
            "reference": body.reference,
        },
    )


def capture(records: Records, call: Call[PartialAmount]) -> Answer:
    authorization = call.target
    if authorization is None:
        return _missing("authorization", call.target_id)
    if authorization.state != "open":
        return _wrong_state(authorization, "capture")
    authorized_minor = authorization.amount("amount_minor")
    amount_minor = authorized_minor if call.body.amount_minor is None else call.body.amount_minor
    if amount_minor > authorized_minor:
        detail = _of_minor_units(authorization, f"holds {authorized_minor}; {amount_minor} cannot be captured")
        return Answer.refused(422, "capture_exceeds_authorization", detail)
    captured = Record(
        kind="capture",
        id=call.new_id("cap"),
        reference=authorization.reference,
        state="captured",
        fields={
            "authorization_id": authorization.id,
            "amount_minor": amount_minor,
            "refunded_minor": 0,
            "currency": authorization.text("currency"),
            "token": authorization.text("token"),
        },
    )
    records.add(captured)
    records.update(authorization.become("captured", captured_minor=amount_minor, capture_id=captured.id))
    return Answer(
        status=201,
        body={
            "capture_id": captured.id,
            "status": "captured",
            "authorization_id": authorization.id,
            "amount_minor": amount_minor,
            "currency": authorization.text("currency"),
        },
    )


def void(records: Records, call: Call[Nothing]) -> Answer:
    authorization = call.target
    if authorization is None:
        return _missing("authorization", call.target_id)
    if authorization.state != "open":
        return _wrong_state(authorization, "void")
    records.update(authorization.become("voided"))
    body = {"id": authorization.id, "status": "voided", "amount_minor": authorization.amount("amount_minor")}
    return Answer(status=201, body=body)


def refund(records: Records, call: Call[PartialAmount]) -> Answer:
    captured = call.target
    if captured is None:
        return _missing("capture", call.target_id)
    refundable_minor = captured.amount("amount_minor") - captured.amount("refunded_minor")
    amount_minor = refundable_minor if call.body.amount_minor is None else call.body.amount_minor
    if captured.state == "refunded":
        return _wrong_state(captured, "refund")
    if amount_minor > refundable_minor:
        detail = _of_minor_units(captured, f"has {refundable_minor} left; {amount_minor} cannot be refunded")
        return Answer.refused(422, "refund_exceeds_capture", detail)
    authorization = records.find("authorization", captured.text("authorization_id"))
    assert authorization is not None, f"{captured.id} has no authorization"
    refunded = Record(
        kind="refund",
        id=call.new_id("ref"),
        reference=captured.reference,
        state="refunded",
        fields={
            "capture_id": captured.id,
            "authorization_id": authorization.id,
            "amount_minor": amount_minor,
            "currency": captured.text("currency"),
        },
    )
    state = "refunded" if amount_minor == refundable_minor else "captured"
    total_minor = captured.amount("refunded_minor") + amount_minor
    records.add(refunded)
    records.update(captured.become(state, refunded_minor=total_minor))
    records.update(authorization.become(state, refunded_minor=total_minor))
    body = {"refund_id": refunded.id, "status": "refunded", "capture_id": captured.id, "amount_minor": amount_minor}
    return Answer(status=201, body=body)


def _of_minor_units(record: Record, text: str) -> str:
    return f"{record.id} {text} (minor units of {record.text('currency')})."


def _missing(kind: str, record_id: str) -> Answer:
    return Answer.refused(404, f"{kind}_not_found", f"There is no {kind} {record_id!r}.")


def _wrong_state(record: Record, operation: str) -> Answer:
    detail = f"{record.kind} {record.id} is {record.state}; {operation} is not possible any more."
    return Answer.refused(409, f"{record.kind}_{record.state}", detail)


DECLINED = (402, "card_declined", "The card issuer declined.")

OPERATIONS: tuple[Operation[Any], ...] = (
    Operation(name="authorize", path="/v1/authorizations", body=Authorization, apply=authorize, refusal=DECLINED),
    Operation(
        name="capture",
        path="/v1/authorizations/{id}/capture",
        body=PartialAmount,
        apply=capture,
        refusal=DECLINED,
        target_kind="authorization",
    ),
    Operation(
        name="void",
        path="/v1/authorizations/{id}/void",
        body=Nothing,
        apply=void,
        refusal=(402, "void_refused", "The card issuer would not release the amount."),
        target_kind="authorization",
    ),
    Operation(
        name="refund",
        path="/v1/captures/{id}/refund",
        body=PartialAmount,
        apply=refund,
        refusal=(402, "refund_refused", "The card issuer would not take the amount back."),
        target_kind="capture",
    ),
)

MAGIC_TOKENS = {
    "tok_declined": Fault(operation="authorize", kind=FaultKind.DECLINE),
    "tok_insufficient_funds": Fault(operation="authorize", kind=FaultKind.DECLINE, code="insufficient_funds"),
    "tok_expired_card": Fault(operation="authorize", kind=FaultKind.DECLINE, code="expired_card"),
    "tok_stolen_card": Fault(operation="authorize", kind=FaultKind.DECLINE, code="stolen_card"),
    "tok_capture_declined": Fault(operation="capture", kind=FaultKind.DECLINE),
    "tok_gateway_error": Fault(operation="authorize", kind=FaultKind.ERROR),
    "tok_answer_lost": Fault(operation="authorize", kind=FaultKind.ANSWER_LOST),
    "tok_hang": Fault(operation="authorize", kind=FaultKind.HANG),
}


def main() -> None:
    """Serve the gateway."""
    settings = load(SimulatorSettings)
    with Records.open(settings.simulator_records) as records:
        simulator = Simulator("gateway", OPERATIONS, MAGIC_TOKENS, records, settings.simulator_seed)
        serve(simulator.app(), settings)


if __name__ == "__main__":
    main()
