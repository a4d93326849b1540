"""What Stripe's objects say, in its answers and in its webhooks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

from chassis.http.downstream import Response
from chassis.saga.answers import Accepted, Proven
from chassis.saga.attempts import Outcome
from payment.gateways.amounts import STRIPE
from payment.gateways.port import Authorize, Refund, Refused, Taken, provider_id, succeeded

GATEWAY: Final = "stripe"
VERSION: Final = "2026-08-26.dahlia"
"""The version of its API that this is written for; it is pinned with each request."""
EXPIRED = frozenset({"automatic", "expired"})
"""Why Stripe itself cancelled an intent: it was not captured in time."""
OURS = frozenset({"abandoned", "requested_by_customer"})
"""Why we cancel an intent. A cancel for another reason was made elsewhere."""
UNSTATED = -1
AMOUNTS = ("amount", "amount_capturable", "amount_received")


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeError:
    """The error of an answer. ``code`` of a decline is the issuer's, where Stripe gives it."""

    type: str
    code: str
    text: str

    @property
    def refusal(self) -> Refused:
        """The refusal as merchants get it."""
        return Refused(gateway=GATEWAY, reason=self.code or self.type, text=self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A PaymentIntent. Amounts are in Stripe's units."""

    id: str
    status: str
    amount: int
    received: int
    currency: str
    payment_id: str | None
    key: str | None
    capture_key: str | None
    cancellation_reason: str | None
    refusal: StripeError | None
    expires_at: datetime | None
    charge: str | None

    def taken(self, units: int) -> Taken:
        """Return a success of this amount."""
        minor = STRIPE.minor_of(units, self.currency)
        return Taken(
            gateway=GATEWAY,
            gateway_payment_id=self.id,
            amount_minor=UNSTATED if minor is None else minor,
            currency=self.currency,
        )

    def mismatch(self, units: int, request: Authorize) -> str | None:
        """Return what it says where that is not what was requested, else None."""
        wanted = (units, request.currency, str(request.payment_id))
        if (self.amount, self.currency, self.payment_id) == wanted:
            return None
        return self.taken(self.amount).detail


def intent_of(response: Response) -> Intent:
    """Return the intent of an answer. Raises UnforeseenAnswer for a body of another form."""
    try:
        return read_intent(response.body)
    except ValueError as error:
        raise response.unforeseen(str(error)) from error


def read_intent(body: Mapping[str, Any]) -> Intent:
    """Return an intent. Raises ValueError for a body of another form."""
    found, status, currency = body.get("id"), body.get("status"), body.get("currency")
    texts = isinstance(found, str) and isinstance(status, str) and isinstance(currency, str)
    if not texts or body.get("object") != "payment_intent":
        raise ValueError(f"no payment intent: its id is {found!r}, its status {status!r}, its currency {currency!r}")
    amount, received = body.get("amount"), body.get("amount_received", 0)
    if not _is_amount(amount) or not _is_amount(received):
        raise ValueError(f"the amounts of an intent are {amount!r} and {received!r}")
    metadata = body.get("metadata") or {}
    error = body.get("last_payment_error")
    charge = body.get("latest_charge")
    return Intent(
        id=str(found),
        status=str(status),
        amount=amount,
        received=received,
        currency=str(currency).upper(),
        payment_id=text_of(metadata, "payment_id"),
        key=text_of(metadata, "key"),
        capture_key=text_of(metadata, "capture_key"),
        cancellation_reason=text_of(body, "cancellation_reason"),
        refusal=_error(error) if isinstance(error, Mapping) else None,
        expires_at=_capture_before(charge),
        charge=text_of(charge, "id") if isinstance(charge, Mapping) else charge if isinstance(charge, str) else None,
    )


def error_of(response: Response) -> StripeError | None:
    """Return the error of an answer, None for a success. Raises UnforeseenAnswer for another body."""
    if response.status < 300:
        return None
    error = response.body.get("error")
    if not isinstance(error, Mapping):
        raise response.unforeseen("neither an object nor an error")
    return _error(error)


def authorized(intent: Intent, account: str) -> Proven | None:
    """Return what an intent's state proves of its authorization; None where that is open."""
    known = provider_id(account, "payment", intent.id)
    match intent.status:
        case "requires_capture" | "succeeded":
            note = None if intent.expires_at is None else intent.expires_at.isoformat()
            return succeeded(intent.taken(intent.amount), provider_id=known, reference=intent.id, note=note)
        case "requires_payment_method":
            error = intent.refusal or StripeError(type="card_error", code="card_declined", text="")
            return error.refusal.proven(provider_id=known)
        case "canceled":
            refused = Refused(gateway=GATEWAY, reason=intent.cancellation_reason or "canceled")
            return Proven(outcome=Outcome.VOIDED, provider_id=known, reference=intent.id, detail=refused.detail)
        case _:
            return None


def capture_of(intent: Intent, account: str) -> Proven | None:
    """Return what an intent's state proves of its capture: captured already is a success, of whatever amount it was."""
    if intent.status == "succeeded":
        known = provider_id(account, "capture", intent.id)
        return succeeded(intent.taken(intent.received), provider_id=known, reference=intent.charge or intent.id)
    if intent.status == "canceled":
        is_expired = intent.cancellation_reason in EXPIRED
        reason = "authorization_expired" if is_expired else "authorization_canceled"
        return Refused(gateway=GATEWAY, reason=reason, text="The authorization has ended without a capture.").proven()
    return None


def void_of(intent: Intent, account: str) -> Proven | None:
    """Return what an intent's state proves of its cancel: cancelled already is a success."""
    if intent.status == "canceled":
        known = provider_id(account, "void", intent.id)
        return succeeded(intent.taken(intent.amount), provider_id=known, reference=intent.id)
    if intent.status == "succeeded":
        return Refused(gateway=GATEWAY, reason="already_captured", text="The payment is captured already.").proven()
    return None


def refund_answer(response: Response, body: Mapping[str, Any], request: Refund, account: str) -> Accepted | Proven:
    """Return what a refund says. Raises UnforeseenAnswer for a body of another form."""
    try:
        return read_refund(body, account, payment=request.gateway_payment_id)
    except ValueError as error:
        raise response.unforeseen(str(error)) from error


def read_refund(body: Mapping[str, Any], account: str, *, payment: str) -> Accepted | Proven:
    """Return what a refund of this payment says. Raises ValueError for a body of another form."""
    found, status, amount = text_of(body, "id"), body.get("status"), body.get("amount")
    currency = (text_of(body, "currency") or "").upper()
    if found is None or not _is_amount(amount) or (text_of(body, "payment_intent") or payment) != payment:
        raise ValueError(f"no refund of {payment}: its id is {found!r}, its amount {amount!r}")
    known = provider_id(account, "refund", found)
    if status in ("pending", "requires_action"):
        return Accepted(provider_id=known, reference=found)
    if status in ("failed", "canceled"):
        reason = text_of(body, "failure_reason") or f"refund_{status}"
        return Refused(gateway=GATEWAY, reason=reason).proven(provider_id=known)
    if status != "succeeded":
        raise ValueError(f"the status of refund {found} is {status!r}")
    minor = STRIPE.minor_of(amount, currency)
    taken = Taken(
        gateway=GATEWAY,
        gateway_payment_id=payment,
        amount_minor=UNSTATED if minor is None else minor,
        currency=currency,
    )
    return succeeded(taken, provider_id=known, reference=found)


def text_of(body: Mapping[str, Any], name: str) -> str | None:
    """Return a text of an object, None where it has none."""
    value = body.get(name)
    return value if isinstance(value, str) else None


def _error(error: Mapping[str, Any]) -> StripeError:
    code = text_of(error, "decline_code") or text_of(error, "code") or ""
    if code == "generic_decline":
        code = text_of(error, "code") or code
    return StripeError(type=text_of(error, "type") or "", code=code, text=text_of(error, "message") or "")


def _capture_before(charge: object) -> datetime | None:
    """Return when the authorization ends, where the charge is expanded and says so."""
    found: object = charge
    for name in ("payment_method_details", "card", "capture_before"):
        found = found.get(name) if isinstance(found, Mapping) else None
    is_time = isinstance(found, int) and not isinstance(found, bool)
    return datetime.fromtimestamp(float(str(found)), UTC) if is_time else None


def _is_amount(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
