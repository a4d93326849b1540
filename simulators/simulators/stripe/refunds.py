"""Refunds: several of one charge, never more than was captured. Each runs inside a transaction."""

from __future__ import annotations

from simulators.face import Call, Refused, Reply
from simulators.records import Record
from simulators.stripe import ledger, params
from simulators.stripe.cards import FAILING_REFUND, PENDING_REFUND
from simulators.stripe.errors import invalid
from simulators.stripe.objects import CHARGE, INTENT, REFUND, by_id, event, found, new, shown

CREATE = ("payment_intent", "charge", "amount", "reason", "metadata", "expand", "currency")
REASONS = ("duplicate", "fraudulent", "requested_by_customer")
LATER_S = 1.0
LISTED_MAX = 100


def subject(call: Call) -> tuple[str, str]:
    """Return what faults can match: the payment's reference and its payment method."""
    refund = call.records.find(REFUND, call.target_id)
    intent_id = str(call.params.get("payment_intent", "") if refund is None else refund.fields["payment_intent"])
    intent = call.records.find(INTENT, intent_id)
    return ("", "") if intent is None else (intent.reference, intent.text("payment_method"))


def create(call: Call) -> Reply:
    """Refund a charge, the rest of it without an amount."""
    given = call.params
    params.check_names(given, CREATE)
    asked, attached = params.whole(given, "amount"), params.metadata(given)
    reason = params.choice(given, "reason", REASONS, "") if "reason" in given else None
    charge = _charge(call)
    intent = by_id(call.records, INTENT, charge.text("payment_intent"))
    rest = charge.amount("amount_captured") - int(str(charge.fields.get("amount_refunded", 0)))
    units = rest if asked is None else asked
    _check(charge, units, rest)
    status = "pending" if intent.text("payment_method") == PENDING_REFUND else "succeeded"
    if call.fault is not None:
        status = "failed"
    refund = new(
        call.records, REFUND, call.account.name, intent.reference, status, call.now, livemode=call.account.is_live,
        amount=units, currency=charge.text("currency"), metadata=attached, charge=charge.id,
        payment_intent=intent.id, reason=reason,
        **({} if call.fault is None else {"failure_reason": call.fault.code or "declined"}),
    )  # fmt: skip
    if status == "failed":
        _tell(call, "refund.failed", refund)
        return Reply(status=200, body=shown(refund))
    charge = charge.become("succeeded", amount_refunded=charge.amount("amount_captured") - rest + units)
    call.records.update(charge)
    ledger.refund(call.records, call.account, intent, refund, call.now)
    _tell(call, "refund.created", refund)
    _tell(call, "charge.refunded", charge)
    if status == "pending":
        call.records.schedule("refund_succeeded", refund.id, call.now + LATER_S)
    if intent.text("payment_method") == FAILING_REFUND:
        call.records.schedule("refund_failed", refund.id, call.now + LATER_S)
    ledger.maybe(call, "refund_failed", refund)
    return Reply(status=200, body=shown(refund))


def _charge(call: Call) -> Record:
    if (charge_id := call.params.get("charge")) is not None:
        return found(call.records, CHARGE, str(charge_id), call.account.name)
    intent = found(call.records, INTENT, params.required(call.params, "payment_intent"), call.account.name)
    if intent.state != "succeeded":
        message = f"This PaymentIntent ({intent.id}) does not have a successful charge to refund."
        raise Refused(invalid(message, code="payment_intent_unexpected_state"), is_stored=True)
    return by_id(call.records, CHARGE, intent.text("latest_charge"))


def _check(charge: Record, units: int, rest: int) -> None:
    if charge.fields.get("disputed"):
        raise Refused(invalid(f"Charge {charge.id} has been charged back.", code="charge_disputed"), is_stored=True)
    if rest == 0:
        message = f"Charge {charge.id} has already been refunded."
        raise Refused(invalid(message, code="charge_already_refunded"), is_stored=True)
    if units > rest:
        message = f"Refund amount ({units}) is greater than unrefunded amount on charge ({rest})."
        raise Refused(invalid(message, param="amount"), is_stored=True)


def retrieve(call: Call) -> Reply:
    """Return a refund."""
    return Reply(status=200, body=shown(found(call.records, REFUND, call.target_id, call.account.name)))


def listed(call: Call) -> Reply:
    """Return the refunds of an intent or a charge, the newest first."""
    by = "charge" if "charge" in call.params else "payment_intent"
    wanted = params.required(call.params, by)
    parent = found(call.records, CHARGE if by == "charge" else INTENT, wanted, call.account.name)
    refunds = [each for each in call.records.of_reference(REFUND, parent.reference) if each.fields[by] == wanted]
    data = [shown(each) for each in reversed(refunds)]
    limit = params.whole(call.params, "limit") or 10
    page = data[: min(limit, LISTED_MAX)]
    return Reply(
        status=200, body={"object": "list", "url": "/v1/refunds", "has_more": len(page) < len(data), "data": page}
    )


def _tell(call: Call, name: str, record: Record) -> None:
    event(call.records, name, record, now=call.now, seed=call.seed)
