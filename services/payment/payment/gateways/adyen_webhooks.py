"""Adyen's webhooks: the signature of each item, and what it says. Pure.

Only what is signed may be believed for money: not the reason and not the time of the event.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from chassis.http.signatures import BadSignature
from chassis.saga.attempts import Outcome
from chassis.saga.evidence import Claim
from chassis.values import json_text
from payment.gateways.adyen_bodies import GATEWAY, refused, taken_of
from payment.gateways.notices import Kind, Notice, Reported, key_in, payment_reference_in
from payment.gateways.port import Refused, provider_id

ITEMS_MAX: Final = 50
SIGNED = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")
REPORTS: Mapping[str, Kind] = {
    "CAPTURE_FAILED": Kind.CAPTURE_FAILED,
    "REFUND_FAILED": Kind.REFUND_FAILED,
    "REFUNDED_REVERSED": Kind.REFUND_FAILED,
    "EXPIRE": Kind.AUTHORIZATION_EXPIRED,
    "CHARGEBACK": Kind.DISPUTED,
    "SECOND_CHARGEBACK": Kind.DISPUTED,
    "CHARGEBACK_REVERSED": Kind.DISPUTE_WON,
    "PREARBITRATION_WON": Kind.DISPUTE_WON,
    "PREARBITRATION_LOST": Kind.DISPUTE_LOST,
}
MODIFICATIONS: Mapping[str, str] = {"CAPTURE": "capture", "REFUND": "refund", "CANCELLATION": "void"}
CANCELS = ("CANCELLATION", "TECHNICAL_CANCEL")
AUTHORIZING: Final = re.compile(r"[^:]+:authorize_gateway(:[0-9]+)?")
"""The key of an attempt to authorize, under which it is cancelled as well."""


def items(body: bytes) -> Sequence[Mapping[str, Any]]:
    """Return the items of a body. Raises ValueError for a body of another form."""
    notification = json_text.parse(body)
    json_text.check_texts(notification)
    found = notification.get("notificationItems") if isinstance(notification, dict) else None
    if not isinstance(found, list) or not 1 <= len(found) <= ITEMS_MAX:
        raise ValueError(f"the body has no list of 1 to {ITEMS_MAX} notificationItems")
    read = [each.get("NotificationRequestItem") if isinstance(each, Mapping) else None for each in found]
    if not all(isinstance(each, Mapping) for each in read):
        raise ValueError("an item has no NotificationRequestItem")
    return [each for each in read if isinstance(each, Mapping)]


def check(secrets: Sequence[str], found: Sequence[Mapping[str, Any]]) -> None:
    """Raise BadSignature unless one of the secrets, in hexadecimal digits, signed each of the items."""
    try:
        keys = [bytes.fromhex(each) for each in secrets]
    except ValueError as error:
        raise ValueError("A secret of Adyen's webhooks is not in hexadecimal digits; check its file.") from error
    for item in found:
        additional = item.get("additionalData")
        given = additional.get("hmacSignature") if isinstance(additional, Mapping) else None
        if not isinstance(given, str):
            raise BadSignature("An item has no signature.")
        text = signed_text(item).encode()
        made = [base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()) for key in keys]
        found_equal = [hmac.compare_digest(each, given.encode("utf-8", "replace")) for each in made]
        if not any(found_equal):
            raise BadSignature("No secret of ours made the signature of an item.")


def signed_text(item: Mapping[str, Any]) -> str:
    """Return what the signature of an item is made of. Nothing in it is escaped."""
    amount = item.get("amount")
    found: Mapping[str, Any] = amount if isinstance(amount, Mapping) else {}
    texts = [*(item.get(name) for name in SIGNED), found.get("value"), found.get("currency")]
    texts += [item.get("eventCode"), item.get("success")]
    return ":".join("" if each is None else str(each) for each in texts)


def read(item: Mapping[str, Any], account: str, merchant_account: str) -> Notice:
    """Return what an item says, as far as that needs no row of ours. Raises ValueError for one of another form.

    The claim of an authorization has no key yet: an item names it by the number of its payment.
    """
    psp, event, success = item.get("pspReference"), item.get("eventCode"), item.get("success")
    if not isinstance(psp, str) or not isinstance(event, str) or success not in ("true", "false"):
        raise ValueError(f"the pspReference is {psp!r}, the eventCode {event!r}, success {success!r}")
    if item.get("merchantAccountCode") != merchant_account:
        raise ValueError(f"the merchantAccountCode is {item.get('merchantAccountCode')!r}, not {merchant_account}")
    # A capture can succeed, fail, and succeed again under one pspReference: each has a time of its own.
    dedupe = ":".join((psp, event, success, str(item.get("eventDate", ""))))
    if event in REPORTS:
        reported = _reported(item, REPORTS[event], psp) if success == "true" else None
        return Notice(dedupe=dedupe, event=event, reported=reported)
    return Notice(dedupe=dedupe, event=event, claim=_claim(item, event, psp, account, is_done=success == "true"))


def payment_of(item: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the payment, and the number of the attempt at it, that an item names as the merchant's reference."""
    return payment_reference_in(item.get("merchantReference"))


def _claim(item: Mapping[str, Any], event: str, psp: str, account: str, *, is_done: bool) -> Claim | None:
    key, original = key_in(item.get("merchantReference")), item.get("originalReference")
    refusal = refused("Refused", None, item.get("reason"))
    if event == "AUTHORISATION":
        detail = taken_of(item.get("amount"), psp).detail if is_done else refusal.detail
        outcome = Outcome.SUCCEEDED if is_done else Outcome.REFUSED
        known = provider_id(account, "payment", psp)
        return Claim(outcome=outcome, key=key, provider_id=known, reference=psp, detail=detail)
    if event in CANCELS and (event == "TECHNICAL_CANCEL" or AUTHORIZING.fullmatch(key or "")):
        # The cancel of an authorization before its outcome was known: it is about that attempt.
        outcome = Outcome.VOIDED if is_done else Outcome.CANCEL_REFUSED
        return Claim(outcome=outcome, key=key, detail=Refused(gateway=GATEWAY, reason="canceled").detail)
    if event not in MODIFICATIONS:
        return None
    known = provider_id(account, MODIFICATIONS[event], psp)
    detail = taken_of(item.get("amount"), str(original or "")).detail if is_done else refusal.detail
    outcome = Outcome.SUCCEEDED if is_done else Outcome.REFUSED
    return Claim(outcome=outcome, key=key, provider_id=known, reference=psp, detail=detail)


def _reported(item: Mapping[str, Any], kind: Kind, psp: str) -> Reported:
    taken = taken_of(item.get("amount"), psp)
    if taken.amount_minor <= 0:
        raise ValueError(f"the amount is {item.get('amount')!r}")
    original, reason, payment = item.get("originalReference"), item.get("reason"), payment_of(item)
    return Reported(
        kind=kind,
        gateway_payment_id=original if isinstance(original, str) and original else None,
        payment_id=None if payment is None else payment[0],
        gateway_reference=psp,
        amount_minor=taken.amount_minor,
        currency=taken.currency,
        reason=reason if isinstance(reason, str) and reason else "unknown",
        attempt_key=key_in(item.get("merchantReference")),
    )
