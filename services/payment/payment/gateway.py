"""The port to a card gateway: what payment asks for, and what it can be told. Pure; adapters fit it to a gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Hold an amount on a payment method. ``reference`` is the saga id; the gateway's records are reconciled by it."""

    amount_minor: int
    currency: str
    token: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Settle an authorization."""

    authorization_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Charge the customer nothing: void the authorization, or refund its capture where there is one."""

    authorization_id: str
    capture_id: str | None
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorized:
    """The gateway holds the amount."""

    authorization_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The gateway refused to hold the amount. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The gateway settled the amount."""

    capture_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFailed:
    """The gateway refused to settle. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """The gateway holds nothing any more."""

    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """The gateway paid back."""

    refund_id: str
    amount_minor: int


class PaymentGateway(Protocol):
    """What payment needs of a gateway.

    Every call bears an idempotency key: the same key has one effect and one outcome, however often it is called. The
    ``find_…`` tell what became of a key: its outcome, or None where the gateway has never seen it. All of them raise
    ``chassis.http.downstream.Unavailable`` without an answer, and ``UnforeseenAnswer`` for one without a meaning.
    """

    def authorize(self, request: Authorization, key: str) -> Authorized | Declined: ...

    def capture(self, request: Capture, key: str) -> Captured | CaptureFailed: ...

    def undo(self, request: Undo, key: str) -> Voided | Refunded: ...

    def find_authorization(self, key: str) -> Authorized | Declined | None: ...

    def find_capture(self, key: str) -> Captured | CaptureFailed | None: ...

    def find_undo(self, key: str) -> Voided | Refunded | None: ...
