"""Payments, which are answered at once, and modifications, which are only ever received. Each inside a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulators.adyen import ledger
from simulators.adyen.dialect import error, new_psp
from simulators.adyen.notifications import notify
from simulators.adyen.outcomes import Result, result_of, token_of
from simulators.face import Call, Refused, Reply
from simulators.records import JsonObject, Record

PAYMENT = "payment"
HELD_S = 28 * 86_400.0
"""How long an authorization can be captured; then an ``EXPIRE`` is sent."""
REFERENCE_MAX, METADATA_MAX, METADATA_NAME_MAX, METADATA_VALUE_MAX = 80, 20, 20, 80
REASONS = ("FRAUD", "CUSTOMER REQUEST", "RETURN", "DUPLICATE", "OTHER")
SCHEDULED = {"capture": "captured", "refund": "refunded", "cancel": "canceled", "reversal": "reversed"}


def subject(call: Call) -> tuple[str, str]:
    """Return what faults can match: the payment's reference, and what its outcome was chosen by."""
    payment = call.records.find(PAYMENT, call.target_id)
    if payment is not None:
        return payment.reference, payment.text("token")
    return str(call.params.get("reference", call.params.get("paymentReference", ""))), token_of(call.params)


def subject_by_reference(call: Call) -> tuple[str, str]:
    """Return what faults can match in a cancel by the caller's reference."""
    reference = str(call.params.get("paymentReference", ""))
    found = call.records.of_reference(PAYMENT, reference)
    return reference, found[-1].text("token") if found else ""


def pay(call: Call) -> Reply:
    """Authorize a payment. A refusal is answered with 200, too."""
    params = call.params
    _check_account(call)
    value, currency = amount_of(params)
    reference = _text(params, "reference", REFERENCE_MAX)
    _text(params, "returnUrl", 8_000)
    if not isinstance(params.get("paymentMethod"), dict):
        raise Refused(error(422, "14_006", "Required object 'paymentMethod' is not provided."))
    _check_metadata(params.get("metadata", {}))
    token = token_of(params)
    result = result_of(token)
    if call.fault is not None:
        result = Result(code="Refused", reason=call.fault.code or "Refused", reason_code="2")
    held = value // 2 if result.code == "PartiallyAuthorised" else value
    additional = params.get("additionalData", {})
    is_manual = isinstance(additional, dict) and additional.get("manualCapture") == "true"
    payment = Record(
        kind=PAYMENT, id=new_psp(), reference=reference,
        state="authorised" if result.is_authorised else "received" if result.code == "Received" else "refused",
        fields={
            "account": call.account.name, "value": held, "currency": currency, "token": token, "captured": 0,
            "refunded": 0, "is_manual": is_manual, "created": call.now,
        },
    )  # fmt: skip
    call.records.add(payment)
    _after(call, payment, result, is_manual=is_manual)
    return _answer(payment, result, held)


def _after(call: Call, payment: Record, result: Result, *, is_manual: bool) -> None:
    """Let webhooks and what follows happen."""
    if result.code == "RedirectShopper":
        return
    if result.code == "Received":
        delay = {"reason": result.reason} if result.reason else {}
        call.records.schedule("authorised", payment.id, call.now, **delay)
        return
    notify(
        call.records, call.account, "AUTHORISATION", payment, psp=payment.id, original=None, now=call.now,
        seed=call.seed, is_success=result.is_authorised, reason=result.reason,
    )  # fmt: skip
    if not result.is_authorised:
        return
    call.records.schedule("expire", payment.id, call.now + HELD_S)
    ledger.maybe(call, "authorization_expired", payment)
    if not is_manual:
        capture = _modification(call, payment, "capture", payment.amount("value"))
        call.records.schedule("captured", capture.id, call.now)


def _answer(payment: Record, result: Result, held: int) -> Reply:
    body: JsonObject = {
        "pspReference": payment.id, "resultCode": result.code, "merchantReference": payment.reference,
        "amount": {"currency": payment.text("currency"), "value": held},
    }  # fmt: skip
    if result.reason and result.code != "Received":
        body |= {"refusalReason": result.reason, "refusalReasonCode": result.reason_code}
    if result.code == "RedirectShopper":
        body |= {
            "action": {"type": "redirect", "paymentMethodType": "scheme", "method": "GET", "url": "https://localhost"}
        }
    return Reply(status=200, body=body)


def capture(call: Call) -> Reply:
    """Receive a capture of the whole or of a part, which releases the rest."""
    payment, (value, currency) = _payment(call), amount_of(call.params)
    modification = _modification(call, payment, "capture", value, currency)
    return _received(call, payment, modification, amount={"currency": currency, "value": value})


def refund(call: Call) -> Reply:
    """Receive a refund."""
    payment, (value, currency) = _payment(call), amount_of(call.params)
    reason = call.params.get("merchantRefundReason")
    if reason is not None and reason not in REASONS:
        raise Refused(error(422, "702", f"merchantRefundReason is none of {', '.join(REASONS)}."))
    modification = _modification(call, payment, "refund", value, currency)
    return _received(call, payment, modification, amount={"currency": currency, "value": value})


def cancel(call: Call) -> Reply:
    """Receive the cancel of an authorization."""
    payment = _payment(call)
    return _received(call, payment, _modification(call, payment, "cancel", payment.amount("value")))


def reverse(call: Call) -> Reply:
    """Receive a cancel, or a refund of the whole where it is captured."""
    payment = _payment(call)
    return _received(call, payment, _modification(call, payment, "reversal", payment.amount("value")))


def cancel_by_reference(call: Call) -> Reply:
    """Receive the cancel of an authorization whose pspReference the caller never got."""
    _check_account(call)
    reference = _text(call.params, "paymentReference", REFERENCE_MAX)
    found = [
        each for each in call.records.of_reference(PAYMENT, reference) if each.fields["account"] == call.account.name
    ]
    absent = Record(
        kind=PAYMENT, id="", reference=reference, state="absent",
        fields={"currency": call.account.settlement_currency, "value": 0, "account": call.account.name},
    )  # fmt: skip
    payment = next((each for each in reversed(found) if each.state == "authorised"), found[-1] if found else absent)
    modification = _modification(call, payment, "technical_cancel", payment.amount("value"))
    call.records.schedule("canceled", modification.id, call.now)
    body: JsonObject = {
        "merchantAccount": call.params["merchantAccount"], "paymentReference": reference,
        "pspReference": modification.id, "reference": modification.text("own_reference"), "status": "received",
    }  # fmt: skip
    return Reply(status=201, body=body)


def _received(call: Call, payment: Record, modification: Record, **more: object) -> Reply:
    call.records.schedule(SCHEDULED[modification.kind], modification.id, call.now)
    body: JsonObject = {
        "merchantAccount": call.params["merchantAccount"], "paymentPspReference": payment.id,
        "pspReference": modification.id, "reference": modification.text("own_reference"), "status": "received", **more,
    }  # fmt: skip
    return Reply(status=201, body=body)


def _modification(call: Call, payment: Record, kind: str, value: int, currency: str | None = None) -> Record:
    modification = Record(
        kind=kind, id=new_psp(), reference=payment.reference, state="received",
        fields={
            "account": call.account.name, "payment": payment.id, "value": value,
            "currency": currency or payment.text("currency"), "own_reference": str(call.params.get("reference", "")),
            "refusal": "" if call.fault is None else call.fault.code or "Refused by the acquirer",
        },
    )  # fmt: skip
    call.records.add(modification)
    return modification


def _payment(call: Call) -> Record:
    _check_account(call)
    payment = call.records.find(PAYMENT, call.target_id)
    if payment is None or payment.fields["account"] != call.account.name:
        raise Refused(error(422, "167", "Original pspReference required for this operation"))
    return payment


def _check_account(call: Call) -> None:
    given = call.params.get("merchantAccount")
    if given != call.account.merchant_account:
        raise Refused(error(403, "901", "Invalid Merchant Account", "security"))


def amount_of(params: Mapping[str, Any]) -> tuple[int, str]:
    """Return the value and the currency of a request. Raises Refused."""
    amount = params.get("amount")
    if not isinstance(amount, dict):
        raise Refused(error(422, "100", "Required object 'amount' is not provided."))
    value, currency = amount.get("value"), amount.get("currency")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise Refused(error(422, "137", "Invalid amount specified"))
    if not (isinstance(currency, str) and len(currency) == 3 and currency.isalpha() and currency.isupper()):
        raise Refused(error(422, "138", "Unsupported currency specified"))
    return value, currency


def _text(params: Mapping[str, Any], name: str, length_max: int) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= length_max:
        raise Refused(error(422, "702", f"Required field '{name}' must have 1 to {length_max} characters."))
    return value


def _check_metadata(found: object) -> None:
    is_valid = isinstance(found, dict) and len(found) <= METADATA_MAX
    if is_valid and isinstance(found, dict):
        is_valid = all(
            len(name) <= METADATA_NAME_MAX and isinstance(value, str) and len(value) <= METADATA_VALUE_MAX
            for name, value in found.items()
        )
    if not is_valid:
        raise Refused(error(422, "177", "Metadata size exceeds limit"))
