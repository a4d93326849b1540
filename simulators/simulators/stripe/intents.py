"""PaymentIntents: created, confirmed, captured in whole or in part, cancelled. Each runs inside a transaction."""

from __future__ import annotations

from simulators.face import Call, Refused, Reply
from simulators.faults import Fault
from simulators.records import JsonObject, Record
from simulators.stripe import ledger, params
from simulators.stripe.cards import CREATES_DISPUTE, DECLINES, NEEDS_SHOPPER, Decline
from simulators.stripe.errors import error, invalid
from simulators.stripe.objects import CHARGE, INTENT, by_id, event, found, new, shown

HELD_S = 7 * 86_400.0
"""How long an authorization can be captured; then Stripe cancels it."""
CREATE = (
    "amount", "currency", "capture_method", "confirm", "payment_method", "payment_method_types", "metadata",
    "description", "error_on_requires_action", "expand", "confirmation_method", "off_session", "return_url",
    "statement_descriptor_suffix", "automatic_payment_methods", "customer",
)  # fmt: skip
CONFIRM = ("payment_method", "error_on_requires_action", "expand", "off_session", "return_url", "capture_method")
REASONS = ("duplicate", "fraudulent", "requested_by_customer", "abandoned")
CANCELLABLE = ("requires_payment_method", "requires_confirmation", "requires_action", "requires_capture")
DISPUTED_AFTER_S = 1.0


def subject(call: Call) -> tuple[str, str]:
    """Return what faults can match: the caller's payment and its payment method."""
    record = call.records.find(INTENT, call.target_id)
    if record is not None:
        return record.reference, record.text("payment_method")
    attached = call.params.get("metadata", {})
    reference = attached.get("payment_id", "") if isinstance(attached, dict) else ""
    return str(reference), str(call.params.get("payment_method", ""))


def create(call: Call) -> Reply:
    """Create an intent, and confirm it at once where that is requested."""
    given = call.params
    params.check_names(given, CREATE)
    units = params.whole(given, "amount")
    if units is None:
        params.required(given, "amount")
    currency = params.required(given, "currency")
    if not (len(currency) == 3 and currency.isalpha() and currency.islower()):
        raise Refused(invalid(f"Invalid currency: {currency}.", param="currency"))
    params.check_amount(units or 0, currency.upper())
    attached = params.metadata(given)
    method = given.get("payment_method")
    intent = new(
        call.records, INTENT, call.account.name, attached.get("payment_id", ""),
        "requires_payment_method" if method is None else "requires_confirmation", call.now,
        livemode=call.account.is_live, amount=units, currency=currency.upper(), metadata=attached,
        capture_method=params.choice(given, "capture_method", ("automatic", "automatic_async", "manual"), "automatic"),
        payment_method=method, description=given.get("description"),
    )  # fmt: skip
    if params.is_set(given, "confirm"):
        return _confirmed(call, intent)
    return Reply(status=200, body=shown(intent, call.records, params.expansions(given)))


def confirm(call: Call) -> Reply:
    """Authorize an intent, and capture it where that is automatic."""
    params.check_names(call.params, CONFIRM)
    intent = found(call.records, INTENT, call.target_id, call.account.name)
    if intent.state not in ("requires_payment_method", "requires_confirmation", "requires_action"):
        raise _unexpected(intent, "confirm")
    if (method := call.params.get("payment_method")) is not None:
        intent = intent.become(intent.state, payment_method=method)
    if intent.fields.get("payment_method") is None:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise Refused(invalid(message, code="payment_intent_unexpected_state"), is_stored=True)
    return _confirmed(call, intent)


def _confirmed(call: Call, intent: Record) -> Reply:
    method = intent.text("payment_method")
    declined = DECLINES.get(method) if call.fault is None else _decline_of(call.fault)
    if method in NEEDS_SHOPPER and declined is None:
        if not params.is_set(call.params, "error_on_requires_action"):
            acting = intent.become("requires_action", next_action={"type": "use_stripe_sdk"})
            call.records.update(acting)
            return Reply(status=200, body=shown(acting))
        declined = Decline(code="authentication_required", message="This payment requires the shopper.")
    if declined is not None:
        return _declined(call, intent, declined)
    charge = new(
        call.records, CHARGE, call.account.name, intent.reference, "succeeded", call.now, **_shared(intent),
        payment_intent=intent.id, payment_method=method, capture_before=int(call.now + HELD_S),
    )  # fmt: skip
    authorized = intent.become(
        "requires_capture", latest_charge=charge.id, amount_capturable=intent.amount("amount"), last_payment_error=None
    )
    call.records.update(authorized)
    _tell(call, "charge.succeeded", charge)
    if intent.text("capture_method") == "manual":
        call.records.schedule("expire", intent.id, call.now + HELD_S)
        _tell(call, "payment_intent.amount_capturable_updated", authorized)
        ledger.maybe(call, "authorization_expired", authorized)
    else:
        authorized = _captured(call, authorized, intent.amount("amount"))
    return Reply(status=200, body=shown(authorized, call.records, params.expansions(call.params)))


def _shared(intent: Record) -> JsonObject:
    return {name: intent.fields[name] for name in ("livemode", "amount", "currency", "metadata")}


def _decline_of(fault: Fault) -> Decline:
    return Decline(code="card_declined", decline_code=fault.code or "generic_decline")


def _declined(call: Call, intent: Record, declined: Decline) -> Reply:
    said: JsonObject = {"code": declined.code, "message": declined.message, "type": "card_error"}
    said |= {} if declined.decline_code is None else {"decline_code": declined.decline_code}
    charge = new(
        call.records, CHARGE, call.account.name, intent.reference, "failed", call.now, **_shared(intent),
        payment_intent=intent.id, payment_method=intent.text("payment_method"), failure_code=declined.code,
    )  # fmt: skip
    refused = intent.become(
        "requires_payment_method", last_payment_error={**said, "charge": charge.id}, latest_charge=charge.id,
        payment_method=None,
    )  # fmt: skip
    call.records.update(refused)
    _tell(call, "charge.failed", charge)
    _tell(call, "payment_intent.payment_failed", refused)
    more = {} if declined.decline_code is None else {"decline_code": declined.decline_code}
    return error(
        402, "card_error", declined.message, code=declined.code, charge=charge.id,
        payment_intent=shown(refused), **more,
    )  # fmt: skip


def capture(call: Call) -> Reply:
    """Capture an authorized intent; less than the whole releases the rest."""
    params.check_names(call.params, ("amount_to_capture", "final_capture", "metadata", "expand"))
    asked, attached = params.whole(call.params, "amount_to_capture"), params.metadata(call.params)
    intent = found(call.records, INTENT, call.target_id, call.account.name)
    if intent.state != "requires_capture":
        raise _unexpected(intent, "capture")
    if call.fault is not None:
        refused = error(402, "card_error", "The capture was declined.", code=call.fault.code or "card_declined")
        raise Refused(refused, is_stored=True)
    capturable = intent.amount("amount_capturable")
    units = capturable if asked is None else asked
    if units > capturable:
        message = f"The amount to capture, {units}, is greater than the amount that is authorized, {capturable}."
        raise Refused(invalid(message, param="amount_to_capture", code="amount_too_large"), is_stored=True)
    known = intent.fields.get("metadata", {})
    assert isinstance(known, dict), "it was written by create"
    intent = intent.become(intent.state, metadata={**known, **attached})
    captured = _captured(call, intent, units)
    return Reply(status=200, body=shown(captured, call.records, params.expansions(call.params)))


def _captured(call: Call, intent: Record, units: int) -> Record:
    charge = by_id(call.records, CHARGE, intent.text("latest_charge"))
    charge = charge.become("succeeded", captured=True, amount_captured=units, metadata=intent.fields["metadata"])
    captured = intent.become("succeeded", amount_received=units, amount_capturable=0)
    call.records.update(charge)
    call.records.update(captured)
    ledger.charge(call, captured, charge)
    _tell(call, "charge.captured", charge)
    _tell(call, "payment_intent.succeeded", captured)
    if intent.text("payment_method") == CREATES_DISPUTE:
        call.records.schedule("dispute", intent.id, call.now + DISPUTED_AFTER_S)
    ledger.maybe(call, "dispute", captured)
    ledger.maybe(call, "capture_failed", captured)
    return captured


def cancel(call: Call) -> Reply:
    """Cancel an intent that is not captured; what was held is free again."""
    params.check_names(call.params, ("cancellation_reason", "expand"))
    reason = None
    if "cancellation_reason" in call.params:
        reason = params.choice(call.params, "cancellation_reason", REASONS, "")
    intent = found(call.records, INTENT, call.target_id, call.account.name)
    if intent.state not in CANCELLABLE:
        raise _unexpected(intent, "cancel")
    canceled = intent.become("canceled", amount_capturable=0, cancellation_reason=reason, canceled_at=int(call.now))
    call.records.update(canceled)
    _tell(call, "payment_intent.canceled", canceled)
    return Reply(status=200, body=shown(canceled, call.records, params.expansions(call.params)))


def retrieve(call: Call) -> Reply:
    """Return an intent."""
    intent = found(call.records, INTENT, call.target_id, call.account.name)
    return Reply(status=200, body=shown(intent, call.records, params.expansions(call.params)))


def _unexpected(intent: Record, verb: str) -> Refused:
    message = f"You cannot {verb} this PaymentIntent because it has a status of {intent.state}."
    said = invalid(message, code="payment_intent_unexpected_state", payment_intent=shown(intent))
    return Refused(said, is_stored=True)


def _tell(call: Call, name: str, record: Record) -> None:
    event(call.records, name, record, now=call.now, seed=call.seed)
