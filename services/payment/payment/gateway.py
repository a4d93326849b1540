"""The port to a card gateway: payment's requests and the gateway's outcomes. Pure; an adapter implements it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Authorize an amount on a payment method. ``reference`` is the saga id, which reconciles the gateway's records."""

    amount_minor: int
    currency: str
    token: str
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Capture an authorization."""

    authorization_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Undo the charge: void the authorization, or refund its capture if there is one."""

    authorization_id: str
    capture_id: str | None
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialRefund:
    """Refund a part of a capture, which may have others."""

    capture_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorized:
    """The gateway authorized the amount."""

    authorization_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """The gateway declined the authorization. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The gateway captured the amount."""

    capture_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureDeclined:
    """The gateway declined the capture. ``reason`` is a code, ``detail`` one sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """The gateway voided the authorization."""

    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """The gateway refunded the capture, or the part of it that it was sent."""

    refund_id: str
    amount_minor: int


class PaymentGateway(Protocol):
    """The operations that payment needs of a gateway.

    Every call has an idempotency key: one key has one effect and one outcome, however often it is called. The
    ``find_…`` methods return the outcome of a key, or None when the gateway has never seen it. All methods raise
    ``chassis.http.downstream.Unavailable`` without a response, and ``UnforeseenAnswer`` for an unexpected one.
    """

    def authorize(self, request: Authorization, key: str) -> Authorized | Declined: ...

    def capture(self, request: Capture, key: str) -> Captured | CaptureDeclined: ...

    def undo(self, request: Undo, key: str) -> Voided | Refunded: ...

    def refund(self, request: PartialRefund, key: str) -> Refunded: ...

    def find_authorization(self, key: str) -> Authorized | Declined | None: ...

    def find_capture(self, key: str) -> Captured | CaptureDeclined | None: ...

    def find_undo(self, key: str) -> Voided | Refunded | None: ...

    def find_refund(self, key: str) -> Refunded | None: ...
