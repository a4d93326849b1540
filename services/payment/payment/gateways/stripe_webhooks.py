"""Stripe's webhooks: their signature, and what an event says. Pure.

An event is of the object as it was; the state that it shows counts, and not the order in which events come.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from chassis.http.signatures import TOLERANCE, BadSignature
from chassis.saga.answers import Proven
from chassis.saga.evidence import Claim
from chassis.values import json_text
from payment.gateways.amounts import STRIPE
from payment.gateways.notices import Kind, Notice, Reported, key_in, payment_id_in
from payment.gateways.stripe_bodies import OURS, authorized, capture_of, read_intent, read_refund, text_of

SIGNATURE: Final = "stripe-signature"
SIGNATURES_MAX: Final = 10
WITHOUT_MONEY = ("warning_needs_response", "warning_under_review", "warning_closed")
"""The states of an inquiry, which moves no money."""
DISPUTES: Mapping[str, Kind] = {"won": Kind.DISPUTE_WON, "lost": Kind.DISPUTE_LOST}


def check(secrets: Sequence[str], header: str, body: bytes, now: datetime) -> None:
    """Raise BadSignature unless one of the secrets signed the body just now; the whole secret is the key."""
    stamp, given = "", []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            stamp = value
        elif name == "v1":
            given.append(value.lower())
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= len("9999999999")):
        raise BadSignature("The signature has no time in whole seconds.")
    if abs(now.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        raise BadSignature("The time of the signature is too far from ours.")
    signed = stamp.encode() + b"." + body
    made = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode() for secret in secrets]
    found = [
        hmac.compare_digest(each, other.encode("utf-8", "replace")) for each in made for other in given[:SIGNATURES_MAX]
    ]
    if not any(found):
        raise BadSignature("No secret of ours made the signature.")


def read(body: bytes, account: str) -> Notice:
    """Return what an event says. Raises ValueError for a body of another form."""
    event = parsed(body)
    found, what = text_of(event, "id"), text_of(event, "type")
    data = event.get("data")
    shown = data.get("object") if isinstance(data, Mapping) else None
    if found is None or what is None or not isinstance(shown, Mapping):
        raise ValueError("the event has no id, no type or no object")
    claim, reported = _said(what, shown, account)
    return Notice(dedupe=found, event=what, claim=claim, reported=reported)


def parsed(body: bytes) -> Mapping[str, Any]:
    """Return the event in a body. Raises ValueError for a body of another form."""
    event = json_text.parse(body)
    json_text.check_texts(event)
    if not isinstance(event, dict):
        raise ValueError("the event is no object")
    return event


def _said(what: str, shown: Mapping[str, Any], account: str) -> tuple[Claim | None, Reported | None]:
    match what:
        case "payment_intent.amount_capturable_updated" | "payment_intent.payment_failed":
            intent = read_intent(shown)
            is_over = intent.status == "canceled"
            return (None if is_over else _claim(authorized(intent, account), intent.key)), None
        case "payment_intent.succeeded":
            intent = read_intent(shown)
            return _claim(capture_of(intent, account), intent.capture_key), None
        case "payment_intent.canceled":
            return None, _expired(shown)
        case "charge.expired":
            return None, _of_charge(shown, Kind.AUTHORIZATION_EXPIRED, "expired")
        case "refund.updated" | "refund.created" | "refund.failed" | "charge.refund.updated":
            return _of_refund(shown, account)
        case "charge.dispute.created" | "charge.dispute.closed":
            return None, _dispute(what, shown)
        case _:
            return None, None


def _claim(proof: object, key: str | None) -> Claim | None:
    if not isinstance(proof, Proven):
        return None
    return Claim(
        outcome=proof.outcome,
        key=key_in(key),
        provider_id=proof.provider_id,
        reference=proof.reference,
        detail=proof.detail,
    )


def _expired(shown: Mapping[str, Any]) -> Reported | None:
    """Return the end of an authorization that we did not cancel ourselves."""
    intent = read_intent(shown)
    if intent.cancellation_reason in OURS:
        return None
    return Reported(
        kind=Kind.AUTHORIZATION_EXPIRED,
        gateway_payment_id=intent.id,
        payment_id=payment_id_in(intent.payment_id),
        gateway_reference=intent.id,
        amount_minor=_minor(intent.amount, intent.currency),
        currency=intent.currency,
        reason=intent.cancellation_reason or "canceled",
    )


def _of_charge(shown: Mapping[str, Any], kind: Kind, reason: str) -> Reported:
    intent, currency = text_of(shown, "payment_intent"), (text_of(shown, "currency") or "").upper()
    if intent is None:
        raise ValueError(f"the charge {shown.get('id')!r} has no payment intent")
    metadata = shown.get("metadata")
    return Reported(
        kind=kind,
        gateway_payment_id=intent,
        payment_id=payment_id_in(metadata.get("payment_id")) if isinstance(metadata, Mapping) else None,
        gateway_reference=intent,
        amount_minor=_minor(shown.get("amount"), currency),
        currency=currency,
        reason=reason,
    )


def _of_refund(shown: Mapping[str, Any], account: str) -> tuple[Claim | None, Reported | None]:
    """Return what a refund says. One that failed is no claim: whether it had succeeded before, its rows say."""
    intent, found = text_of(shown, "payment_intent"), text_of(shown, "id")
    if intent is None or found is None:
        raise ValueError(f"the refund {found!r} is of no payment intent")
    metadata = shown.get("metadata")
    key = key_in(metadata.get("key")) if isinstance(metadata, Mapping) else None
    currency = (text_of(shown, "currency") or "").upper()
    if shown.get("status") in ("failed", "canceled"):
        return None, Reported(
            kind=Kind.REFUND_FAILED,
            gateway_payment_id=intent,
            payment_id=payment_id_in(metadata.get("payment_id")) if isinstance(metadata, Mapping) else None,
            gateway_reference=found,
            amount_minor=_minor(shown.get("amount"), currency),
            currency=currency,
            reason=text_of(shown, "failure_reason") or "unknown",
            attempt_key=key,
        )
    return _claim(read_refund(shown, account, payment=intent), key), None


def _dispute(what: str, shown: Mapping[str, Any]) -> Reported | None:
    status, found = text_of(shown, "status"), text_of(shown, "id")
    if status in WITHOUT_MONEY:
        return None
    kind = Kind.DISPUTED if what == "charge.dispute.created" else DISPUTES.get(status or "")
    intent, currency = text_of(shown, "payment_intent"), (text_of(shown, "currency") or "").upper()
    if kind is None or intent is None or found is None:
        raise ValueError(f"the dispute {found!r} of {intent!r} is {status!r}")
    return Reported(
        kind=kind,
        gateway_payment_id=intent,
        payment_id=None,
        gateway_reference=found,
        amount_minor=_minor(shown.get("amount"), currency),
        currency=currency,
        reason=text_of(shown, "reason") or "unknown",
    )


def _minor(units: object, currency: str) -> int:
    minor = STRIPE.minor_of(units, currency) if isinstance(units, int) and not isinstance(units, bool) else None
    if minor is None or minor <= 0:
        raise ValueError(f"the amount is {units!r} of {currency!r}")
    return minor
