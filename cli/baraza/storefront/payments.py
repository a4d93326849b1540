"""What payers and merchants do: one payment each, and what the merchant requests of it afterwards. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

DECLINING: Final = "pm_card_visa_chargeDeclined"
GATEWAYS: Final = {"USD": "stripe", "EUR": "adyen"}
"""The currencies of the merchants, and where their payments go."""


class Then(enum.StrEnum):
    """What a merchant does after a payment."""

    NOTHING = "nothing"
    CAPTURE = "capture"
    CAPTURE_PART = "capture_part"
    VOID = "void"
    REFUND = "refund"
    REFUND_PARTS = "refund_parts"
    REFUND_TWICE = "refund_twice"
    """Two refunds that are more than was captured, of which one is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One payment to request. ``is_fraud`` is the label of what was injected; nothing that decides sees it."""

    number: int
    merchant_id: str
    currency: str
    amount_minor: int
    token: str
    then: Then
    is_fraud: bool = False

    @property
    def captures_later(self) -> bool:
        """Whether the merchant captures or voids it by a request of its own."""
        return self.then in (Then.CAPTURE, Then.CAPTURE_PART, Then.VOID)

    def body(self, reference: str) -> dict[str, Any]:
        """Return the body of its request."""
        return {
            "amount_minor": self.amount_minor,
            "currency": self.currency,
            "payment_method": {"type": "card", "token": self.token},
            "capture": "later" if self.captures_later else "now",
            "reference": reference,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a merchant requests of a payment: its name, the route, the body and the key."""

    name: str
    route: str
    body: dict[str, int]
    key: str


def acts(planned: Planned, status: str, key: str) -> Iterator[Act]:
    """Yield what the merchant requests of a payment in this status; ``key`` begins the keys of its requests."""
    amount_minor = planned.amount_minor
    match status, planned.then:
        case "AUTHORIZED", Then.CAPTURE:
            yield Act(name="capture", route="capture", body={}, key=f"{key}-capture")
        case "AUTHORIZED", Then.CAPTURE_PART:
            body = {"amount_minor": amount_minor // 2}
            yield Act(name="capture in part", route="capture", body=body, key=f"{key}-capture")
        case "AUTHORIZED", Then.VOID:
            yield Act(name="void", route="cancel", body={}, key=f"{key}-void")
        case "CAPTURED", Then.REFUND:
            yield Act(name="refund", route="refunds", body={}, key=f"{key}-refund")
        case "CAPTURED", Then.REFUND_PARTS:
            yield _refund_of(amount_minor // 2, f"{key}-refund-1")
            yield _refund_of(amount_minor // 4, f"{key}-refund-2")
        case "CAPTURED", Then.REFUND_TWICE:
            yield _refund_of(amount_minor - amount_minor // 4, f"{key}-refund-1")
            yield _refund_of(amount_minor - amount_minor // 4, f"{key}-refund-2")


def _refund_of(amount_minor: int, key: str) -> Act:
    return Act(name="refund in part", route="refunds", body={"amount_minor": amount_minor}, key=key)
