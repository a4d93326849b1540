"""The port to the gateways of merchants' payments: requests, and what proves their outcome. Pure.

No gateway can be queried for what became of an idempotency key. So an attempt is known by the gateway's own id, is sent
again under its key while the gateway keeps that, and is fenced by a cancel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from chassis.saga.answers import Accepted, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from chassis.values.json_text import compact

REASON_LENGTH_MAX = 200
"""A gateway's code or sentence is cut to this length before it is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorize:
    """Authorize an amount of a payment, in ISO's minor units.

    ``token`` is the payment method, ``payer`` a keyed hash of who pays.
    """

    account: str
    payment_id: int
    amount_minor: int
    currency: str
    token: str
    payer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Capture this amount of an authorization; the gateway releases the rest of it."""

    account: str
    payment_id: int
    gateway_payment_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """Cancel an authorization of this amount. Without a ``gateway_payment_id`` only our own reference is known."""

    account: str
    payment_id: int
    gateway_payment_id: str | None
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """Refund this amount of a capture."""

    account: str
    payment_id: int
    refund_id: int
    gateway_payment_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureLater:
    """Capture nothing now: the merchant requests it later. No gateway is called."""

    gateway: str
    gateway_payment_id: str
    currency: str


Requested: TypeAlias = Authorize | Capture | Void | Refund


class Gateway(Protocol):
    """What a gateway's adapter does for one account.

    ``query`` and ``cancel`` take the request and the gateway's own id of the attempt, once it is known. ``cancel`` is
    of an authorization; ``Accepted`` means that its outcome comes by webhook. Nothing without an answer is a refusal:
    all raise ``chassis.http.downstream.Unavailable`` then, and ``UnforeseenAnswer`` for an unexpected one.
    """

    def send(self, request: Requested, key: str) -> SendAnswer: ...

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer: ...

    def cancel(self, request: Requested, key: str, provider_id: str | None) -> Accepted | Proven: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a success says: the amount, in ISO's minor units, and the payment at the gateway."""

    gateway: str
    gateway_payment_id: str
    amount_minor: int
    currency: str

    @property
    def detail(self) -> str:
        """The same text for the same success, through whichever door it comes."""
        return compact(
            {
                "amount_minor": self.amount_minor,
                "currency": self.currency,
                "gateway": self.gateway,
                "payment": self.gateway_payment_id,
            }
        )

    @classmethod
    def of(cls, detail: str | None) -> Taken | None:
        """Return what a ``detail`` says; None where it says nothing of a success."""
        read = _read(detail)
        amount_minor, currency = read.get("amount_minor"), read.get("currency")
        gateway, payment = read.get("gateway"), read.get("payment")
        if not isinstance(amount_minor, int) or not isinstance(currency, str):
            return None
        if not isinstance(gateway, str) or not isinstance(payment, str):
            return None
        return cls(gateway=gateway, gateway_payment_id=payment, amount_minor=amount_minor, currency=currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What a refusal says. ``reason`` is a code, ``text`` one sentence."""

    gateway: str
    reason: str
    text: str = ""

    @property
    def detail(self) -> str:
        """The refusal as compact JSON."""
        reason, text = self.reason[:REASON_LENGTH_MAX], self.text[:REASON_LENGTH_MAX]
        return compact({"gateway": self.gateway, "reason": reason, "text": text})

    @classmethod
    def of(cls, detail: str | None) -> Refused:
        """Return what a ``detail`` says of a refusal; one that says nothing is of an unknown reason."""
        read = _read(detail)
        gateway, reason, text = (read.get(name) for name in ("gateway", "reason", "text"))
        return cls(
            gateway=gateway if isinstance(gateway, str) else "",
            reason=reason if isinstance(reason, str) and reason else "unknown",
            text=text if isinstance(text, str) else "",
        )

    def proven(self, outcome: Outcome = Outcome.REFUSED, *, provider_id: str | None = None) -> Proven:
        """Return it as proof."""
        return Proven(outcome=outcome, provider_id=provider_id, detail=self.detail)


def succeeded(taken: Taken, *, provider_id: str, reference: str, note: str | None = None) -> Proven:
    """Return the proof of a success. ``reference`` is the gateway's id of it, for people."""
    return Proven(
        outcome=Outcome.SUCCEEDED, provider_id=provider_id, reference=reference, detail=taken.detail, note=note
    )


def provider_id(account: str, kind: str, gateway_id: str) -> str:
    """Return the id by which an attempt is known here. A gateway uses one id for an authorization and its capture."""
    return f"{account}:{kind}:{gateway_id}"


def gateway_id(provider_id: str | None) -> str | None:
    """Return the gateway's own id of an attempt."""
    return None if provider_id is None else provider_id.rpartition(":")[2]


def _read(detail: str | None) -> Mapping[str, object]:
    read = json.loads(detail) if detail else {}
    return read if isinstance(read, dict) else {}
