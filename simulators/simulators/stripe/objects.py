"""Stripe's objects as records, as they are shown, and the events that tell of them."""

from __future__ import annotations

from uuid import uuid4

from simulators.face import Refused
from simulators.gateway_records import GatewayRecords
from simulators.hooks import Event, tell
from simulators.records import JsonObject, Record
from simulators.stripe.errors import missing

API_VERSION = "2026-08-26.dahlia"
INTENT, CHARGE, REFUND, DISPUTE = "payment_intent", "charge", "refund", "dispute"
PREFIXES = {INTENT: "pi", CHARGE: "ch", REFUND: "re", DISPUTE: "dp"}


def new(
    records: GatewayRecords, kind: str, account: str, reference: str, state: str, now: float, **fields: object
) -> Record:
    """Add an object with a new id."""
    record = Record(
        kind=kind,
        id=f"{PREFIXES[kind]}_{uuid4().hex[:24]}",
        reference=reference,
        state=state,
        fields={"account": account, "created": int(now), **fields},
    )
    records.add(record)
    return record


def found(records: GatewayRecords, kind: str, object_id: str, account: str) -> Record:
    """Return an object of an account. Raises Refused."""
    record = records.find(kind, object_id)
    if record is None or record.fields["account"] != account:
        raise Refused(missing(kind, object_id))
    return record


def by_id(records: GatewayRecords, kind: str, object_id: str) -> Record:
    """Return an object that another one names."""
    record = records.find(kind, object_id)
    assert record is not None, f"{object_id} was written with the object that names it"
    return record


def shown(record: Record, records: GatewayRecords | None = None, expand: tuple[str, ...] = ()) -> JsonObject:
    """Return an object as Stripe shows it."""
    fields = record.fields
    common: JsonObject = {
        "id": record.id, "object": record.kind, "created": fields["created"], "livemode": fields["livemode"],
        "amount": fields["amount"], "currency": str(fields["currency"]).lower(), "metadata": fields.get("metadata", {}),
    }  # fmt: skip
    match record.kind:
        case "payment_intent":
            return common | _intent(record, records, expand)
        case "charge":
            return common | _charge(record)
        case "refund":
            more = {"status": record.state, "reason": fields.get("reason"), "charge": fields["charge"]}
            failure = {} if "failure_reason" not in fields else {"failure_reason": fields["failure_reason"]}
            return common | more | failure | {"payment_intent": fields["payment_intent"]}
        case _:
            more = {"status": record.state, "reason": fields["reason"], "charge": fields["charge"]}
            return common | more | {"payment_intent": fields["payment_intent"], "is_charge_refundable": False}


def _intent(record: Record, records: GatewayRecords | None, expand: tuple[str, ...]) -> JsonObject:
    fields = record.fields
    charge: object = fields.get("latest_charge")
    if "latest_charge" in expand and isinstance(charge, str) and records is not None:
        charge = shown(by_id(records, CHARGE, charge))
    return {
        "status": record.state,
        "amount_capturable": fields.get("amount_capturable", 0),
        "amount_received": fields.get("amount_received", 0),
        "canceled_at": fields.get("canceled_at"),
        "cancellation_reason": fields.get("cancellation_reason"),
        "capture_method": fields["capture_method"],
        "client_secret": f"{record.id}_secret_{record.id[-12:]}",
        "confirmation_method": "automatic",
        "description": fields.get("description"),
        "last_payment_error": fields.get("last_payment_error"),
        "latest_charge": charge,
        "next_action": fields.get("next_action"),
        "payment_method": fields.get("payment_method"),
        "payment_method_types": ["card"],
    }


def _charge(record: Record) -> JsonObject:
    fields = record.fields
    before = fields.get("capture_before")
    card = {"brand": "visa", "last4": "4242"} | ({} if before is None else {"capture_before": before})
    return {
        "status": "failed" if record.state == "failed" else "succeeded",
        "amount_captured": fields.get("amount_captured", 0),
        "amount_refunded": fields.get("amount_refunded", 0),
        "captured": fields.get("captured", False),
        "disputed": fields.get("disputed", False),
        "failure_code": fields.get("failure_code"),
        "paid": record.state != "failed",
        "payment_intent": fields["payment_intent"],
        "payment_method": fields.get("payment_method"),
        "payment_method_details": {"type": "card", "card": card},
        "refunded": fields.get("amount_refunded", 0) == fields.get("amount_captured", 0) != 0,
    }


def event(records: GatewayRecords, name: str, record: Record, *, now: float, seed: int) -> None:
    """Tell the account of an object as it is now."""
    account = str(record.fields["account"])
    body: JsonObject = {
        "id": f"evt_{uuid4().hex[:24]}", "object": "event", "api_version": API_VERSION, "created": int(now),
        "data": {"object": shown(record)}, "livemode": record.fields["livemode"], "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None}, "type": name,
    }  # fmt: skip
    told = Event(account=account, name=name, reference=record.reference, object_id=record.id, body=body)
    tell(records, told, now=now, seed=seed)
