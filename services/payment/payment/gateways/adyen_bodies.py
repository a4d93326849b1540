"""What Adyen's answers to payments say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chassis.http.downstream import Response
from chassis.saga.answers import Accepted, Proven
from chassis.saga.attempts import Outcome
from payment.gateways.amounts import ADYEN
from payment.gateways.port import Authorize, Refused, Taken, provider_id, succeeded

GATEWAY: Final = "adyen"
UNSTATED = -1
AUTHORISED, PARTIAL = "Authorised", "PartiallyAuthorised"
OPEN_CODES = frozenset({"Received", "Pending"})
REFUSALS = frozenset({"Refused", "Cancelled", "Error"})
SHOPPER = frozenset({"RedirectShopper", "IdentifyShopper", "ChallengeShopper", "PresentToShopper"})
"""The shopper must act, whom a server cannot ask. Nothing is authorized without that."""


def payment_said(
    response: Response, request: Authorize, value: int, account: str, own: object
) -> Accepted | Proven | None:
    """Return what a payment's answer proves; None where less than was requested is authorized, to be given back.

    Raises UnforeseenAnswer for an answer without a meaning here. ``own`` is the reference that we gave it.
    """
    code = response.body.get("resultCode")
    psp = response.body.get("pspReference")
    known = provider_id(account, "payment", psp) if isinstance(psp, str) and psp else None
    if code in REFUSALS:
        reason = response.body.get("refusalReasonCode")
        text = response.body.get("refusalReason")
        return refused(str(code), reason, text).proven(provider_id=known)
    if code in SHOPPER:
        text = "The payment needs the shopper, whom a server cannot ask."
        return Refused(gateway=GATEWAY, reason="authentication_required", text=text).proven(provider_id=known)
    if known is None or code not in {AUTHORISED, PARTIAL, *OPEN_CODES}:
        raise response.unforeseen(f"the resultCode is {code!r}")
    if code == PARTIAL:
        return None
    if code in OPEN_CODES:
        return Accepted(provider_id=known, reference=str(psp))
    amount, reference = response.body.get("amount"), response.body.get("merchantReference")
    requested = {"currency": request.currency, "value": value}
    taken = taken_of(requested if amount is None else amount, str(psp))
    answer = succeeded(taken, provider_id=known, reference=str(psp))
    if reference not in (None, own):
        return Proven(outcome=Outcome.MISMATCHED, provider_id=known, reference=str(psp), detail=taken.detail)
    return answer


def refused(code: str, reason: object, text: object) -> Refused:
    """Return a refusal as merchants get it. ``Error`` is a failure of the acquirer."""
    named = text if isinstance(text, str) and text else code
    slug = "_".join(named.lower().split())
    number = f" ({reason})" if isinstance(reason, str) and reason else ""
    return Refused(gateway=GATEWAY, reason=slug, text=f"{named}{number}")


def taken_of(amount: object, psp: str) -> Taken:
    """Return a success of an amount as Adyen writes it; one that cannot be read is none that was requested."""
    found: Mapping[str, Any] = amount if isinstance(amount, Mapping) else {}
    currency, value = found.get("currency"), found.get("value")
    is_amount = isinstance(currency, str) and isinstance(value, int) and not isinstance(value, bool)
    minor = ADYEN.minor_of(int(str(value)), str(currency)) if is_amount else None
    return Taken(
        gateway=GATEWAY,
        gateway_payment_id=psp,
        amount_minor=UNSTATED if minor is None else minor,
        currency=str(currency) if is_amount else "",
    )
