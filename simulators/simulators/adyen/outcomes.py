"""What a payment comes out as: chosen by the holder's name, by an acquirer's code, or by the stored method's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A ``resultCode`` and why."""

    code: str
    reason: str = ""
    reason_code: str = ""

    @property
    def is_authorised(self) -> bool:
        """Whether money is held."""
        return self.code in ("Authorised", "PartiallyAuthorised")


AUTHORISED = Result(code="Authorised")
NOT_ENOUGH = Result(code="Refused", reason="Not enough balance", reason_code="12")
REFUSED = Result(code="Refused", reason="Refused", reason_code="2")
EXPIRED = Result(code="Refused", reason="Expired Card", reason_code="6")
BLOCKED = Result(code="Refused", reason="Blocked Card", reason_code="5")
BY_NAME: Mapping[str, Result] = {
    "APPROVED": AUTHORISED,
    "DECLINED": REFUSED,
    "REFERRAL": Result(code="Refused", reason="Referral", reason_code="3"),
    "ERROR": Result(code="Error", reason="Acquirer Error", reason_code="4"),
    "BLOCK_CARD": BLOCKED,
    "CARD_EXPIRED": EXPIRED,
    "INVALID_AMOUNT": Result(code="Refused", reason="Invalid Amount", reason_code="7"),
    "INVALID_CARD": Result(code="Refused", reason="Invalid Card Number", reason_code="8"),
    "NOT_SUPPORTED": Result(code="Refused", reason="Not supported", reason_code="10"),
    "NOT_ENOUGH_BALANCE": NOT_ENOUGH,
    "FRAUD": Result(code="Refused", reason="FRAUD", reason_code="20"),
    "CVC_DECLINED": Result(code="Refused", reason="CVC Declined", reason_code="24"),
    "PARTIAL": Result(code="PartiallyAuthorised"),
    "PENDING": Result(code="Received"),
    "PENDING_DECLINED": Result(code="Received", reason="Refused", reason_code="2"),
}
"""The last three are not Adyen's own names: less than requested, and outcomes that only a webhook has."""
BY_CODE = {"1": "APPROVED", "2": "DECLINED", "3": "REFERRAL", "4": "ERROR", "5": "BLOCK_CARD", "6": "CARD_EXPIRED"}
NEEDS_SHOPPER = Result(code="RedirectShopper")
OF_STRIPE = {
    "chargeDeclinedExpiredCard": EXPIRED,
    "chargeDeclinedInsufficientFunds": NOT_ENOUGH,
    "chargeDeclinedStolenCard": BLOCKED,
    "authenticationRequired": NEEDS_SHOPPER,
    "threeDSecure2Required": NEEDS_SHOPPER,
    "chargeDeclined": REFUSED,
    "chargeCustomerFail": REFUSED,
}
"""So that one test of both gateways has the same declines at both."""


def token_of(params: Mapping[str, Any]) -> str:
    """Return what chooses the outcome of a payment, and what faults can match."""
    method, additional = params.get("paymentMethod"), params.get("additionalData")
    holder = method.get("holderName") if isinstance(method, dict) else None
    stored = method.get("storedPaymentMethodId") if isinstance(method, dict) else None
    code = additional.get("RequestedTestAcquirerResponseCode") if isinstance(additional, dict) else None
    return str(BY_CODE.get(str(code)) or holder or stored or "")


def result_of(token: str) -> Result:
    """Return what a payment with a token comes out as."""
    if (named := BY_NAME.get(token.partition(":")[0].strip().upper())) is not None:
        return named
    return next((result for part, result in OF_STRIPE.items() if part in token), AUTHORISED)
